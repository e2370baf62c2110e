"""How much of each label cases hold, as the store says without reading a voxel."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.manifest import CaseRecord
from datamodules.wrong_input import listed, wrong_input


def class_areas(
    records: Iterable[CaseRecord],
    classes: Sequence[Sequence[int]],
    *,
    ignored: int | None,
    padding: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tell how many pixels each class has in each slice.

    Args:
        records: Of the cases, in order.
        classes: For each class the labels that it marks.
        ignored: Label whose pixels count as nothing.
        padding: Whether padding counts as pixels of the slice.

    Returns:
        Pixels of the K classes, shape ``(S, K)``, and of the slices, shape ``(S,)``; ignored
        pixels are in neither.
    """
    areas, pixels = [], []
    for record in records:
        by_label = {value: np.array(found) for value, found in record.areas.items()}
        areas.append(np.stack([sum(by_label[v] for v in values) for values in classes], axis=1))
        shapes = record.grid.slice_shapes.prod(axis=1)
        whole = np.full_like(shapes, math.prod(record.grid.size)) if padding else shapes
        pixels.append(whole - (0 if ignored is None else by_label[ignored]))
    return np.concatenate(areas), np.concatenate(pixels)


def largest_slice(record: CaseRecord, labels: Iterable[int]) -> int:
    """Find the slice with the most pixels of some labels; of equal ones the lowest index."""
    return int(np.argmax(np.sum([record.areas[value] for value in labels], axis=0)))


def foreground_ml(records: Mapping[str, CaseRecord], labels: Collection[int]) -> dict[str, float]:
    """Volume of some labels in each case, in ml.

    Raises:
        InputError: If the affine of a case does not say how large its voxels are.
    """
    lost = [name for name, record in records.items() if math.isnan(record.pixel_ml)]
    if lost:
        raise wrong_input(
            at="--data.stratify",
            found=f"no usable affine in {listed(lost)}",
            expected="one that says how large a voxel is",
            do="mend it, or leave out --data.stratify",
        )
    return {
        name: record.pixel_ml * sum(sum(record.areas[value]) for value in labels)
        for name, record in records.items()
    }
