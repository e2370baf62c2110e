"""Figure 4: how a prediction shrinks from point to point of an attack."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pictures.panels import (
    Box,
    Row,
    blank_ticks,
    check_rows,
    class_key,
    class_outlines,
    color_bar,
    crop,
    key_line,
    label_row,
    names_of_classes,
    point_title,
    slice_title,
    valid_box,
)
from pictures.style import (
    PREDICTION_COLOR,
    PROBABILITY_MAP,
    TRUTH_COLOR,
    figure_style,
    grid_figsize,
)


def shrinking_figure(rows: Sequence[Row], *, class_names: Sequence[str] = ()) -> Figure:
    """Probabilities with the 0.5 contour, clean and at each of the attack's points.

    Where there are several classes, the shade is the largest probability among them and each
    class has its contour.

    Args:
        rows: A label and a snapshot of the same slice and attack for each row.
        class_names: Names of the K classes, for the legend.

    Returns:
        A figure of one column for the clean slice and one for each point.

    Raises:
        ValueError: If there is no row, or rows are of different slices, attacks or points.
    """
    check_rows(rows)
    first = rows[0][1]
    attacks = sorted({(row.attack, tuple(row.points.tolist())) for _, row in rows})
    if len(attacks) > 1:
        msg = f"rows show different attacks or points {attacks}, expected one"
        raise ValueError(msg)
    names = names_of_classes(first, class_names)
    box = valid_box(first.valid)
    titles = ["clean", *(point_title(first.unit, point) for point in first.points.tolist())]
    shape = crop(first.valid, box).shape
    with figure_style():
        size = grid_figsize(
            len(rows),
            len(titles),
            (shape[0], shape[1]),
            extra_inches=(1.2, 1.0),
            longer_inches=1.25,
        )
        figure = Figure(figsize=size, layout="compressed")
        grid = figure.subplots(len(rows), len(titles), squeeze=False)
        blank_ticks(grid.flat)
        for panels, (label, snapshot) in zip(grid, rows, strict=True):
            label_row(panels[0], label)
            maps = [snapshot.probs, *snapshot.attacked_probs]
            for axes, probs in zip(panels, maps, strict=True):
                _show_probabilities(axes, probs, snapshot.mask, box)
        for axes, title in zip(grid[0], titles, strict=True):
            axes.set_title(title)
        label = "probability" if len(names) == 1 else "largest probability\nof all classes"
        color_bar(grid[:, -1], PROBABILITY_MAP, (0.0, 1.0), label)
        figure.suptitle(slice_title(first, f"Probabilities under {first.attack}"))
        key = _key(names)
        figure.legend(handles=key, loc="outside lower center", ncols=len(key), frameon=False)
    return figure


def _show_probabilities(axes: Axes, probs: np.ndarray, mask: np.ndarray, box: Box) -> None:
    axes.imshow(crop(probs.max(axis=0), box), cmap=PROBABILITY_MAP, vmin=0.0, vmax=1.0)
    class_outlines(axes, crop(probs, box), PREDICTION_COLOR)
    class_outlines(axes, crop(mask, box), TRUTH_COLOR, dashed=True)


def _key(names: Sequence[str]) -> list[Line2D]:
    single = len(names) == 1
    lines = [
        key_line("truth", TRUTH_COLOR if single else "black", dashed=True),
        key_line("prediction (p = 0.5)", PREDICTION_COLOR if single else "black"),
    ]
    return lines if single else lines + class_key(names, PREDICTION_COLOR)
