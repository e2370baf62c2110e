"""The table of a comparison: one row a loss."""

import numpy as np
import pandas as pd
from rich.table import Table
from rich.text import Text

from comparison.selection import Selection
from comparison.statistics import loss_curves
from pictures.style import order_losses, wrap_label
from robustness.counts import CLEAN
from robustness.curves import areas

# Where the paper reads its curves.
_READ_AT = (
    ("top5_beyond_range", 0.4),
    ("top5_beyond_range", 0.6),
    ("topn_at_max", 30.0),
    ("topn_random", 30.0),
)
_PAPER = ("top5_in_range", "top5_beyond_range", "topn_at_max", "topn_random")


def curves_by_loss(selection: Selection) -> dict[str, pd.DataFrame]:
    """The curves of each loss, from :func:`comparison.statistics.loss_curves`, in table order."""
    groups = selection.by_loss()
    return {
        loss: loss_curves([compared.counts.frame for compared in groups[loss]])
        for loss in order_losses(groups)
    }


def comparison_table(curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Clean Dice, the area under each curve and Dice at chosen points.

    Args:
        curves: From :func:`curves_by_loss`.

    Returns:
        One row a loss: ``loss, seeds, cases, clean, clean_low, clean_high``, ``auc/<attack>`` for
        each attack and ``dice/<attack>@<point>`` at the paper's points, or the nearest stored one.
    """
    return pd.DataFrame([{"loss": loss, **_row(found)} for loss, found in curves.items()])


def terminal_table(table: pd.DataFrame) -> Table:
    """The part of the table that fits a terminal: a column a loss, three decimals.

    Args:
        table: From :func:`comparison_table`.

    Returns:
        Clean Dice with its interval, areas and points of the paper's attacks.
    """
    shown = Table(title="Dice, clean and attacked", title_justify="left", title_style="bold")
    shown.add_column("")
    rows = table.to_dict("records")
    for row in rows:
        shown.add_column(wrap_label(str(row["loss"])), justify="right")
    shown.add_row("clean", *(f"{row['clean']:.3f}" for row in rows))
    intervals = (f"[{row['clean_low']:.3f}, {row['clean_high']:.3f}]" for row in rows)
    shown.add_row("  95 % over cases", *map(Text, intervals))
    shown.add_row("  seeds", *(str(row["seeds"]) for row in rows), end_section=True)
    chosen = [f"auc/{attack}" for attack in _PAPER if f"auc/{attack}" in table.columns]
    points = [str(name) for name in table.columns if str(name).startswith("dice/")]
    for name in [*chosen, *points]:
        cells = (f"{row[name]:.3f}" for row in rows)
        shown.add_row(column_words(name), *cells, end_section=bool(chosen) and name == chosen[-1])
    return shown


def column_words(name: str) -> str:
    """A column's name as a reader sees it: ``area topn_at_max``, ``topn_at_max at 30``."""
    kind, _, rest = name.partition("/")
    if kind == "auc":
        return f"area {rest}"
    if kind == "dice":
        return rest.replace("@", " at ")
    return name.replace("_", " ")


def _row(found: pd.DataFrame) -> dict[str, float | int]:
    clean = found[found["attack"] == CLEAN].iloc[0]
    row: dict[str, float | int] = {
        "seeds": int(clean["seeds"]),
        "cases": int(clean["cases"]),
        "clean": float(clean["dice"]),
        "clean_low": float(clean["low"]),
        "clean_high": float(clean["high"]),
    }
    row |= {f"auc/{attack}": area for attack, area in areas(found).items()}
    for attack, wanted in _READ_AT:
        curve = found[found["attack"] == attack]
        if not curve.empty:
            nearest = int(np.argmin(np.abs(curve["point"].to_numpy() - wanted)))
            point = float(curve["point"].iloc[nearest])
            row[f"dice/{attack}@{point:g}"] = float(curve["dice"].iloc[nearest])
    return row
