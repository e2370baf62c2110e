"""Figure 7: image, prediction and truth side by side, with the Dice of the slice."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pictures.panels import (
    Row,
    blank_ticks,
    check_rows,
    class_key,
    crop,
    image_title,
    label_row,
    names_of_classes,
    show_image,
    show_masks,
    slice_title,
    valid_box,
)
from pictures.style import figure_style, grid_figsize

_THRESHOLD = 0.5
# More would stand over the neighbouring panels, or beyond the figure.
_DICE_IN_LINE = 2
_NAMES_IN_LINE = 4


def masks_figure(rows: Sequence[Row], *, class_names: Sequence[str] = ()) -> Figure:
    """Image, prediction at p > 0.5 and truth, with the Dice of the slice over each prediction.

    Args:
        rows: A label and a snapshot of the same slice for each row.
        class_names: Names of the K classes, for the legend.

    Returns:
        A figure of three columns.

    Raises:
        ValueError: If there is no row, or rows are of different slices.
    """
    check_rows(rows)
    first = rows[0][1]
    names = names_of_classes(first, class_names)
    box = valid_box(first.valid)
    shape = crop(first.valid, box).shape
    with figure_style():
        several = len(names) > 1
        title_lines = 1 + several * math.ceil(len(names) / _DICE_IN_LINE)
        key_lines = several * math.ceil(len(names) / _NAMES_IN_LINE)
        words = 0.5 + 0.25 * key_lines + 0.2 * title_lines * len(rows)
        size = grid_figsize(len(rows), 3, (shape[0], shape[1]), extra_inches=(0.5, words))
        figure = Figure(figsize=size, layout="compressed")
        grid = figure.subplots(len(rows), 3, squeeze=False)
        blank_ticks(grid.flat)
        for axes, (label, snapshot) in zip(grid, rows, strict=True):
            predicted = snapshot.probs > _THRESHOLD
            show_image(axes[0], snapshot, box)
            label_row(axes[0], label)
            show_masks(axes[1], crop(predicted, box))
            axes[1].set_title(_dice_title(predicted, snapshot.mask))
            show_masks(axes[2], crop(snapshot.mask, box))
        grid[0, 0].set_title(image_title(first).replace(" (", "\n("))
        grid[0, 2].set_title("truth")
        figure.suptitle(slice_title(first, "Masks"))
        if several:
            key = class_key(names, "white")
            figure.legend(
                handles=key, loc="outside lower center", ncols=_NAMES_IN_LINE, frameon=False
            )
    return figure


def slice_dice(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice of each class of one slice, padding included: 2 tp / (predicted + true pixels).

    Args:
        predicted: bool, shape ``(K, H, W)``.
        truth: bool, same shape.

    Returns:
        Shape ``(K,)``; NaN where both are empty.
    """
    both = (predicted & truth).sum(axis=(1, 2))
    size = predicted.sum(axis=(1, 2)) + truth.sum(axis=(1, 2))
    dice = np.full(both.shape, np.nan)
    np.divide(2.0 * both, size, out=dice, where=size > 0)
    return dice


def _dice_title(predicted: np.ndarray, truth: np.ndarray) -> str:
    dice = slice_dice(predicted, truth).tolist()
    if len(dice) == 1:
        return f"prediction, Dice {'none (both empty)' if np.isnan(dice[0]) else f'{dice[0]:.3f}'}"
    words = ["none" if np.isnan(value) else f"{value:.3f}" for value in dice]
    lines = [
        " / ".join(words[start : start + _DICE_IN_LINE])
        for start in range(0, len(words), _DICE_IN_LINE)
    ]
    return "\n".join(["prediction, Dice", *lines])
