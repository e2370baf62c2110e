"""The report card of many runs: a row a check, a column a run, told by word, sign and colour."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation

from pictures.matrix import names_size, wrap_name, wrap_title
from pictures.style import MUTED, figure_style

PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "not applicable"


@dataclass(frozen=True)
class Look:
    """How a status is shown."""

    words: str
    color: str


# Blue and orange are told apart by all readers; the words say it without them.
LOOKS = {
    PASS: Look("✓ pass", "#CFE5F3"),
    FAIL: Look("✗ FAIL", "#F8C9A8"),
    NOT_APPLICABLE: Look("n. a.", "#ECEEF0"),
}

_LEAST_WIDTH, _LOSS_WIDTH = 0.68, 1.15  # inches of a run, and of a loss with one run
_ROW_HEIGHT, _LEAST_FIGURE = 0.42, 4.0
_CHECK_NAME = 42  # characters
_RAISED = 19  # points between the cells and the names of losses


@dataclass(frozen=True)
class Mark:
    """What one check says of one run.

    Attributes:
        status: ``pass``, ``fail`` or ``not applicable``.
        value: The number that it was judged by; NaN where there is none.
    """

    status: str
    value: float

    @property
    def number(self) -> str:
        """The value with three decimals, never as minus zero; empty where there is none."""
        return "" if math.isnan(self.value) else f"{round(self.value, 3) + 0.0:.3f}"


def report_card_figure(
    checks: Sequence[str],
    runs: Mapping[str, Sequence[str]],
    marks: Sequence[Sequence[Mark | None]],
    *,
    title: str,
) -> Figure:
    """All marks in a table of coloured cells.

    Args:
        checks: A head for each row: the check with its tolerance; may hold line breaks.
        runs: By loss what tells its runs apart, such as their seeds; together the columns.
        marks: Of each check one mark for each run in this order, None where the run's card does
            not have the check.
        title: What is shown.

    Returns:
        The figure, as large as its heads and cells need.

    Raises:
        ValueError: If there is nothing to draw, or the marks of a check are not one for each run.
    """
    count = sum(len(names) for names in runs.values())
    if not count or not checks or [len(row) for row in marks] != [count] * len(checks):
        msg = (
            f"marks of {[len(row) for row in marks]} runs for {len(checks)} checks and "
            f"{count} runs, expected one mark for each check and run"
        )
        raise ValueError(msg)
    width = max(_LEAST_WIDTH, _LOSS_WIDTH / max(len(names) for names in runs.values()))
    heads = [
        "\n".join(wrap_name(line, _CHECK_NAME) for line in check.split("\n")) for check in checks
    ]
    losses = {
        loss: wrap_name(loss, max(8, round(12 * width * len(names))))
        for loss, names in runs.items()
    }
    beside, above = names_size(heads)[0], names_size(list(losses.values()))[1]
    size = (
        max(beside + count * width + 0.4, _LEAST_FIGURE),
        above + len(checks) * _ROW_HEIGHT + 1.1,
    )
    with figure_style():
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.set_xlim(0, count)
        axes.set_ylim(len(checks), -0.1)
        for row, found in enumerate(marks):
            for column, mark in enumerate(found):
                _draw(axes, column, row, mark)
        _head(axes, runs, losses)
        axes.set_yticks([row + 0.5 for row in range(len(checks))], heads)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.suptitle(wrap_title(title, size[0]))
    return figure


def _draw(axes: Axes, column: int, row: int, mark: Mark | None) -> None:
    if mark is None:
        axes.text(column + 0.5, row + 0.5, "none", color=MUTED, ha="center", va="center")
        return
    look = LOOKS[mark.status]
    is_fail = mark.status == FAIL
    axes.add_patch(
        Rectangle(
            (column + 0.03, row + 0.05),
            0.94,
            0.9,
            facecolor=look.color,
            edgecolor="black" if is_fail else "none",
            linewidth=1.2,
        )
    )
    words = f"{look.words}\n{mark.number}" if mark.number else look.words
    weight = "bold" if is_fail else "normal"
    axes.text(
        column + 0.5, row + 0.52, words, ha="center", va="center", fontsize=7.5, weight=weight
    )


def _head(axes: Axes, runs: Mapping[str, Sequence[str]], losses: Mapping[str, str]) -> None:
    """Name the runs over the columns, and over them the losses, with a line over their runs."""
    names = [name for found in runs.values() for name in found]
    axes.xaxis.tick_top()
    axes.set_xticks([column + 0.5 for column in range(len(names))], names)
    above = axes.get_xaxis_transform()
    raised = above + ScaledTranslation(0, _RAISED / 72, axes.figure.dpi_scale_trans)
    begin = 0
    for loss, found in runs.items():
        end = begin + len(found)
        rule = Line2D([begin + 0.04, end - 0.04], [1, 1], transform=raised, clip_on=False)
        rule.set(color=MUTED, linewidth=1)
        axes.add_line(rule)
        axes.annotate(
            losses[loss],
            ((begin + end) / 2, 1.0),
            xycoords=above,
            xytext=(0, _RAISED + 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            weight="bold",
            fontsize=8,
        )
        begin = end
