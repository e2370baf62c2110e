"""Which saliency methods can be believed on the runs of each loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from comparison.agreement import in_order
from comparison.saliency_files import Stored
from comparison.selection import ComparedRun, Selection
from pictures.drawing import draw
from pictures.style import loss_styles
from pictures.trust import trust_losses_figure
from robustness.trust_table import COLUMNS as VERDICT_COLUMNS
from robustness.trust_table import CURVE_COLUMNS, mark

_HEADS = ["loss", "seed", "fold", "run"]
_TEXT = {"method", "failed", "refused", "explained", "checkpoint_sha256"}

Curves = Sequence[tuple[ComparedRun, pd.DataFrame]]


@dataclass(frozen=True)
class Verdicts:
    """What the checks say of one method on the runs of one loss.

    Attributes:
        marks: What stands beside its picture, run by run; empty where it passes.
        failed: Whether it failed a check or was refused, in any run.
        ranges: Least and largest number over the runs, by check; none where it was refused.
        reasons: Why it was refused.
    """

    marks: tuple[str, ...]
    failed: bool
    ranges: dict[str, tuple[float, float]]
    reasons: tuple[str, ...]

    @property
    def words(self) -> str:
        """As from :func:`marks_in_words`."""
        return marks_in_words(self.marks)


def marks_in_words(marks: Sequence[str]) -> str:
    """``pass``, or what is wrong with a method and in how many runs, if not in all.

    Args:
        marks: What stands beside its picture, run by run; empty where it passes.
    """
    wrong = [found for found in marks if found]
    if not wrong:
        return "pass"
    words = "; ".join(dict.fromkeys(wrong))
    return words + (f" ({len(wrong)} of {len(marks)} runs)" if len(wrong) < len(marks) else "")


def trust_table(stored: Stored[pd.DataFrame]) -> pd.DataFrame:
    """The verdicts of all runs: ``loss, seed, fold, run`` and those of ``trust_frame``.

    Args:
        stored: The verdicts of each run.
    """
    return _of_all(stored.runs, VERDICT_COLUMNS)


def curves_table(curves: Curves) -> pd.DataFrame:
    """What the verdicts rest on: ``loss, seed, fold, run`` and those of ``curves_frame``.

    Args:
        curves: Those of each run.
    """
    return _of_all(curves, CURVE_COLUMNS)


def trust_pictures(selection: Selection, curves: Curves) -> dict[str, tuple[bytes, str]]:
    """By method the PNG of its curves, on the first run of each loss that has them.

    Args:
        selection: The runs.
        curves: Those of each run.

    Returns:
        Each with the words that tell which runs are shown: ``bce with seed 0``.
    """
    styles = loss_styles(selection.by_loss())
    drawn: dict[str, tuple[bytes, str]] = {}
    for method in in_order(str(name) for _, found in curves for name in found["method"]):
        shown: dict[str, tuple[ComparedRun, pd.DataFrame]] = {}
        for compared, found in curves:
            rows = found[found["method"] == method]
            if len(rows):
                shown.setdefault(compared.loss, (compared, rows))
        figure = trust_losses_figure(
            {loss: rows for loss, (_, rows) in shown.items()},
            title=f"{method}: what its verdict rests on, medians over slices",
            styles=styles,
        )
        words = ", ".join(
            f"{loss} with {selection.run_words(run)}" for loss, (run, _) in shown.items()
        )
        drawn[method] = (draw(figure), words)
    return drawn


def verdicts(table: pd.DataFrame) -> dict[str, dict[str, Verdicts]]:
    """By method and loss, what its runs say.

    Args:
        table: From :func:`trust_table`.
    """
    return {
        method: {
            str(loss): _verdicts(found)
            for loss, found in table[table["method"] == method].groupby("loss", sort=False)
        }
        for method in in_order(table["method"])
    }


def run_marks(stored: Stored[pd.DataFrame]) -> dict[str, dict[str, str]]:
    """What must stand beside the pictures of a run, by its id and the method.

    Args:
        stored: The verdicts of each run.
    """
    return {
        compared.run.run_id: {str(row["method"]): mark(row) for row in found.to_dict("records")}
        for compared, found in stored.runs
    }


def _of_all(runs: Curves, columns: Sequence[str]) -> pd.DataFrame:
    parts = []
    for compared, found in runs:
        values = (compared.loss, compared.seed, compared.fold, compared.run.run_id)
        parts.append(found.assign(**dict(zip(_HEADS, values, strict=True))))
    names = [*_HEADS, *columns]
    return pd.concat(parts, ignore_index=True)[names] if parts else pd.DataFrame(columns=names)


def _verdicts(found: pd.DataFrame) -> Verdicts:
    rows = found.to_dict("records")
    checked = found[found["refused"] == ""]
    known = {name: checked[name].dropna() for name in VERDICT_COLUMNS if name not in _TEXT}
    return Verdicts(
        tuple(mark(row) for row in rows),
        any(row["refused"] or (row["slices"] and row["failed"]) for row in rows),
        {
            name: (float(values.min()), float(values.max()))
            for name, values in known.items()
            if len(values)
        },
        tuple(dict.fromkeys(str(row["refused"]) for row in rows if row["refused"])),
    )
