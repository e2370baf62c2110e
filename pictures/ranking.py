"""How stable the ranks of losses are: for each question a bar a loss, in shares of draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pictures.matrix import wrap_name, wrap_title
from pictures.style import figure_style

_WIDTH, _BAR, _HEAD, _AROUND = 7.6, 0.27, 0.42, 1.25  # inches
_LABEL = 26  # characters of a loss beside its bar
_LEAST_TEXT = 0.07  # share from which on a bar's part has room for its number
_DARK = 0.5  # of the colour map; white is easier to read from here on


@dataclass(frozen=True)
class RankPanel:
    """The ranks of all losses for one question.

    Attributes:
        title: The question.
        labels: The losses, the best first.
        shares: How often each has each rank, shape ``(losses, losses)``; rows add up to 1.
    """

    title: str
    labels: tuple[str, ...]
    shares: np.ndarray


def ranking_figure(panels: Sequence[RankPanel], *, title: str) -> Figure:
    """One panel a question, below each other.

    Args:
        panels: The questions; all of the same losses, in any order.
        title: What is shown.

    Returns:
        The figure, as high as its bars need.

    Raises:
        ValueError: If there is no panel, or shares and labels differ in number.
    """
    if not panels:
        msg = "no questions to draw, expected one or more"
        raise ValueError(msg)
    for panel in panels:
        count = len(panel.labels)
        if panel.shares.shape != (count, count):
            msg = f"{panel.title}: {panel.shares.shape} shares for {count} losses"
            raise ValueError(msg)
    count = len(panels[0].labels)
    head = wrap_title(title, _WIDTH - 0.5)
    with figure_style():
        heights = [_HEAD + _BAR * len(panel.labels) for panel in panels]
        figure = Figure(figsize=(_WIDTH, sum(heights) + _AROUND), layout="constrained")
        all_axes = figure.subplots(len(panels), squeeze=False, sharex=True, height_ratios=heights)[
            :, 0
        ]
        for axes, panel in zip(all_axes, panels, strict=True):
            _draw(axes, panel)
        all_axes[-1].set_xlabel("share of resamples")
        figure.suptitle(head)
        handles = [
            Patch(facecolor=_color(rank, count), edgecolor="white", label=f"rank {rank + 1}")
            for rank in range(count)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=count, frameon=False)
    return figure


def _draw(axes: Axes, panel: RankPanel) -> None:
    count = len(panel.labels)
    places = np.arange(count)
    starts = np.zeros(count)
    for rank in range(count):
        widths = panel.shares[:, rank]
        axes.barh(
            places,
            widths,
            left=starts,
            height=0.8,
            color=_color(rank, count),
            edgecolor="white",
            linewidth=0.8,
        )
        for place, start, width in zip(places, starts, widths, strict=True):
            if width >= _LEAST_TEXT:
                axes.text(
                    start + width / 2,
                    float(place),
                    f"{100 * width:.0f} %",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if _depth(rank, count) > _DARK else "black",
                )
        starts = starts + widths
    axes.set_yticks(places, [wrap_name(label, _LABEL) for label in panel.labels])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(panel.title, loc="left")


def _depth(rank: int, count: int) -> float:
    """Place on the colour map: the first rank is the darkest."""
    return 0.95 - 0.8 * rank / max(count - 1, 1)


def _color(rank: int, count: int) -> tuple[float, float, float, float]:
    red, green, blue, alpha = colormaps["Blues"](_depth(rank, count))
    return red, green, blue, alpha
