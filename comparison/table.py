"""The table of a comparison: one row a loss, and the words that it is shown with."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from comparison.selection import ComparedRun, Selection
from comparison.statistics import Score, loss_areas, loss_curves, scored_curves
from pictures.style import wrap_label
from robustness.counts import CLEAN

CONTROL = "_control"

# Where the paper reads its curves.
_READ_AT = (
    ("top5_beyond_range", 0.4),
    ("top5_beyond_range", 0.6),
    ("topn_at_max", 30.0),
    ("topn_random", 30.0),
)
_PAPER = ("top5_in_range", "top5_beyond_range", "topn_at_max", "topn_random")
_SECTIONS = {"dice": "Dice under attack", "auc": "area under the curve"}
_COLUMNS = 4
_WIDTH = 11
_ENDS = ("low", "high", "seed_low", "seed_high")


def curves_by_loss(selection: Selection) -> dict[str, pd.DataFrame]:
    """The curves of each loss, from :func:`comparison.statistics.loss_curves`, in table order."""
    return {
        loss: loss_curves(
            [compared.counts.frame for compared in runs], [compared.dice for compared in runs]
        )
        for loss, runs in selection.by_loss().items()
    }


def comparison_table(selection: Selection, curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Clean Dice, the area under each curve and Dice at chosen points, with their intervals.

    Args:
        selection: The runs.
        curves: From :func:`curves_by_loss`.

    Returns:
        One row a loss: ``loss, seeds, cases`` and the measures ``clean`` (``clean/<class>`` too
        where there are several), ``auc/<attack>`` for each attack, the paper's first, and
        ``dice/<attack>@<point>`` at the paper's points, or the nearest stored ones. Beside each
        measure stand its intervals, ``<measure>:low, :high`` over cases and
        ``:seed_low, :seed_high`` over seeds.
    """
    rows = []
    for loss, runs in selection.by_loss().items():
        row: dict[str, object] = {
            "loss": loss,
            "seeds": len(runs),
            "cases": int(curves[loss]["cases"].iloc[0]),
        }
        for name, score in _scores(runs, curves[loss]).items():
            row[name] = score.value
            row |= {f"{name}:{end}": getattr(score, end) for end in _ENDS}
        rows.append(row)
    return pd.DataFrame(rows)


def measures(table: pd.DataFrame) -> list[str]:
    """The measures of a table in the order of its columns, without their intervals."""
    return [str(name) for name in table.columns if f"{name}:low" in table.columns]


def measure_words(name: str) -> str:
    """A measure under its heading as a reader sees it: ``topn_at_max``, ``topn_at_max at 30``."""
    kind, _, rest = name.partition("/")
    if kind == CLEAN:
        return f"clean, {rest}" if rest else kind
    return rest.replace("@", " at ")


def terminal_table(table: pd.DataFrame) -> Group:
    """The table as it fits a terminal of 80 columns: a column a loss, three decimals.

    Args:
        table: From :func:`comparison_table`.

    Returns:
        Tables of up to four losses each, and how to read them.
    """
    rows = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    tables = [
        _terminal_part(rows[start : start + _COLUMNS], measures(table))
        for start in range(0, len(rows), _COLUMNS)
    ]
    over = "seeds where not over volumes" if int(table["seeds"].max()) > 1 else "volumes"
    words = f"Area: mean Dice over an attack's axis. Below: 95 % intervals, over {over}."
    return Group(*tables, Text(words))


def _terminal_part(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> Table:
    shown = Table(
        title="Dice, clean and attacked", title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    shown.add_column("", no_wrap=True)
    for row in rows:
        shown.add_column(Text(wrap_label(str(row["loss"]), _WIDTH)), justify="right")
    shown.add_row("seeds", *(str(row["seeds"]) for row in rows))
    shown.add_row("volumes", *(str(row["cases"]) for row in rows))
    section = ""
    for name in names:
        kind, _, rest = name.partition("/")
        if kind != section:
            section = kind
            shown.add_section()
            if kind in _SECTIONS:
                shown.add_row(Text(_SECTIONS[kind], style="bold"))
        words = f" {measure_words(name)}" if kind in _SECTIONS else measure_words(name)
        if rest.endswith(CONTROL) and f"{kind}/{rest.removesuffix(CONTROL)}" in names:
            words = "   its control"
        shown.add_row(words, *(_cell(row, name) for row in rows))
        if not rest:
            shown.add_row(" over volumes", *(_ends(row, name) for row in rows))
    return shown


def _cell(row: Mapping[str, float], name: str) -> str:
    over_seeds = _ends(row, name, "seed_")
    return f"{row[name]:.3f}\n{over_seeds}" if over_seeds else f"{row[name]:.3f}"


def _ends(row: Mapping[str, float], name: str, prefix: str = "") -> str:
    """An interval, empty where there is none; its ends, since it need not lie evenly around."""
    low, high = row[f"{name}:{prefix}low"], row[f"{name}:{prefix}high"]
    return "" if np.isnan(low) or np.isnan(high) else "-".join(map(_short, (low, high)))


def _short(value: float) -> str:
    """Three decimals without the zero before them: four intervals stand in a line."""
    return f"{value:.3f}".removeprefix("0")


def _scores(runs: Sequence[ComparedRun], curves: pd.DataFrame) -> dict[str, Score]:
    scores = {"clean": _point_score(curves[curves["attack"] == CLEAN].iloc[0])}
    scored = [compared.dice for compared in runs]
    classes = list(scored[0]["class"].unique())
    for name in classes if len(classes) > 1 else []:
        found = scored_curves(
            [dice[(dice["attack"] == CLEAN) & (dice["class"] == name)] for dice in scored]
        )
        scores[f"clean/{name}"] = _point_score(found.iloc[0])
    for attack, wanted in _READ_AT:
        curve = curves[curves["attack"] == attack]
        if not curve.empty:
            nearest = curve.iloc[int(np.argmin(np.abs(curve["point"].to_numpy() - wanted)))]
            scores[f"dice/{attack}@{nearest['point']:g}"] = _point_score(nearest)
    areas = loss_areas(scored)
    for attack in sorted(areas, key=_paper_first):
        scores[f"auc/{attack}"] = areas[attack]
    return scores


def _point_score(row: pd.Series) -> Score:
    return Score(float(row["dice"]), *(float(row[end]) for end in _ENDS))


def _paper_first(attack: str) -> int:
    """The paper's attacks come first, each before its control; the others as they stand."""
    plain = attack.removesuffix(CONTROL)
    return 2 * _PAPER.index(plain) + (plain != attack) if plain in _PAPER else 2 * len(_PAPER)
