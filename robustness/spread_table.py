"""The table of the spread of maps, slice by slice, and its file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.batches import Batch, attack_batch, fixed_size
from robustness.objectives import Objective
from robustness.parquet import read_table, refuse_twice, write_table
from robustness.saliency import Forward
from robustness.spread import BAND, measure_names, spread, truth_regions

SCHEMA_VERSION = "1"
# Maps (B, C, H, W) of an objective on the clean slices of a batch.
MapMethod = Callable[[AttackBatch, Objective], Tensor]

_SCHEMA = pa.schema(
    [
        ("case", pa.string()),
        ("slice_index", pa.int64()),
        ("foreground", pa.bool_()),
        ("output", pa.string()),
        ("method", pa.string()),
        ("measure", pa.string()),
        ("value", pa.float64()),
    ]
)
# What tells one row from another, in the order in which rows stand.
_KEY = ["case", "slice_index", "output", "method", "measure"]
_TEXT = ("case", "output", "method", "measure")


@dataclass(frozen=True)
class SpreadFile:
    """A stored table of spread with the fingerprints of what it was measured on.

    Attributes:
        frame: One row per slice, output, method and measure; all classes together.
        metadata: ``schema_version`` and what was given, such as fingerprints and the temperature.
    """

    frame: pd.DataFrame
    metadata: dict[str, str]


def measure_spread(
    forward: Forward,
    batches: Iterable[Batch],
    methods: Mapping[str, MapMethod],
    outputs: Mapping[str, Objective],
    *,
    device: torch.device,
    batch_size: int = 32,
    valid_only: bool = False,
    band: float = BAND,
) -> pd.DataFrame:
    """Measure the spread of the maps of some slices.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images; in evaluation mode.
        batches: Batches of the design.
        methods: What draws the maps, by name.
        outputs: What is explained, by name, as from ``temperature.output_objectives``.
        device: Where the network is.
        batch_size: Slices that are explained together.
        valid_only: Leave padding out. By default it counts as ordinary, as in the attacks'
            ranking.
        band: Half the width of the border's band, in pixels.

    Returns:
        Columns ``case, slice_index, foreground, output, method, measure, value``, rows in order;
        ``foreground`` says whether the slice has truth.

    Raises:
        ValueError: As in :func:`robustness.spread.spread`, or if a slice comes twice.
    """
    heads: list[pd.DataFrame] = []
    values: list[Tensor] = []
    for piece in fixed_size(batches, batch_size):
        batch = attack_batch(forward, piece, device)
        regions = truth_regions(batch.mask)
        real = slice(0, len(piece.cases))
        head = pd.DataFrame(
            {
                "case": piece.cases,
                "slice_index": piece.slice_index[real].cpu().numpy(),
                "foreground": (piece.mask[real] > 0).flatten(1).any(dim=1).cpu().numpy(),
            }
        )
        for output, objective in outputs.items():
            for method, maps in methods.items():
                found = spread(
                    maps(batch, objective),
                    regions,
                    counted=batch.valid if valid_only else None,
                    band=band,
                )
                heads.append(head.assign(output=output, method=method))
                values.append(torch.stack([found[name][real] for name in measure_names()], dim=1))
    if not values:
        return _empty()
    wide = pd.DataFrame(torch.cat(values).cpu().numpy(), columns=list(measure_names()))
    wide = pd.concat([pd.concat(heads, ignore_index=True), wide], axis=1)
    keys = [name for name in _SCHEMA.names if name not in {"measure", "value"}]
    return spread_frame([wide.melt(id_vars=keys, var_name="measure", value_name="value")])


def spread_frame(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table from those of all processes, rows in a fixed order.

    Args:
        parts: From :func:`measure_spread`.

    Returns:
        One row per case (by name), slice, output, method and measure.

    Raises:
        ValueError: If a slice was measured twice.
    """
    filled = [part for part in parts if len(part)]
    if not filled:
        return _empty()
    frame = pd.concat(filled, ignore_index=True).sort_values(_KEY, ignore_index=True)
    refuse_twice(frame, _KEY, "spread")
    return _typed(frame)


def case_means(frame: pd.DataFrame, *, foreground_only: bool = True) -> pd.DataFrame:
    """Each measure's mean over the slices of a case.

    Args:
        frame: From :func:`spread_frame`.
        foreground_only: Leave slices without truth out, and cases that have no others.

    Returns:
        Columns ``case, output, method, measure, value, slices``: slices are those whose measure is
        defined, and the value is NaN where there are none.
    """
    kept = frame[frame["foreground"]] if foreground_only else frame
    keys = ["case", "output", "method", "measure"]
    grouped = kept.groupby(keys, sort=True)["value"]
    return grouped.agg(value="mean", slices="count").reset_index()


def write_spread(path: Path, frame: pd.DataFrame, metadata: Mapping[str, str]) -> None:
    """Write a table of spread as Parquet.

    Args:
        path: The file to write.
        frame: From :func:`spread_frame`.
        metadata: Fingerprints; ``schema_version`` is added.
    """
    write_table(path, frame, _SCHEMA, SCHEMA_VERSION, metadata)


def read_spread(path: Path) -> SpreadFile:
    """Read a table of spread back.

    Args:
        path: A file written by :func:`write_spread`.

    Returns:
        The table and its metadata.

    Raises:
        ValueError: If the file is not such a table, or of another schema version.
    """
    table, metadata = read_table(path, _SCHEMA, SCHEMA_VERSION, "spread")
    return SpreadFile(_typed(table.to_pandas()), metadata)


def _empty() -> pd.DataFrame:
    return _typed(pd.DataFrame(columns=_SCHEMA.names))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of the file in its order and with its types."""
    numbers = {"slice_index": np.int64, "foreground": np.bool_, "value": np.float64}
    # An empty table has no text to tell the type of the other columns by.
    return frame[list(_SCHEMA.names)].astype(dict.fromkeys(_TEXT, "str")).astype(numbers)
