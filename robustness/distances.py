"""The table of distances that attacks of least length measure beside counts, and its file.

One row is one slice under one attack, threshold and repeat: how far it had to be disturbed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from robustness.parquet import read_table, refuse_twice, write_table

SCHEMA_VERSION = "1"

_SCHEMA = pa.schema(
    [
        ("attack", pa.string()),
        ("norm", pa.string()),
        ("point_index", pa.int32()),
        ("threshold", pa.float64()),
        ("repeat", pa.int32()),
        ("case", pa.string()),
        ("slice_index", pa.int64()),
        ("distance", pa.float64()),
        ("clean_dice", pa.float64()),
    ]
)
_POINT = ["attack", "norm", "point_index", "threshold"]
# What tells one row from another, in the order in which rows stand.
_KEY = ["attack", "point_index", "repeat", "case", "slice_index"]


class Measuring(Protocol):
    """What the table needs to know of an attack; a ``MinimumNormAttack`` is one."""

    @property
    def name(self) -> str:
        """Unique name."""

    @property
    def norm(self) -> str:
        """What length means."""

    @property
    def points(self) -> tuple[float, ...]:
        """The thresholds."""


@dataclass(frozen=True)
class DistancesFile:
    """A stored table of distances with the fingerprints of what it was measured on.

    Attributes:
        frame: One row per attack, threshold, repeat and slice.
        metadata: ``schema_version`` and what was given, such as fingerprints.
    """

    frame: pd.DataFrame
    metadata: dict[str, str]


class DistanceTable:
    """Collects the distances of one process, on the device until they are asked for."""

    def __init__(self) -> None:
        self._heads: list[pd.DataFrame] = []
        self._values: list[Tensor] = []

    def add(
        self,
        attack: Measuring,
        *,
        point_index: int,
        repeat: int,
        cases: Sequence[str],
        slice_index: Tensor,
        distances: Tensor,
        clean_dice: Tensor,
    ) -> None:
        """Add the slices of a batch under one threshold and repeat.

        Args:
            attack: Whose distances they are.
            point_index: Index of the threshold.
            repeat: Which repetition.
            cases: The case of each slice; slices after the last of them fill up a batch and are
                left out.
            slice_index: Index of each slice in its volume, int64, shape ``(B,)``.
            distances: In image units, shape ``(B,)``: 0 where the clean slice lies below the
                threshold, infinite where it was never broken, NaN without truth.
            clean_dice: Dice of the clean slices, shape ``(B,)``.
        """
        real = slice(0, len(cases))
        head = {
            "attack": attack.name,
            "norm": attack.norm,
            "point_index": point_index,
            "threshold": attack.points[point_index],
            "repeat": repeat,
            "case": list(cases),
        }
        self._heads.append(pd.DataFrame(head))
        # float64 holds every index exactly, so that all come to the host in one piece.
        values = (slice_index.to(distances.device), distances, clean_dice)
        self._values.append(torch.stack([value[real].double() for value in values]))

    def partial(self) -> pd.DataFrame:
        """What was collected so far, on the host, to be sent to another process."""
        if not self._heads:
            return _typed(pd.DataFrame(columns=_SCHEMA.names))
        frame = pd.concat(self._heads, ignore_index=True)
        values = torch.cat(self._values, dim=1).cpu().numpy()
        frame["slice_index"], frame["distance"], frame["clean_dice"] = values
        return _typed(frame)


def distances_frame(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The table of distances from those of all processes, rows in a fixed order.

    Args:
        parts: From :meth:`DistanceTable.partial`.

    Returns:
        One row per attack (by name), threshold, repeat, case (by name) and slice.

    Raises:
        ValueError: If a slice was measured twice.
    """
    filled = [part for part in parts if len(part)]
    frame = pd.concat(filled, ignore_index=True) if filled else DistanceTable().partial()
    frame = frame.sort_values(_KEY, ignore_index=True)
    refuse_twice(frame, _KEY, "distances")
    return _typed(frame)


def share_broken(frame: pd.DataFrame, epsilons: Sequence[float]) -> pd.DataFrame:
    """Share of the slices that are broken within each distance.

    Args:
        frame: From :func:`distances_frame`.
        epsilons: Distances, in image units.

    Returns:
        One row per attack, threshold and epsilon, with ``share`` and ``slices``, the number of
        slices with truth (times repeats). The share at 0 is that of slices that are broken clean.
    """
    rows = [
        {
            **dict(zip(_POINT, point, strict=True)),
            "epsilon": float(epsilon),
            "share": float((distances <= epsilon).mean()),
            "slices": len(distances),
        }
        for point, distances in _with_truth(frame)
        for epsilon in epsilons
    ]
    return pd.DataFrame(rows, columns=[*_POINT, "epsilon", "share", "slices"])


def median_distances(frame: pd.DataFrame) -> pd.DataFrame:
    """Median distance under each attack and threshold; infinite if half was never broken.

    Args:
        frame: From :func:`distances_frame`.

    Returns:
        One row per attack and threshold, with ``median``, ``slices`` (those with truth, times
        repeats), ``already_broken`` (distance 0) and ``never_broken``.
    """
    rows = [
        {
            **dict(zip(_POINT, point, strict=True)),
            "median": float(np.median(distances)),
            "slices": len(distances),
            "already_broken": int((distances == 0).sum()),
            "never_broken": int(np.isinf(distances).sum()),
        }
        for point, distances in _with_truth(frame)
    ]
    counted = ["median", "slices", "already_broken", "never_broken"]
    return pd.DataFrame(rows, columns=[*_POINT, *counted])


def write_distances(path: Path, frame: pd.DataFrame, metadata: Mapping[str, str]) -> None:
    """Write a table of distances as Parquet.

    Args:
        path: The file to write.
        frame: From :func:`distances_frame`.
        metadata: Fingerprints; ``schema_version`` is added.
    """
    write_table(path, frame, _SCHEMA, SCHEMA_VERSION, metadata)


def read_distances(path: Path) -> DistancesFile:
    """Read a table of distances back.

    Args:
        path: A file written by :func:`write_distances`.

    Returns:
        The table and its metadata.

    Raises:
        ValueError: If the file is not such a table, or of another schema version.
    """
    table, metadata = read_table(path, _SCHEMA, SCHEMA_VERSION, "distances")
    return DistancesFile(_typed(table.to_pandas()), metadata)


def _with_truth(frame: pd.DataFrame) -> list[tuple[tuple[Any, ...], np.ndarray]]:
    """Distances of the slices that have truth, by attack and threshold; none without any."""
    known = frame[frame["distance"].notna()]
    return [
        (next(part[_POINT].itertuples(index=False, name=None)), part["distance"].to_numpy())
        for _, part in known.groupby(_POINT)
    ]


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of the file in its order and with its types."""
    types = {
        "point_index": np.int32,
        "threshold": np.float64,
        "repeat": np.int32,
        "slice_index": np.int64,
        "distance": np.float64,
        "clean_dice": np.float64,
    }
    return frame[list(_SCHEMA.names)].astype(types)
