"""Figure 1: what a network's output depends on, as the gradient with respect to the image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from pictures.panels import (
    Box,
    Row,
    blank_ticks,
    check_rows,
    class_outlines,
    crop,
    image_title,
    label_row,
    outline_key,
    show_image,
    show_masks,
    slice_title,
    valid_box,
)
from pictures.style import MUTED, figure_style, grid_figsize
from robustness.snapshots import Snapshot

GRADIENT_UNIT = "d(sum of p) / d(intensity)"
SCALE_PERCENTILE = 99.9

_POSITIVE_MAP = "magma"
_OVER_DARK = "#56B4E9"


def saliency_figure(rows: Sequence[Row], *, shared_scale: bool = False) -> Figure:
    """Image, truth, signed gradient in grey and positive gradient with the truth's outline.

    The scale ends at the 99.9th percentile of the absolute gradient outside padding, so that a
    single pixel does not darken the rest.

    Args:
        rows: A label and a snapshot of the same slice for each row; one row for a single run.
        shared_scale: One scale for all rows, so that gradients of losses can be compared.

    Returns:
        A figure of four columns.

    Raises:
        ValueError: If there is no row, or rows are of different slices.
    """
    check_rows(rows)
    first = rows[0][1]
    box = valid_box(first.valid)
    scales = [gradient_scale([row]) for _, row in rows]
    if shared_scale:
        scales = [gradient_scale([row for _, row in rows])] * len(rows)
    with figure_style():
        shape = crop(first.image[0], box).shape
        size = grid_figsize(len(rows), 4, (shape[0], shape[1]), extra_inches=(2.6, 1.1))
        figure = Figure(figsize=size, layout="compressed")
        grid = figure.subplots(len(rows), 4, squeeze=False)
        blank_ticks(grid.flat)
        for axes, (label, snapshot), scale in zip(grid, rows, scales, strict=True):
            show_image(axes[0], snapshot, box)
            label_row(axes[0], label)
            show_masks(axes[1], crop(snapshot.mask, box))
            _show_gradient(axes[2], axes[3], snapshot, box, scale)
            if not shared_scale:
                _color_bars(figure, [axes[2]], [axes[3]], scale, len(rows))
        if shared_scale:
            _color_bars(figure, list(grid[:, 2]), list(grid[:, 3]), scales[0], len(rows))
        channel = "" if first.image.shape[0] == 1 else " (channel 1)"
        titles = (image_title(first), "truth", f"gradient{channel}", f"positive gradient{channel}")
        for axes, title in zip(grid[0], titles, strict=True):
            axes.set_title(title)
        figure.suptitle(slice_title(first, "Saliency"))
        _key(figure, first.mask.shape[0])
    return figure


def gradient_scale(snapshots: Sequence[Snapshot]) -> float:
    """The 99.9th percentile of the absolute gradient of some slices, outside padding.

    Args:
        snapshots: The slices that share the scale.

    Returns:
        End of the symmetric scale; 1 where all gradients are zero.
    """
    values = [np.abs(shot.gradient[0])[shot.valid | ~shot.valid.any()] for shot in snapshots]
    scale = float(np.percentile(np.concatenate(values), SCALE_PERCENTILE))
    return scale if scale > 0 else 1.0


def _show_gradient(signed: Axes, positive: Axes, shot: Snapshot, box: Box, scale: float) -> None:
    gradient = crop(shot.gradient[0], box)
    signed.imshow(gradient, cmap="gray", vmin=-scale, vmax=scale)
    signed.set_xlabel(f"largest |gradient| {np.abs(gradient).max():.3g}", color=MUTED, fontsize=8)
    positive.imshow(np.maximum(gradient, 0.0), cmap=_POSITIVE_MAP, vmin=0.0, vmax=scale)
    class_outlines(positive, crop(shot.mask, box), _OVER_DARK)
    total = float(np.abs(shot.gradient[0]).sum())
    hidden = total - float(np.abs(gradient).sum())
    if total > 0 and hidden / total >= 0.005:  # noqa: PLR2004 - what rounds to 1 %
        note = f"{hidden / total:.0%} of |gradient| in padding"
        positive.set_xlabel(note, color=MUTED, fontsize=8)


def _color_bars(
    figure: Figure, signed: list[Axes], positive: list[Axes], scale: float, rows: int
) -> None:
    """Colour bars beside columns of panels, with the scale and its unit in words."""
    words = f"{GRADIENT_UNIT}, to percentile {SCALE_PERCENTILE:g}"
    label = words if len(signed) > 1 or rows == 1 else GRADIENT_UNIT
    for panels, cmap, low, ends in (
        (signed, "gray", -scale, "both"),
        (positive, _POSITIVE_MAP, 0.0, "max"),
    ):
        mappable = ScalarMappable(Normalize(low, scale), cmap)
        bar = figure.colorbar(mappable, ax=panels, extend=ends, aspect=20 * len(panels))
        bar.set_label(label, fontsize=8)


def _key(figure: Figure, classes: int) -> None:
    key = outline_key(classes, prediction=False)
    if classes == 1:
        key[0].set_color(_OVER_DARK)
        key[0].set_label("outline of the truth")
    figure.legend(handles=key, loc="outside lower center", ncols=len(key), frameon=False)
