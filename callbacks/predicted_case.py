"""Writes one predicted case on the voxels of its image, and scores it against its truth."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from datamodules.datamodule import DecathlonDataModule
from datamodules.nifti_file import spacing
from datamodules.original_grid import write_volume
from datamodules.safe_name import safe_name
from datamodules.volumes import read_volume
from lightning_module.volume_scores import VolumeScores, volume_scores

SCORES = tuple(field.name for field in fields(VolumeScores))


def label_values(data: DecathlonDataModule) -> list[int]:
    """The value of each class in a predicted mask: that of its label, or 1 for merged labels.

    Args:
        data: Says which labels each class marks.
    """
    return [marked[0] if len(marked) == 1 else 1 for marked in data.class_labels]


def label_names(data: DecathlonDataModule) -> dict[str, str]:
    """What each value of a predicted mask means, such as ``{"1": "Anterior+Posterior"}``.

    Args:
        data: As above.
    """
    names = dict(data.task.labels)
    return {
        str(value): "+".join(names[one] for one in marked)
        for value, marked in zip(label_values(data), data.class_labels, strict=True)
    }


def write_case(
    folder: Path,
    data: DecathlonDataModule,
    name: str,
    probs: NDArray[np.float32],
    leads: NDArray[np.float32],
    *,
    probabilities: bool,
    tolerance_mm: float,
) -> list[dict[str, Any]]:
    """Write the mask of a case as NIfTI, and score it.

    Args:
        folder: Where the files go: ``<case>.nii.gz`` and ``<case>_probabilities.nii.gz``.
        data: Has the case.
        name: Of the case.
        probs: Of its slices, shape ``(S, K, H, W)``.
        leads: Above 0 where a class is found, same shape. Of classes that overlap the most probable
            one has the voxel.
        probabilities: Whether these are written too.
        tolerance_mm: Of the surface Dice.

    Returns:
        A row for each class: ``case, class`` and :data:`SCORES`, of the mask as it is written.

    Raises:
        OSError: If a file cannot be written.
    """
    (case,) = [case for case in data.task.cases if case.name == name]
    grid = data.store.records[name].grid
    whole = grid.volume(probs).reshape(*grid.shape, -1)
    found = grid.volume(leads).reshape(*grid.shape, -1) > 0
    values = np.array(label_values(data))
    best = np.where(found, whole, -1.0).argmax(axis=-1)
    mask = np.where(found.any(axis=-1), values[best], 0).astype(np.uint8)
    dtype = nibabel.load(case.label).get_data_dtype()  # type: ignore[attr-defined]
    stem = safe_name(name)
    write_volume(
        folder / f"{stem}.nii.gz", mask.astype(dtype), case.image, description="predicted mask"
    )
    if probabilities:
        write_volume(
            folder / f"{stem}_probabilities.nii.gz",
            whole if len(values) > 1 else whole[..., 0],
            case.image,
            description=f"probabilities of {', '.join(data.class_names)}",
        )
    labels = {0, *(value for value, _ in data.task.labels)}
    source = read_volume(case, channels=len(data.task.channels), labels=labels)
    truth = source.label
    known = np.ones(grid.shape, dtype=bool) if data.ignored is None else truth != data.ignored
    return [
        {
            "case": name,
            "class": class_name,
            **asdict(
                volume_scores(
                    (mask == value) & known,
                    np.isin(truth, marked) & known,
                    spacing(source.affine),
                    tolerance_mm=tolerance_mm,
                )
            ),
        }
        for class_name, value, marked in zip(
            data.class_names, values.tolist(), data.class_labels, strict=True
        )
    ]
