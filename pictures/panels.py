"""What the pictures of a slice share: cropping, scales, grey images, outlines, masks, words."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.lines import Line2D

from pictures.style import PALETTE, wrap_label
from robustness.pictured import PicturedSlice
from robustness.snapshots import Snapshot

Row = tuple[str, Snapshot]
Box = tuple[slice, slice]

SCALE_PERCENTILE = 99.9

_FRAME_COLOR = "#BDC1C6"
_POINT_WORDS = {"image intensity": "level {:g}", "pixels per slice": "{:g} pixels"}


def check_rows(rows: Sequence[tuple[str, PicturedSlice]]) -> None:
    """Refuse rows that cannot stand in one figure.

    Raises:
        ValueError: If there are none, or they are of different slices.
    """
    if not rows:
        msg = "no rows to draw, expected one slice or more"
        raise ValueError(msg)
    slices = sorted({(row.case, row.slice_index, row.mask.shape) for _, row in rows})
    if len(slices) > 1:
        msg = f"rows are of different slices {slices}, expected one"
        raise ValueError(msg)


def slice_title(snapshot: PicturedSlice, what: str) -> str:
    """The title of a figure of one slice."""
    return f"{what}: {snapshot.case}, slice {snapshot.slice_index}"


def image_title(snapshot: PicturedSlice) -> str:
    """The title of the panel that shows the image; names the channel where there are several."""
    channels = snapshot.image.shape[0]
    return "image" if channels == 1 else f"image (channel 1 of {channels})"


def point_title(unit: str, point: float) -> str:
    """A point of an attack in words, such as ``level 0.4``."""
    words = _POINT_WORDS.get(unit)
    return f"{point:g} {unit}" if words is None else words.format(point)


def valid_box(valid: np.ndarray) -> Box:
    """Rows and columns that hold anything but padding.

    Args:
        valid: False in padding, shape ``(H, W)``.

    Returns:
        Slices of rows and columns; all of them where nothing is valid.
    """
    if not valid.any():
        return slice(0, valid.shape[0]), slice(0, valid.shape[1])
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    return (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def crop(array: np.ndarray, box: Box) -> np.ndarray:
    """The part of an array ``(..., H, W)`` inside a box."""
    return array[(..., *box)]


def map_scale(maps: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The 99.9th percentile of the absolute values of some maps, outside padding.

    A single pixel does not make the rest of a picture pale.

    Args:
        maps: The maps that share the scale, each ``(H, W)`` with its valid pixels, bool, same
            shape; all pixels count where none is valid.

    Returns:
        End of the scale, above 0: the largest value where the percentile is 0, and 1 where all
        values are.
    """
    sizes = np.concatenate([np.abs(values)[valid | ~valid.any()] for values, valid in maps])
    return float(np.percentile(sizes, SCALE_PERCENTILE)) or float(sizes.max()) or 1.0


def padding_note(values: np.ndarray, box: Box, what: str) -> str:
    """How much of a map a cropped picture does not show, such as ``3% of |gradient| in padding``.

    Args:
        values: The whole map, shape ``(H, W)``.
        box: What is shown of it.
        what: The map in words.

    Returns:
        Empty where it rounds to nothing.
    """
    total = float(np.abs(values).sum())
    hidden = total - float(np.abs(crop(values, box)).sum())
    if total > 0 and hidden / total >= 0.005:  # noqa: PLR2004 - what rounds to 1 %
        return f"{hidden / total:.0%} of {what} in padding"
    return ""


def class_colors(classes: int, single: str) -> list[str]:
    """A colour for each class; ``single`` where there is one."""
    return [single] if classes == 1 else [PALETTE[k % len(PALETTE)] for k in range(classes)]


def show_image(axes: Axes, snapshot: PicturedSlice, box: Box) -> None:
    """The first channel in grey, from its darkest to its brightest pixel."""
    axes.imshow(crop(snapshot.image[0], box), cmap="gray")


