"""How well probabilities agree with the truth, clean and attacked: a table of whole numbers.

Each valid pixel falls into one of 15 equal bins of its probability. Of a bin are kept the number
of pixels, how many are true, and the sum of their probabilities in multiples of 2**-20: whole
numbers, which add up exactly in any order, for all batch sizes and numbers of processes alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from robustness.parquet import read_table, write_table

SCHEMA_VERSION = "1"
BINS = 15
FIELDS = ("pixels", "true", "probs_q20")

_SCHEMA = pa.schema(
    [
        ("attack", pa.string()),
        ("axis", pa.string()),
        ("point_index", pa.int32()),
        ("point", pa.float64()),
        ("repeat", pa.int32()),
        ("class", pa.string()),
        ("bin", pa.int32()),
        *((name, pa.int64()) for name in FIELDS),
    ]
)
_BITS = 20
_Q20 = 2**_BITS
# So many probabilities in multiples of 2**-20 stay below one pixel, and so many pixels below 2**63.
_AT_ONCE = 2**20
_PIXEL_BITS = 41
_PIXEL = 2**_PIXEL_BITS
_POINT = ["attack", "axis", "point_index", "point"]


class Disturbance(Protocol):
    """What the table needs to know of a row; a ``robustness.counts.Row`` is one."""

    @property
    def attack(self) -> str:
        """Name of the attack."""

    @property
    def axis(self) -> str:
        """What its points are."""

    @property
    def point_index(self) -> int:
        """Index of the point."""

    @property
    def point(self) -> float:
        """The point."""

    @property
    def repeat(self) -> int:
        """Which repetition."""


@dataclass(frozen=True)
class CalibrationFile:
    """A stored table of bins with the fingerprints of what it was measured on.

    Attributes:
        frame: One row per attack, point, repeat, class and bin.
        metadata: ``schema_version`` and what was given, such as fingerprints.
    """

    frame: pd.DataFrame
    metadata: dict[str, str]


@dataclass(frozen=True)
class Places:
    """Which entries of a batch's masks are counted, and where: the same for all disturbances.

    Attributes:
        entries: Indices in the flattened ``(B, K, H, W)``, int64, shape ``(N,)``.
        first_bins: The first bin of each one's class and truth, int32, shape ``(N,)``.
    """

    entries: Tensor
    first_bins: Tensor


def bin_places(truth: Tensor, counted: Tensor) -> Places:
    """Find out where the pixels of some slices are counted.

    Args:
        truth: True masks, bool, shape ``(B, K, H, W)``.
        counted: False in padding and where the truth is not known, bool, ``(B, 1, H, W)``.
    """
    classes = truth.shape[1]
    entries = counted.expand_as(truth).flatten().nonzero()[:, 0]
    of_class = torch.arange(classes, dtype=torch.int32, device=truth.device)[:, None, None]
    first = (of_class * 2 + truth.int()) * BINS
    return Places(entries, first.flatten().index_select(0, entries))


class CalibrationTable:
    """Adds up the bins of each disturbance, on the device.

    Args:
        rows: The disturbances, each once.
        device: Where the sums are kept.
    """

    def __init__(self, rows: Sequence[Disturbance], device: torch.device) -> None:
        self._rows = len(rows)
        self._device = device
        self._sums: Tensor | None = None

    def add(self, rows: Tensor, probs: Tensor, places: Places) -> None:
        """Add the pixels of a batch under some disturbances.

        Args:
            rows: Indices of the disturbances, each once, int64, shape ``(R,)``.
            probs: Probabilities in [0, 1], shape ``(R, B, K, H, W)``; NaN is taken for 0.
            places: Of the same slices, from :func:`bin_places`.
        """
        disturbances, bins = len(rows), 2 * probs.shape[2] * BINS
        if self._sums is None:
            # Pixels and probabilities, by what is true.
            shape = (2, self._rows, bins)
            self._sums = torch.zeros(shape, dtype=torch.int64, device=self._device)
        chosen = probs.flatten(1).index_select(1, places.entries)
        # int32 is several times as fast as int64 and holds BINS * _Q20.
        whole = (chosen.float().nan_to_num_() * _Q20).round_().int()
        place = (whole * BINS).bitwise_right_shift_(_BITS).clamp_(max=BINS - 1)
        offset = bins * torch.arange(disturbances, dtype=torch.int32, device=place.device)
        place += places.first_bins + offset[:, None]
        both = torch.zeros(disturbances * bins, dtype=torch.int64, device=place.device)
        # A pixel and its probability in one number: adding them up takes most of the time.
        pairs = zip(place.flatten().split(_AT_ONCE), whole.flatten().split(_AT_ONCE), strict=True)
        for part, of_part in pairs:
            both.zero_().index_add_(0, part.long(), of_part.long() + _PIXEL)
            pixels = both >> _PIXEL_BITS
            probs_q20 = both - (pixels << _PIXEL_BITS)
            self._sums[:, rows] += torch.stack([pixels, probs_q20]).view(2, disturbances, bins)

    def partial(self) -> np.ndarray:
        """What has been added so far, on the host, to be sent to another process.

        Returns:
            int64, shape ``(rows, K, BINS, len(FIELDS))``; K is 0 where nothing was added.
        """
        if self._sums is None:
            return np.zeros((self._rows, 0, BINS, len(FIELDS)), dtype=np.int64)
        held = self._sums.clone().cpu().numpy()
        pixels, probs = held.reshape(2, self._rows, -1, 2, BINS)
        fields = (pixels.sum(axis=2), pixels[:, :, 1], probs.sum(axis=2))
        return np.stack(fields, axis=-1)


def calibration_frame(
    parts: Sequence[np.ndarray], rows: Sequence[Disturbance], classes: Sequence[str]
) -> pd.DataFrame:
    """The table of bins from those of all processes, rows in a fixed order.

    Args:
        parts: From :meth:`CalibrationTable.partial`.
        rows: The disturbances, in the order of the sums.
        classes: Names of the K classes.

    Returns:
        One row per disturbance, class and bin, with the columns of the file.

    Raises:
        ValueError: If the parts hold another number of classes than there are names.
    """
    sums = np.zeros((len(rows), len(classes), BINS, len(FIELDS)), dtype=np.int64)
    for part in parts:
        if not part.shape[1]:
            continue
        if part.shape[1] != len(classes):
            msg = f"calibration of {part.shape[1]} classes, names of {len(classes)}: {classes}"
            raise ValueError(msg)
        sums += part
    each = len(classes) * BINS
    columns: dict[str, object] = {
        "attack": np.repeat([row.attack for row in rows], each),
        "axis": np.repeat([row.axis for row in rows], each),
        "point_index": np.repeat(np.array([row.point_index for row in rows], np.int32), each),
        "point": np.repeat(np.array([row.point for row in rows], np.float64), each),
        "repeat": np.repeat(np.array([row.repeat for row in rows], np.int32), each),
        "class": np.tile(np.repeat(np.array(classes), BINS), len(rows)),
        "bin": np.tile(np.arange(BINS, dtype=np.int32), len(rows) * len(classes)),
    }
    columns |= {name: sums[..., index].ravel() for index, name in enumerate(FIELDS)}
    return pd.DataFrame(columns)


def ece(frame: pd.DataFrame) -> pd.DataFrame:
    """Expected calibration error at each point: how far probabilities are from frequencies.

    The sum over bins of |true pixels - summed probabilities|, divided by all pixels, of each class
    over all repeats; then the mean over classes. It is of the probability of a class, not of that
    of the likelier answer, and pixels count alike: background, which most of them are, as well.

    Args:
        frame: From :func:`calibration_frame`.

    Returns:
        Columns ``attack, axis, point_index, point, ece, pixels`` in the order of the table, with
        ``pixels`` summed over repeats; ``ece`` is NaN where no pixel was counted.

    References:
        Naeini, Cooper, Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning,
        AAAI 2015; Guo, Pleiss, Sun, Weinberger, On calibration of modern neural networks, ICML
        2017, which has the 15 bins.
    """
    by_bin = frame.groupby([*_POINT, "class", "bin"], sort=False, observed=True)[list(FIELDS)].sum()
    by_bin["gap"] = (by_bin["true"] * _Q20 - by_bin["probs_q20"]).abs()
    levels = [*_POINT, "class"]
    by_class = by_bin.groupby(level=levels, sort=False)[["gap", "pixels"]].sum()
    pixels = by_class["pixels"]
    by_class["ece"] = by_class["gap"] / pixels.where(pixels > 0) / _Q20
    found = by_class.groupby(level=_POINT, sort=False).agg(
        ece=("ece", "mean"), pixels=("pixels", "max")
    )
    return found.reset_index()


def write_calibration(path: Path, frame: pd.DataFrame, metadata: Mapping[str, str]) -> None:
    """Write a table of bins as Parquet.

    Args:
        path: The file to write.
        frame: From :func:`calibration_frame`.
        metadata: Fingerprints; ``schema_version`` is added.
    """
    write_table(path, frame, _SCHEMA, SCHEMA_VERSION, metadata)


def read_calibration(path: Path) -> CalibrationFile:
    """Read a table of bins back.

    Args:
        path: A file written by :func:`write_calibration`.

    Returns:
        The table and its metadata.

    Raises:
        ValueError: If the file is not such a table, or of another schema version.
    """
    table, metadata = read_table(path, _SCHEMA, SCHEMA_VERSION, "calibration")
    return CalibrationFile(table.to_pandas(), metadata)
