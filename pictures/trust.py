"""What a verdict on a saliency method rests on: maps of a network that forgets, and flipped pixels.

Left how alike maps stay while layers are randomised, right how fast what is explained falls and
rises as pixels are taken away and put back in the map's order.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pictures.matrix import names_size, wrap_name, wrap_title
from pictures.style import MARKERS, MUTED, PALETTE, LossStyle, figure_style, order_losses
from robustness.trust import TrustThresholds

RANDOMISED, DELETION, INSERTION = "randomised", "deletion", "insertion"
LAYERS_WORDS = "layer that was randomised last, from the output down"
CORRELATION_WORDS = "rank correlation with the trained network's map"
SHARES_WORDS = "share of the pixels flipped"
EXPLAINED_WORDS = "explained\n(blank 0, clean 1)"

_TITLES = {
    RANDOMISED: "The network forgets",
    DELETION: "Pixels are taken away",
    INSERTION: "Pixels are put back",
}
_CURVES = 3.6  # inches of the panels' width
_ROW, _LEAST_HEIGHT, _MOST_HEIGHT = 0.17, 4.6, 11.0  # inches
_NAME, _LABEL = 28, 30  # characters of a layer's name, and in a line of the legend
_CHARACTER, _LINE = 0.075, 0.2  # inches


def trust_figure(curves: pd.DataFrame, *, title: str) -> Figure:
    """The curves of one method on one run.

    Args:
        curves: Rows of ``trust_table.curves_frame`` of one method.
        title: What is shown.

    Returns:
        As from :func:`trust_losses_figure`, with one line in each panel.

    Raises:
        ValueError: If there are no rows, or of several methods.
    """
    return _figure({"": curves}, {"": LossStyle(PALETTE[0], MARKERS[0])}, title)


def trust_losses_figure(
    curves: Mapping[str, pd.DataFrame], *, title: str, styles: Mapping[str, LossStyle]
) -> Figure:
    """The curves of one method on a run of each loss.

    Args:
        curves: By loss, rows of ``trust_table.curves_frame`` of the method.
        title: What is shown.
        styles: Colours and markers by loss, as in other figures.

    Returns:
        Left the rank correlation of each layer with the limit for the last one, at the bottom;
        right deletion over insertion, with the curve of a random order dashed. Layers are numbered
        where losses have unlike ones. A panel without any number says so.

    Raises:
        ValueError: If there is no loss or one without rows, with rows of several methods, or
            without a style.
    """
    missing = sorted(set(curves) - set(styles))
    if missing:
        msg = f"no style for {', '.join(missing)}, found those of {', '.join(styles) or 'none'}"
        raise ValueError(msg)
    ordered = {loss: curves[loss] for loss in order_losses(curves)}
    return _figure(ordered, styles, title)


def _figure(
    curves: Mapping[str, pd.DataFrame], styles: Mapping[str, LossStyle], title: str
) -> Figure:
    methods = {str(name) for found in curves.values() for name in found["method"]}
    if not curves or any(found.empty for found in curves.values()) or len(methods) != 1:
        msg = f"found curves of {', '.join(sorted(methods)) or 'nothing'}, expected one method"
        raise ValueError(msg)
    by_check = {
        check: {label: found[found["check"] == check] for label, found in curves.items()}
        for check in _TITLES
    }
    names = _layer_names([found["at"].tolist() for found in by_check[RANDOMISED].values()])
    key = _key([label for label in curves if label], styles)
    entries = [str(entry.get_label()) for entry in key]
    legend = max(len(line) for entry in entries for line in entry.splitlines()) * _CHARACTER + 0.7
    width = 2 * _CURVES + names_size(names or [""])[0] + legend
    lines = _LINE * sum(len(entry.splitlines()) for entry in entries) + 0.6
    height = min(max(_LEAST_HEIGHT, _ROW * len(names) + 1.2, lines), _MOST_HEIGHT)
    head = wrap_title(title, width - 0.5)
    with figure_style():
        figure = Figure(
            figsize=(width, height + _LINE * (1 + head.count("\n"))), layout="constrained"
        )
        panels = figure.subplot_mosaic([[RANDOMISED, DELETION], [RANDOMISED, INSERTION]])
        for check, axes in panels.items():
            axes.set_title(_TITLES[check])
            axes.grid(visible=True, color="#E8EAED", linewidth=0.8)
            axes.set_axisbelow(True)
            if not any(found["value"].notna().any() for found in by_check[check].values()):
                axes.text(0.5, 0.5, "no slice tells", transform=axes.transAxes, ha="center")
            draw = _draw_layers if check == RANDOMISED else _draw_flipping
            for label, found in by_check[check].items():
                draw(axes, found, styles[label])
        _label_layers(panels[RANDOMISED], names)
        for check in (DELETION, INSERTION):
            panels[check].set_xlim(0.0, 1.0)
            panels[check].set_ylabel(EXPLAINED_WORDS)
        panels[INSERTION].set_xlabel(SHARES_WORDS)
        figure.suptitle(head)
        figure.legend(handles=key, loc="outside right upper", frameon=False)
    return figure


def _draw_layers(axes: Axes, found: pd.DataFrame, style: LossStyle) -> None:
    axes.plot(
        found["value"].to_numpy(float),
        np.arange(1, len(found) + 1),
        color=style.color,
        marker=style.marker,
        markersize=3.5,
        linewidth=1.4,
    )


def _label_layers(axes: Axes, names: Sequence[str]) -> None:
    """Layers downwards, and the limit for the last of them on either side of 0."""
    asked = TrustThresholds().randomised
    for limit in (-asked, asked):
        axes.axvline(limit, color=MUTED, linestyle="dotted", linewidth=1.2)
    axes.set_xlim(-1.05, 1.05)
    axes.set_xlabel(CORRELATION_WORDS)
    axes.set_ylabel(LAYERS_WORDS)
    step = max(1, round(_ROW * len(names) / (_MOST_HEIGHT - 1.2)))
    shown = list(range(len(names), 0, -step))
    axes.set_yticks(shown, [names[place - 1] for place in shown])
    axes.set_ylim(len(names) + 0.5, 0.5)


def _draw_flipping(axes: Axes, found: pd.DataFrame, style: LossStyle) -> None:
    shares = found["at"].to_numpy(float)
    for column, line in (("by_chance", "dashed"), ("value", "solid")):
        axes.plot(
            shares,
            found[column].to_numpy(float),
            color=style.color,
            linestyle=line,
            linewidth=1.6 if column == "value" else 1.1,
            marker=style.marker if column == "value" else "",
            markersize=3.0,
            clip_on=False,  # the ends of a curve lie on the frame
        )


def _layer_names(layers: Sequence[Sequence[str]]) -> list[str]:
    """Names without what all of them begin with; numbers where networks have unlike layers."""
    if len({tuple(found) for found in layers}) != 1:
        return [str(place + 1) for place in range(max(map(len, layers)))]
    parts = [str(name).split(".") for name in layers[0]]
    above = zip(*(found[:-1] for found in parts), strict=False)
    shared = len(list(takewhile(lambda found: len(set(found)) == 1, above)))
    return [_short(".".join(found[shared:])) for found in parts]


def _short(name: str) -> str:
    """A name cut in the middle where it is too long to stand beside a panel."""
    half = (_NAME - 1) // 2
    return name if len(name) <= _NAME else f"{name[:half]}…{name[-half:]}"


def _key(labels: Sequence[str], styles: Mapping[str, LossStyle]) -> list[Line2D]:
    key = [
        Line2D(
            [],
            [],
            color=styles[label].color,
            marker=styles[label].marker,
            markersize=4.5,
            label=wrap_name(label, _LABEL),
        )
        for label in labels
    ]
    limit = f"limit for the last layer: ±{TrustThresholds().randomised:g}"
    return [
        *key,
        Line2D([], [], color=MUTED, linestyle="dotted", label=limit),
        Line2D([], [], color=MUTED, label="pixels in the map's order"),
        Line2D([], [], color=MUTED, linestyle="dashed", label="in a random order"),
    ]
