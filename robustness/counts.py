"""The table of whole numbers that an evaluation measures, and its file.

Whole numbers add up exactly in any order, so that the table is the same for every batch size and
number of processes; every score and curve is derived from it later.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from robustness.parquet import read_table, write_table

SCHEMA_VERSION = "1"
CLEAN = "clean"
# slices_all is the denominator that turns change_q20 into a mean; slices that of slice_dice_q20.
FIELDS = (
    "tp",
    "fp",
    "fn",
    "fp_empty",
    "slices",
    "slices_all",
    "slice_dice_q20",
    "change_q20",
    "degenerate",
)
Q20 = 2**20

_SCHEMA = pa.schema(
    [
        ("attack", pa.string()),
        ("axis", pa.string()),
        ("point_index", pa.int32()),
        ("point", pa.float64()),
        ("repeat", pa.int32()),
        ("case", pa.string()),
        ("class", pa.string()),
        *((name, pa.int64()) for name in FIELDS),
    ]
)


@dataclass(frozen=True)
class CountsFile:
    """A stored table of counts with the fingerprints of what it was measured on.

    Attributes:
        frame: One row per attack, point, repeat, case and class.
        metadata: ``schema_version``, ``checkpoint_sha256`` and the fingerprints of ``data``,
            ``split`` and ``attacks``.
    """

    frame: pd.DataFrame
    metadata: dict[str, str]


@dataclass(frozen=True)
class Row:
    """One disturbance that is counted: an attack's point in one repeat."""

    attack: str
    axis: str
    point_index: int
    point: float
    repeat: int


CLEAN_ROW = Row(CLEAN, CLEAN, 0, 0.0, 0)


@dataclass(frozen=True)
class PartialCounts:
    """The counts of one process, ready to be sent to another.

    Attributes:
        cases: Names in the order in which they were met.
        sums: int64, shape ``(rows, cases, K, fields)``.
    """

    cases: tuple[str, ...]
    sums: np.ndarray

    def slices_of(self, cases: Collection[str]) -> int:
        """How many slices of some cases this process has counted."""
        slots = [slot for slot, case in enumerate(self.cases) if case in cases]
        return int(self.sums[0, slots, 0, FIELDS.index("slices_all")].sum()) if slots else 0


class CountTable:
    """Adds up the counts of disturbed slices by case, on the device.

    Args:
        rows: The disturbances, each once.
        device: Where the sums are kept.
    """

    def __init__(self, rows: Sequence[Row], device: torch.device) -> None:
        self._rows = len(rows)
        self._device = device
        self._slots: dict[str, int] = {}
        self._sums: Tensor | None = None

    def slots(self, cases: Sequence[str], classes: int) -> Tensor:
        """Where the sums of each slice's case are kept; makes room for new cases.

        Args:
            cases: The case of each slice.
            classes: Number of classes K.

        Returns:
            int64, shape ``(B,)``.
        """
        for case in cases:
            self._slots.setdefault(case, len(self._slots))
        self._reserve(classes)
        return torch.tensor([self._slots[case] for case in cases], device=self._device)

    def add(self, rows: Tensor, slots: Tensor, values: Tensor) -> None:
        """Add the counts of a batch under some disturbances.

        Args:
            rows: Indices of the disturbances, each once, int64, shape ``(R,)``.
            slots: From :meth:`slots`, shape ``(B,)``.
            values: From :func:`slice_counts`, shape ``(R, B, K, fields)``.
        """
        if self._sums is not None:
            places = rows[:, None] * self._sums.shape[1] + slots
            flat = self._sums.flatten(0, 1)
            flat.index_add_(0, places.flatten(), values.flatten(0, 1))

    def partial(self) -> PartialCounts:
        """What has been counted so far, on the host."""
        if self._sums is None:
            sums = np.zeros((self._rows, 0, 0, len(FIELDS)), dtype=np.int64)
        else:
            sums = self._sums[:, : len(self._slots)].clone().cpu().numpy()
        return PartialCounts(tuple(self._slots), sums)

    def _reserve(self, classes: int) -> None:
        needed = len(self._slots)
        have = 0 if self._sums is None else self._sums.shape[1]
        if needed <= have:
            return
        shape = (self._rows, max(needed, 2 * have), classes, len(FIELDS))
        grown = torch.zeros(shape, dtype=torch.int64, device=self._device)
        if self._sums is not None:
            grown[:, :have] = self._sums
        self._sums = grown


@dataclass(frozen=True)
class Truth:
    """What the masks of some slices are counted against, the same for all disturbances.

    Attributes:
        mask: True masks where they are counted, bool, shape ``(B, K, H, W)``.
        counted: False where the truth is not known, bool, shape ``(B, 1, H, W)``.
        pixels: How many are true, int64, shape ``(B, K)``.
    """

    mask: Tensor
    counted: Tensor
    pixels: Tensor

    @classmethod
    def of(cls, mask: Tensor, counted: Tensor) -> "Truth":
        """The truth of some slices.

        Args:
            mask: True masks, bool, shape ``(B, K, H, W)``.
            counted: False where the truth is not known, bool, shape ``(B, 1, H, W)``.
        """
        return cls(mask & counted, counted, _pixels(mask & counted))