def show_masks(axes: Axes, masks: np.ndarray) -> None:
    """White where there is one class; where there are several, a colour each, mixed in overlaps.

    Args:
        axes: Where to draw.
        masks: bool, shape ``(K, h, w)``.
    """
    colors = np.array([to_rgb(color) for color in class_colors(masks.shape[0], "white")])
    weights = masks.astype(float)
    total = weights.sum(axis=0)
    mixed = np.einsum("khw,kc->hwc", weights, colors) / np.maximum(total, 1.0)[..., None]
    axes.imshow(mixed, vmin=0.0, vmax=1.0)


def outline(
    axes: Axes,
    values: np.ndarray,
    *,
    color: str,
    dashed: bool = False,
    line_width: float = 1.2,
) -> None:
    """The contour at 0.5 of a map of probabilities or of a mask, closed at the image's border.

    Args:
        axes: Where to draw.
        values: In [0, 1], shape ``(h, w)``.
        color: Of the line.
        dashed: Draw dashes.
        line_width: In points.
    """
    padded = np.pad(values.astype(float), 1)
    if padded.max() <= 0.5:  # noqa: PLR2004 - the threshold of a mask; matplotlib warns otherwise
        return
    height, width = padded.shape
    axes.autoscale(enable=False)  # the closing line lies half a pixel outside of the image
    axes.contour(
        np.arange(-1, width - 1),
        np.arange(-1, height - 1),
        padded,
        levels=[0.5],
        colors=[color],
        linewidths=line_width,
        linestyles="dashed" if dashed else "solid",
    )


def class_outlines(
    axes: Axes,
    maps: np.ndarray,
    single: str,
    *,
    dashed: bool = False,
    line_width: float = 1.2,
) -> None:
    """Outlines of all classes of ``(K, h, w)``, each in its colour."""
    for values, color in zip(maps, class_colors(maps.shape[0], single), strict=True):
        outline(axes, values, color=color, dashed=dashed, line_width=line_width)


def class_key(names: Sequence[str], single: str) -> list[Line2D]:
    """Entries of a legend that name the classes by the colour of their outlines."""
    colors = class_colors(len(names), single)
    return [key_line(name, color) for name, color in zip(names, colors, strict=True)]


def key_line(label: str, color: str, *, dashed: bool = False) -> Line2D:
    """An entry of a legend for a line."""
    return Line2D([], [], color=color, linestyle="dashed" if dashed else "solid", label=label)


def names_of_classes(snapshot: PicturedSlice, class_names: Sequence[str]) -> list[str]:
    """The names of the channels of a mask; numbers where none are given.

    Raises:
        ValueError: If there are names, but not one for each class.
    """
    classes = snapshot.mask.shape[0]
    if class_names and len(class_names) != classes:
        msg = f"{len(class_names)} class names {list(class_names)} for {classes} classes"
        raise ValueError(msg)
    return list(class_names) or [f"class {index + 1}" for index in range(classes)]


def label_row(axes: Axes, label: str) -> None:
    """Write a loss beside the first panel of its row."""
    axes.set_ylabel(wrap_label(label, 12))


def blank_ticks(grid: Iterable[Axes]) -> None:
    """Take the ticks from an array of panels; pixels need no numbers, white ones need a frame."""
    for axes in grid:
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(visible=True, color=_FRAME_COLOR, linewidth=0.6)


def color_bar(
    panels: Sequence[Axes] | np.ndarray,
    cmap: str,
    limits: tuple[float, float],
    label: str,
    *,
    extend: Literal["neither", "both", "min", "max"] = "neither",
) -> None:
    """A colour bar on the right of panels that share a scale, as high as they are.

    Args:
        panels: One panel, or several one above the other.
        cmap: Name of the colour map.
        limits: Ends of the scale.
        label: What the colours are, with the unit.
        extend: Which ends hold values beyond the scale.
    """
    mappable = ScalarMappable(Normalize(*limits), cmap)
    bar = panels[0].figure.colorbar(
        mappable, ax=list(panels), extend=extend, aspect=20 * len(panels), pad=0.06
    )
    bar.set_label(label, fontsize=8)
