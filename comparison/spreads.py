"""How widely the maps of each loss spread, over cases and seeds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from comparison.saliency_files import Stored
from comparison.statistics import bootstrap_ends, half_width
from pictures.style import order_losses
from robustness.spread import measure_names
from robustness.spread_table import SpreadFile, case_means
from robustness.temperature import OUTPUTS

COLUMNS = [
    *("output", "method", "measure", "unit", "loss", "value", "low", "high"),
    *("seed_low", "seed_high", "seeds", "cases"),
]
NO_TEMPERATURE = "none"  # where none fits best
# Of those that have one; all others are shares or between 0 and 1.
_UNITS = {
    "entropy": "nats",
    "effective_pixels": "pixels",
    "participation": "pixels",
    "sharpness": "1/pixel",
    "radius": "pixels",
}
_KINDS = ["output", "method", "measure"]


def spread_scores(stored: Stored[SpreadFile]) -> pd.DataFrame:
    """Every measure of every loss: a case's mean over its slices with foreground, then over seeds.

    Args:
        stored: The tables of the runs.

    Returns:
        Columns ``COLUMNS``, one row an output, method, measure and loss: ``value`` is the mean over
        cases, ``low, high`` its 95 % bootstrap interval over them, ``seed_low, seed_high`` the 95 %
        t-interval over the means of the seeds, cut where a measure cannot be, NaN with one;
        ``cases`` are those that have the measure. No row where nothing is stored.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    for compared, file in stored.runs:
        tables.setdefault(compared.loss, []).append(case_means(file.frame))
    rows = [row for loss, found in tables.items() for row in _of_loss(loss, found)]
    scores = pd.DataFrame(rows, columns=COLUMNS)
    if scores.empty:
        return scores
    losses = order_losses(tables)
    ranks = {
        "output": scores["output"].map(lambda name: _rank(OUTPUTS, name)),
        "method": scores["method"],
        "measure": scores["measure"].map(lambda name: _rank(measure_names(), name)),
        "loss": scores["loss"].map(losses.index),
    }
    order = pd.DataFrame(ranks).sort_values(list(ranks), kind="stable").index
    return scores.loc[order].reset_index(drop=True)


def temperatures(stored: Stored[SpreadFile]) -> dict[str, list[float]]:
    """The matched temperatures of the runs of each loss, in logits, of those that have one.

    Args:
        stored: The tables of the runs.
    """
    found: dict[str, list[float]] = {}
    for compared, file in stored.runs:
        temperature = file.metadata.get("temperature", NO_TEMPERATURE)
        if temperature != NO_TEMPERATURE:
            found.setdefault(compared.loss, []).append(float(temperature))
    return found


def _of_loss(loss: str, tables: Sequence[pd.DataFrame]) -> list[list[object]]:
    """The rows of one loss from the case means of its runs."""
    numbered = [table.assign(seed=index) for index, table in enumerate(tables)]
    every = pd.concat(numbered, ignore_index=True)
    by_case = every.groupby(["case", *_KINDS])["value"].mean().unstack("case")
    by_seed = every.groupby(["seed", *_KINDS])["value"].mean().unstack("seed")
    values = by_case.to_numpy(float)
    lows, highs = bootstrap_ends(values.T)
    rows: list[list[object]] = []
    for place, kind in enumerate(by_case.index):
        known = values[place][~np.isnan(values[place])]
        seeds = by_seed.loc[kind].to_numpy(float)
        value = float(known.mean()) if len(known) else float("nan")
        half, counted = half_width(seeds), int((~np.isnan(seeds)).sum())
        unit = _UNITS.get(kind[2], "1")
        most = 1.0 if unit == "1" else np.inf
        rows.append(
            [
                *(*kind, unit, loss, value, lows[place], highs[place]),
                *(*np.clip((value - half, value + half), 0.0, most), counted, len(known)),
            ]
        )
    return rows


def _rank(order: Sequence[str], name: str) -> tuple[int, str]:
    """Known names in their order, then others by name."""
    return (order.index(name), "") if name in order else (len(order), name)