def slice_counts(predicted: Tensor, truth: Truth, change: Tensor, degenerate: Tensor) -> Tensor:
    """Whole numbers for each disturbance, slice and class.

    Args:
        predicted: Masks of the disturbed slices, bool, shape ``(R, B, K, H, W)``.
        truth: Of the same slices.
        change: From :func:`mean_change`, shape ``(R, B)``.
        degenerate: True where the attack had nothing to go by, bool, shape ``(R, B)``.

    Returns:
        int64, shape ``(R, B, K, len(FIELDS))``, in the order of ``FIELDS``. Slice Dice and mean
        absolute change are rounded to multiples of 2**-20, so that their sums are exact.
    """
    predicted = predicted & truth.counted
    tp, positive = _pixels(predicted & truth.mask), _pixels(predicted)
    fp, fn = positive - tp, truth.pixels - tp
    has_truth = truth.pixels > 0
    dice = 2.0 * tp.double() / (positive + truth.pixels).clamp(min=1).double()
    per_slice = (change * Q20).round().long()[..., None].expand_as(tp)
    fields = (
        tp,
        fp,
        fn,
        fp * ~has_truth,
        has_truth.long().expand_as(tp),
        torch.ones_like(tp),
        (dice * Q20).round().long() * has_truth,
        per_slice,
        degenerate.long()[..., None].expand_as(tp),
    )
    return torch.stack(fields, dim=-1)


def mean_change(image: Tensor, disturbed: Tensor) -> Tensor:
    """Mean absolute change of the pixels of each slice.

    Args:
        image: Clean slices, shape ``(B, C, H, W)``.
        disturbed: Disturbed slices, same shape.

    Returns:
        float64, shape ``(B,)``.
    """
    # Turned into float64 first: mean(dtype=float64) does the same three times as slowly.
    return (disturbed - image).abs_().double().flatten(1).mean(dim=1)


def _pixels(mask: Tensor) -> Tensor:
    """How many entries of bool masks ``(..., H, W)`` are True: int64, ``(...)``."""
    # Sums of bytes in int32 are twice as fast as those of bool in int64.
    return mask.flatten(-2).view(torch.uint8).sum(dim=-1, dtype=torch.int32).long()


def added_up(
    parts: Sequence[PartialCounts], rows: int, classes: int
) -> tuple[list[str], np.ndarray]:
    """The counts of all processes together.

    Args:
        parts: The counts of each process; a case may be spread over several.
        rows: Number of disturbances.
        classes: Number of classes K.

    Returns:
        The cases by name, and int64 of shape ``(rows, cases, K, fields)``.
    """
    slots = {
        case: slot for slot, case in enumerate(sorted({c for part in parts for c in part.cases}))
    }
    sums = np.zeros((rows, len(slots), classes, len(FIELDS)), dtype=np.int64)
    for part in parts:
        if part.cases:
            sums[:, [slots[case] for case in part.cases]] += part.sums
    return list(slots), sums


def counts_frame(
    parts: Sequence[PartialCounts], rows: Sequence[Row], classes: Sequence[str]
) -> pd.DataFrame:
    """The table of counts from those of all processes, rows in a fixed order.

    Args:
        parts: The counts of each process; a case may be spread over several.
        rows: The disturbances, in the order of the sums.
        classes: Names of the K classes.

    Returns:
        One row per disturbance, case (by name) and class, with the columns of the file.

    Raises:
        ValueError: If the parts hold another number of classes than there are names.
    """
    for part in parts:
        if part.cases and part.sums.shape[2] != len(classes):
            msg = f"counts of {part.sums.shape[2]} classes, names of {len(classes)}: {classes}"
            raise ValueError(msg)
    cases, sums = added_up(parts, len(rows), len(classes))
    each = len(cases) * len(classes)
    columns: dict[str, object] = {
        "attack": np.repeat([row.attack for row in rows], each),
        "axis": np.repeat([row.axis for row in rows], each),
        "point_index": np.repeat(np.array([row.point_index for row in rows], np.int32), each),
        "point": np.repeat(np.array([row.point for row in rows], np.float64), each),
        "repeat": np.repeat(np.array([row.repeat for row in rows], np.int32), each),
        "case": np.tile(np.repeat(cases, len(classes)), len(rows)),
        "class": np.tile(np.array(classes), len(rows) * len(cases)),
    }
    flat = sums.reshape(-1, len(FIELDS))
    columns |= {name: flat[:, index] for index, name in enumerate(FIELDS)}
    return pd.DataFrame(columns)


def write_counts(path: Path, frame: pd.DataFrame, metadata: Mapping[str, str]) -> None:
    """Write a table of counts as Parquet.

    Args:
        path: The file to write.
        frame: From :func:`counts_frame`.
        metadata: Fingerprints; ``schema_version`` is added.
    """
    write_table(path, frame, _SCHEMA, SCHEMA_VERSION, metadata)


def read_counts(path: Path) -> CountsFile:
    """Read a table of counts back.

    Args:
        path: A file written by :func:`write_counts`.

    Returns:
        The table and its metadata.

    Raises:
        ValueError: If the file is not such a table, or of another schema version.
    """
    table, metadata = read_table(path, _SCHEMA, SCHEMA_VERSION, "counts")
    return CountsFile(table.to_pandas(), metadata)
