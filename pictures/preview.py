"""Small pictures for MLflow's grid, whose cells are squares of 150 pixels: no words, one glance.

The whole figures, with titles, scales and legends, are artifacts of the run beside them.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pictures.panels import class_outlines, crop, valid_box
from pictures.saliency import gradient_scale
from pictures.style import PREDICTION_COLOR, PROBABILITY_MAP, TRUTH_COLOR, figure_style
from robustness.snapshots import Snapshot

_SIDE = 3.0  # inches, of the longer side
_MOST_PANELS = 9
_OVER_DARK = "#56B4E9"


def saliency_preview(snapshot: Snapshot) -> Figure:
    """The positive gradient with the outline of the truth, as in the last panel of figure 1.

    Args:
        snapshot: A slice of one run.
    """
    box = valid_box(snapshot.valid)
    gradient = np.maximum(crop(snapshot.gradient[0], box), 0.0)
    with figure_style():
        figure, (axes,) = _bare_panels([gradient])
        axes.imshow(gradient, cmap="magma", vmin=0.0, vmax=gradient_scale([snapshot]))
        class_outlines(axes, crop(snapshot.mask, box), _OVER_DARK)
    return figure


def shrinking_preview(snapshot: Snapshot) -> Figure:
    """Probabilities, clean and under attack, row by row; of more than 9 panels every few.

    Args:
        snapshot: A slice of one run.
    """
    box = valid_box(snapshot.valid)
    maps = [snapshot.probs, *snapshot.attacked_probs]
    chosen = np.linspace(0, len(maps) - 1, min(len(maps), _MOST_PANELS)).round().astype(int)
    shown = [crop(maps[index], box) for index in chosen.tolist()]
    with figure_style():
        figure, panels = _bare_panels([probs[0] for probs in shown])
        for axes, probs in zip(panels, shown, strict=True):
            axes.imshow(probs.max(axis=0), cmap=PROBABILITY_MAP, vmin=0.0, vmax=1.0)
            class_outlines(axes, probs, PREDICTION_COLOR)
            class_outlines(axes, crop(snapshot.mask, box), TRUTH_COLOR, dashed=True)
    return figure


def _bare_panels(images: Sequence[np.ndarray]) -> tuple[Figure, list[Axes]]:
    """A nearly square figure of nothing but panels."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height, width = images[0].shape
    scale = _SIDE / max(height * rows, width * columns)
    figure = Figure(figsize=(width * columns * scale, height * rows * scale))
    panels = []
    for index in range(len(images)):
        row, column = divmod(index, columns)
        place = (column / columns, 1 - (row + 1) / rows, 1 / columns, 1 / rows)
        axes = figure.add_axes(place)
        axes.set_axis_off()
        panels.append(axes)
    return figure, panels
