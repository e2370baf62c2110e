"""Figures 2, 3, 5 and 6: Dice against the strength of an attack, one line a loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from pictures.matrix import wrap_name
from pictures.style import MUTED, LossStyle, figure_style, loss_styles

# Between the error bars of two losses, and between those of the first and the last, in points.
_BAR_STEP, _BAR_SPREAD = 4.0, 16.0
_POINTS_AN_INCH = 72
_AXIS_WORDS = {
    "level": "level of the replaced pixels (image units)",
    "pixels": "pixels replaced in each slice",
    "epsilon": "epsilon (image units)",
    "severity": "severity, 1 to 5",
    "threshold": "Dice that each slice was brought below",
}


@dataclass(frozen=True)
class Curve:
    """Dice of one loss against an attack.

    Attributes:
        label: The loss.
        points: Rising values of the attack's axis, shape ``(P,)``.
        dice: Mean Dice at each of them, shape ``(P,)``.
        low: Lower end of the band, shape ``(P,)``; None or NaN where there is none.
        high: Upper end, likewise.
        bar_low: Lower end of the error bars, likewise.
        bar_high: Upper end of the error bars, likewise.
        clean: Dice of the undisturbed slices.
        control: Dice under the control at the same points; None where there is none.
    """

    label: str
    points: np.ndarray
    dice: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    bar_low: np.ndarray | None = None
    bar_high: np.ndarray | None = None
    clean: float | None = None
    control: np.ndarray | None = None


def curves_figure(
    curves: Sequence[Curve],
    *,
    title: str,
    axis_label: str,
    volumes: int,
    band: str | None = None,
    bars: str | None = None,
    styles: Mapping[str, LossStyle] | None = None,
) -> Figure:
    """Dice curves on one pair of axes, with the legend beside them.

    Args:
        curves: One for each loss.
        title: What the attack does.
        axis_label: What the points are, with the unit.
        volumes: Number of volumes that the mean is over.
        band: What the bands are, for the legend; None where there are none.
        bars: What the error bars are, likewise.
        styles: Colours and markers by label, to match other figures; chosen from the labels
            where None.

    Returns:
        A figure with Dice from 0 to 1.

    Raises:
        ValueError: If there is no curve.
    """
    if not curves:
        msg = "no curves to draw, expected one or more"
        raise ValueError(msg)
    styles = styles or loss_styles(curve.label for curve in curves)
    with figure_style():
        figure = Figure(figsize=(7.6, 4.0), layout="constrained")
        axes = figure.subplots()
        for curve, aside in zip(curves, _asides(len(curves)), strict=True):
            _draw(axes, curve, styles[curve.label], aside)
        axes.set_title(title)
        axes.set_xlabel(axis_label)
        axes.set_ylabel(f"mean Dice over {volumes} volumes")
        axes.set_ylim(0.0, 1.0)
        axes.locator_params(axis="x", nbins=7)
        axes.grid(visible=True, color="#E8EAED", linewidth=0.8)
        axes.set_axisbelow(True)
        figure.legend(
            handles=_key(styles, curves, band, bars), loc="outside right upper", frameon=False
        )
    return figure


def axis_words(axis: str, max_pixel: float | None = None) -> str:
    """What the points of an attack are, for an axis label.

    Args:
        axis: Those of this package's attacks are put in words with their units, others stay as
            they are.
        max_pixel: The brightest intensity of the scaled images, where it is known.
    """
    words = _AXIS_WORDS.get(axis, axis)
    if axis == "level" and max_pixel is not None:
        return words.replace("image units", f"image units, {max_pixel:g} = brightest")
    return words


def _asides(curves: int) -> list[float]:
    """How far the error bars of each curve stand beside its points, so that none hides another.

    In typographic points: by as much on any axis, and the values stay what they are.
    """
    step = min(_BAR_STEP, _BAR_SPREAD / max(curves - 1, 1))
    return [step * (number - (curves - 1) / 2) for number in range(curves)]


def _draw(axes: Axes, curve: Curve, style: LossStyle, aside: float) -> None:
    axes.plot(
        curve.points,
        curve.dice,
        color=style.color,
        marker=style.marker,
        markersize=4.5,
        linewidth=1.6,
    )
    if curve.low is not None and curve.high is not None:
        axes.fill_between(
            curve.points, curve.low, curve.high, color=style.color, alpha=0.16, linewidth=0
        )
    if curve.bar_low is not None and curve.bar_high is not None:
        _, caps, lines = axes.errorbar(
            curve.points,
            curve.dice,
            yerr=(curve.dice - curve.bar_low, curve.bar_high - curve.dice),
            fmt="none",
            ecolor=style.color,
            elinewidth=1,
            capsize=2,
        )
        scale = axes.get_figure(root=True).dpi_scale_trans  # type: ignore[union-attr]
        beside = axes.transData + ScaledTranslation(aside / _POINTS_AN_INCH, 0, scale)
        for artist in (*caps, *lines):
            artist.set_transform(beside)
    if curve.control is not None:
        axes.plot(curve.points, curve.control, color=style.color, linestyle="dashed", linewidth=1)
    if curve.clean is not None:
        axes.axhline(curve.clean, color=style.color, linestyle="dotted", linewidth=1)


def _key(
    styles: Mapping[str, LossStyle], curves: Sequence[Curve], band: str | None, bars: str | None
) -> list[Line2D]:
    key = [
        Line2D(
            [],
            [],
            color=styles[curve.label].color,
            marker=styles[curve.label].marker,
            markersize=4.5,
            linewidth=1.6,
            label=wrap_name(curve.label, 26),
        )
        for curve in curves
    ]
    if any(curve.clean is not None for curve in curves):
        key.append(Line2D([], [], color=MUTED, linestyle="dotted", label="no attack"))
    if any(curve.control is not None for curve in curves):
        key.append(Line2D([], [], color=MUTED, linestyle="dashed", label="control: random pixels"))
    if band is not None:
        key.append(Line2D([], [], color=MUTED, alpha=0.3, linewidth=7, label=band))
    if bars is not None:
        key.append(Line2D([], [], color=MUTED, linewidth=1, marker="_", label=bars))
    return key
