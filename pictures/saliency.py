"""Figure 1: what a network's output depends on, as the gradient with respect to the image."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pictures.panels import (
    SCALE_PERCENTILE,
    Box,
    Row,
    blank_ticks,
    check_rows,
    class_key,
    class_outlines,
    color_bar,
    crop,
    image_title,
    label_row,
    map_scale,
    names_of_classes,
    padding_note,
    show_image,
    show_masks,
    slice_title,
    valid_box,
)
from pictures.style import MUTED, figure_style, grid_figsize
from robustness.snapshots import Snapshot

GRADIENT_UNIT = "d(sum of p) /\nd(intensity)"

_SIGNED_MAP = "gray"
_POSITIVE_MAP = "magma"
_OVER_DARK = "#56B4E9"


def saliency_figure(
    rows: Sequence[Row], *, shared_scale: bool = False, class_names: Sequence[str] = ()
) -> Figure:
    """Image, truth, signed gradient in grey and positive gradient with the truth's outline.

    The scale ends at the 99.9th percentile of the absolute gradient outside padding, so that a
    single pixel does not darken the rest. Of several channels the first is shown.

    Args:
        rows: A label and a snapshot of the same slice for each row; one row for a single run.
        shared_scale: One scale for all rows, so that gradients of losses can be compared.
        class_names: Names of the K classes, for the legend.

    Returns:
        A figure of four columns and their colour bars.

    Raises:
        ValueError: If there is no row, or rows are of different slices.
    """
    check_rows(rows)
    first = rows[0][1]
    names = names_of_classes(first, class_names)
    box = valid_box(first.valid)
    shape = crop(first.valid, box).shape
    with figure_style():
        size = grid_figsize(len(rows), 4, (shape[0], shape[1]), extra_inches=(2.6, 0.9))
        figure = Figure(figsize=(size[0], size[1] + 0.25 * len(rows)), layout="compressed")
        panels = figure.subplots(len(rows), 4, squeeze=False)
        blank_ticks(panels.flat)
        snapshots = [snapshot for _, snapshot in rows]
        scales = [gradient_scale([snapshot]) for snapshot in snapshots]
        if shared_scale:
            scales = [gradient_scale(snapshots)] * len(rows)
        for row, (label, snapshot), scale in zip(panels, rows, scales, strict=True):
            show_image(row[0], snapshot, box)
            label_row(row[0], label)
            show_masks(row[1], crop(snapshot.mask, box))
            _show_gradient(row[2], row[3], snapshot, box, scale)
        groups = [panels] if shared_scale else np.split(panels, len(rows))
        for group, scale in zip(groups, scales, strict=False):
            color_bar(group[:, 2], _SIGNED_MAP, (-scale, scale), GRADIENT_UNIT, extend="both")
            color_bar(group[:, 3], _POSITIVE_MAP, (0.0, scale), GRADIENT_UNIT, extend="max")
        channel = "" if first.image.shape[0] == 1 else " (channel 1)"
        titles = (image_title(first), "truth", f"gradient{channel}", f"positive gradient{channel}")
        for axes, title in zip(panels[0], titles, strict=True):
            axes.set_title(title)
        figure.suptitle(slice_title(first, "Saliency"))
        figure.legend(handles=_key(names), loc="outside lower center", ncols=3, frameon=False)
    return figure


def gradient_scale(snapshots: Sequence[Snapshot]) -> float:
    """The 99.9th percentile of the absolute gradient of some slices, outside padding.

    Args:
        snapshots: The slices that share the scale.

    Returns:
        End of the symmetric scale; 1 where all gradients are zero.
    """
    return map_scale((shot.gradient[0], shot.valid) for shot in snapshots)


def _show_gradient(signed: Axes, positive: Axes, shot: Snapshot, box: Box, scale: float) -> None:
    gradient = crop(shot.gradient[0], box)
    signed.imshow(gradient, cmap=_SIGNED_MAP, vmin=-scale, vmax=scale)
    signed.set_xlabel(f"largest |gradient| {np.abs(gradient).max():.3g}", color=MUTED, fontsize=8)
    positive.imshow(np.maximum(gradient, 0.0), cmap=_POSITIVE_MAP, vmin=0.0, vmax=scale)
    class_outlines(positive, crop(shot.mask, box), _OVER_DARK)
    note = padding_note(shot.gradient[0], box, "|gradient|")
    positive.set_xlabel(note, color=MUTED, fontsize=8)


def _key(names: Sequence[str]) -> list[Line2D]:
    single = len(names) == 1
    note = f"scales end at percentile {SCALE_PERCENTILE:g} of |gradient|"
    outlines = [f"outline of the truth{'' if single else f', {name}'}" for name in names]
    return [*class_key(outlines, _OVER_DARK), Line2D([], [], linestyle="none", label=note)]
