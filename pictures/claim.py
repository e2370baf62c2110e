"""The paper's claim in one plot: each run's spread of gradients against its robustness."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pictures.matrix import names_size, wrap_name, wrap_title
from pictures.style import MUTED, LossStyle, figure_style, order_losses
from robustness.claim import ATTACK

SPREAD_WORDS = "effective number of pixels, exp(entropy of |gradient|) (pixels)"
ROBUSTNESS_WORDS = f"area under {ATTACK} / clean Dice (a ratio)"

_DOT, _MEAN = 5.0, 11.0  # points
_WIDTH, _LEAST_HEIGHT, _LINE = 7.6, 4.2, 0.2  # inches
_BESIDE = 1.5  # inches of the vertical axis' words and of the legend's marks
_LABEL = 26  # characters in a line of the legend


@dataclass(frozen=True)
class ClaimDot:
    """One training.

    Attributes:
        label: Its loss.
        spread: Mean effective number of pixels of its maps.
        robustness: Area under the attack's curve over clean Dice.
    """

    label: str
    spread: float
    robustness: float


def claim_figure(
    dots: Sequence[ClaimDot], *, title: str, styles: Mapping[str, LossStyle]
) -> Figure:
    """One dot a run, with the legend beside them.

    A larger hollow mark shows the mean of each loss that has several runs.

    Args:
        dots: One a run, in any order.
        title: What is shown.
        styles: Colours and markers by label, as in other figures.

    Returns:
        The figure, as high as its legend needs.

    Raises:
        ValueError: If there is no run, a number is not finite, or a loss has no style.
    """
    _check(dots, styles)
    losses = order_losses(dot.label for dot in dots)
    groups = {
        loss: np.array([(dot.spread, dot.robustness) for dot in dots if dot.label == loss])
        for loss in losses
    }
    key = [_mark(styles[loss], wrap_name(loss, _LABEL)) for loss in losses]
    several = any(len(group) > 1 for group in groups.values())
    if several:
        hollow = LossStyle(MUTED, "o")
        key += [_mark(hollow, "a run"), _mark(hollow, "mean of a loss's runs", is_mean=True)]
    entries = [str(entry.get_label()) for entry in key]
    head = wrap_title(title, _WIDTH - _BESIDE - names_size(entries)[0])
    lines = sum(len(entry.splitlines()) for entry in entries)
    with figure_style():
        height = max(_LEAST_HEIGHT, _LINE * lines + 0.4) + _LINE * head.count("\n")
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        for loss, group in groups.items():
            axes.add_line(_mark(styles[loss], loss, group))
            if len(group) > 1:
                axes.add_line(_mark(styles[loss], "", group.mean(axis=0)[None], is_mean=True))
        axes.margins(0.1)
        axes.autoscale_view()
        axes.set_xlabel(SPREAD_WORDS)
        axes.set_ylabel(ROBUSTNESS_WORDS)
        axes.locator_params(nbins=7)
        axes.grid(visible=True, color="#E8EAED", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_title(head)
        figure.legend(handles=key, loc="outside right upper", frameon=False)
    return figure


def _check(dots: Sequence[ClaimDot], styles: Mapping[str, LossStyle]) -> None:
    if not dots:
        msg = "no runs to draw, expected one or more"
        raise ValueError(msg)
    for dot in dots:
        if not (math.isfinite(dot.spread) and math.isfinite(dot.robustness)):
            msg = f"{dot}: expected finite numbers; leave the run out"
            raise ValueError(msg)
    missing = sorted({dot.label for dot in dots} - set(styles))
    if missing:
        msg = f"no style for {', '.join(missing)}, found those of {', '.join(styles) or 'none'}"
        raise ValueError(msg)


def _mark(
    style: LossStyle, label: str, points: np.ndarray | None = None, *, is_mean: bool = False
) -> Line2D:
    """Markers without a line at points ``(n, 2)``, or an entry of the legend."""
    along, up = np.empty((0, 2)).T if points is None else points.T
    return Line2D(
        along,
        up,
        linestyle="none",
        marker=style.marker,
        markersize=_MEAN if is_mean else _DOT,
        markeredgewidth=1.5 if is_mean else 0.0,
        color=style.color,
        markerfacecolor="none" if is_mean else style.color,
        label=label,
    )
