"""What networks look at: one method's maps loss by loss, and all methods by loss.

Maps that are compared share a scale. Of several channels the first is shown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pictures.matrix import EMPTY_COLOR, MARK_COLOR, names_size, wrap_name, wrap_title
from pictures.panels import (
    SCALE_PERCENTILE,
    Box,
    blank_ticks,
    check_rows,
    class_key,
    class_outlines,
    color_bar,
    crop,
    image_title,
    key_line,
    map_scale,
    names_of_classes,
    padding_note,
    show_image,
    slice_title,
    valid_box,
)
from pictures.style import MUTED, PREDICTION_COLOR, TRUTH_COLOR, figure_style
from robustness.pictured import SliceMaps

SIGNED_MAP = "RdBu_r"
POSITIVE_MAP = "Reds"
MARK_SIGN = "✗"
# How the words of a failure begin; others say that a method was not checked, or on what.
FAILURE = "fails"

_LARGE, _SMALL = 1.7, 1.3  # inches of a panel's longer side
_LEAST = 1.0  # inches of its shorter side: room for the words beside and above it
_CHARACTER, _SMALL_CHARACTER, _BOLD_CHARACTER = 0.078, 0.07, 0.085  # inches
_LINE, _GAP = 0.15, 0.12  # inches
_NAME = 16  # characters beside a row
_THIN = 0.9  # points of an outline that must not hide the map under it


@dataclass(frozen=True)
class _Scale:
    """What the colours of all maps by one method mean."""

    end: float
    signed: bool
    unit: str

    @property
    def cmap(self) -> str:
        return SIGNED_MAP if self.signed else POSITIVE_MAP

    @property
    def limits(self) -> tuple[float, float]:
        return (-self.end if self.signed else 0.0), self.end

    @property
    def extend(self) -> Literal["both", "max"]:
        return "both" if self.signed else "max"


def maps_figure(
    rows: Sequence[tuple[str, SliceMaps]],
    method: str,
    *,
    marks: Mapping[str, str] = {},
    class_names: Sequence[str] = (),
) -> Figure:
    """Image, outlines of truth and prediction, map, and the map over the image.

    The scale is one for all rows and ends at the 99.9th percentile of the absolute values outside
    padding. Over the image, a map is the less opaque the nearer it is to 0.

    Args:
        rows: A label and maps of the same slice for each row; one row for a single run.
        method: Whose maps are shown; panels of a row without it say ``none``.
        marks: By label, in words, which checks the method fails there; empty for none.
        class_names: Names of the K classes, for the legend.

    Returns:
        A figure of four columns and a colour bar.

    Raises:
        ValueError: If there is no row, rows are of different slices or explain different things,
            no row has the method, or its units differ.
    """
    _check(rows)
    first, box = rows[0][1], valid_box(rows[0][1].valid)
    names = names_of_classes(first, class_names)
    scale = _scale([one for _, one in rows], method)
    labels = [wrap_name(label, _NAME) for label, _ in rows]
    panel = _panel_inches(first, box, _LARGE)
    said = [_mark_words(marks.get(label, ""), panel[1]) for label, _ in rows]
    channel = "" if first.image.shape[0] == 1 else " (channel 1)"
    heads = ["truth and prediction", f"map{channel}", f"overlay{channel}"]
    titles = _titles([image_title(first), *heads], panel[1])
    single = len(names) == 1
    key = [
        key_line("truth", TRUTH_COLOR if single else "black"),
        key_line("prediction (p = 0.5)", PREDICTION_COLOR if single else "black", dashed=True),
        *([] if single else class_key(names, TRUTH_COLOR)),
        _note(f"scale ends at percentile {SCALE_PERCENTILE:g} of |map|"),
    ]
    with figure_style():
        notes = sum(max(2, _lines(words)) for words in said)
        title = slice_title(first, f"{method}, explaining the {first.explained}")
        figure, grid = _grid(title, panel, labels, titles, key, notes)
        for panels, (_, one), words in zip(grid, rows, said, strict=True):
            show_image(panels[0], one, box)
            show_image(panels[1], one, box)
            class_outlines(panels[1], crop(one.mask, box), TRUTH_COLOR)
            class_outlines(panels[1], crop(one.probs, box), PREDICTION_COLOR, dashed=True)
            _show_map(panels[2], one, method, box, scale)
            _show_overlay(panels[3], one, method, box, scale)
            _add_mark(panels[2:], words)
        unit = _fitting(scale.unit, len(rows) * panel[0])
        color_bar(grid[:, 3], scale.cmap, scale.limits, unit, extend=scale.extend)
    return figure


def maps_grid(
    columns: Sequence[tuple[str, SliceMaps]],
    *,
    marks: Mapping[tuple[str, str], str] = {},
    class_names: Sequence[str] = (),
) -> Figure:
    """All methods by label: a row a method with one scale, a column a label.

    Scales end as in :func:`maps_figure`.

    Args:
        columns: A label and maps of the same slice for each column.
        marks: By label and method, in words, which checks the method fails there.
        class_names: Names of the K classes, for the legend.

    Returns:
        A figure whose first column is the image with outlines of the truth; panels of methods
        that a label's maps do not hold say ``none``.

    Raises:
        ValueError: If there is no column or no method, columns are of different slices or explain
            different things, or the units of a method differ.
    """
    _check(columns)
    first, box = columns[0][1], valid_box(columns[0][1].valid)
    names = names_of_classes(first, class_names)
    slices = [one for _, one in columns]
    methods = list(dict.fromkeys(str(name) for one in slices for name in one.methods))
    if not methods:
        msg = "the columns hold no maps, expected those of one method or more"
        raise ValueError(msg)
    scales = [_scale(slices, method) for method in methods]
    panel = _panel_inches(first, box, _SMALL)
    said = [
        [_mark_words(marks.get((label, method), ""), panel[1]) for label, _ in columns]
        for method in methods
    ]
    single = len(names) == 1
    outlines = [f"truth{'' if single else f', {name}'}" for name in names]
    channel = "" if first.image.shape[0] == 1 else ", maps are of channel 1"
    key = [
        *class_key(outlines, TRUTH_COLOR),
        _note(f"scales end at percentile {SCALE_PERCENTILE:g} of |map|{channel}"),
    ]
    with figure_style():
        labels = [wrap_name(method, _NAME) for method in methods]
        titles = _titles([image_title(first), *(label for label, _ in columns)], panel[1])
        notes = sum(max(map(_lines, row)) for row in said)
        title = slice_title(first, f"Maps explaining the {first.explained}")
        figure, grid = _grid(title, panel, labels, titles, key, notes)
        for panels, method, scale, row in zip(grid, methods, scales, said, strict=True):
            show_image(panels[0], first, box)
            class_outlines(panels[0], crop(first.mask, box), TRUTH_COLOR)
            for axes, one, words in zip(panels[1:], slices, row, strict=True):
                _show_map(axes, one, method, box, scale)
                class_outlines(axes, crop(one.mask, box), TRUTH_COLOR, line_width=_THIN)
                _add_mark([axes], words)
            unit = _fitting(scale.unit, panel[0])
            color_bar(panels[-1:], scale.cmap, scale.limits, unit, extend=scale.extend)
    return figure


def _check(rows: Sequence[tuple[str, SliceMaps]]) -> None:
    check_rows(rows)
    explained = sorted({one.explained for _, one in rows})
    if len(explained) > 1:
        msg = f"maps explain different things {explained}, expected one"
        raise ValueError(msg)


def _index(one: SliceMaps, method: str) -> int | None:
    """Where the maps of a slice hold a method."""
    found = np.flatnonzero(one.methods == method)
    return int(found[0]) if len(found) else None


def _scale(slices: Sequence[SliceMaps], method: str) -> _Scale:
    found = [(one, index) for one in slices if (index := _index(one, method)) is not None]
    if not found:
        known = sorted({str(name) for one in slices for name in one.methods})
        msg = f"no maps by {method!r}, expected one of {', '.join(known) or 'none'}"
        raise ValueError(msg)
    units = sorted({str(one.units[index]) for one, index in found})
    if len(units) > 1:
        msg = f"maps by {method} are in different units {units}, expected one"
        raise ValueError(msg)
    end = map_scale((one.maps[index, 0], one.valid) for one, index in found)
    return _Scale(end, any(bool(one.signed[index]) for one, index in found), units[0])


def _show_map(axes: Axes, one: SliceMaps, method: str, box: Box, scale: _Scale) -> None:
    index = _index(one, method)
    if index is None:
        _show_none(axes, one, box)
        return
    values = crop(one.maps[index, 0], box)
    axes.imshow(values, cmap=scale.cmap, vmin=scale.limits[0], vmax=scale.end)


def _show_overlay(axes: Axes, one: SliceMaps, method: str, box: Box, scale: _Scale) -> None:
    index = _index(one, method)
    if index is None:
        _show_none(axes, one, box)
        return
    values = crop(one.maps[index, 0], box)
    opacity = np.sqrt(np.minimum(np.abs(values) / scale.end, 1.0))
    show_image(axes, one, box)
    axes.imshow(values, cmap=scale.cmap, vmin=scale.limits[0], vmax=scale.end, alpha=opacity)
    class_outlines(axes, crop(one.mask, box), TRUTH_COLOR, line_width=_THIN)
    notes = [
        f"largest |map| {np.abs(values).max():.3g}",
        padding_note(one.maps[index, 0], box, "|map|"),
    ]
    axes.set_xlabel("\n".join(filter(None, notes)), color=MUTED, fontsize=8)


def _show_none(axes: Axes, one: SliceMaps, box: Box) -> None:
    """A blank panel as large as the others."""
    height, width = crop(one.valid, box).shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    axes.set_facecolor(EMPTY_COLOR)
    axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center")


def _mark_words(words: str, inches: float) -> str:
    """A mark in lines; a failure has a sign beside its colour, other words are words."""
    sign = f"{MARK_SIGN} " if words.startswith(FAILURE) else ""
    return wrap_name(f"{sign}{words}", int(inches / _BOLD_CHARACTER)) if words else ""


def _add_mark(panels: Sequence[Axes] | np.ndarray, words: str) -> None:
    """Say under the first panel of a map what is known of it; frame all where it failed a check."""
    if not words:
        return
    if not words.startswith(MARK_SIGN):
        panels[0].set_xlabel(words, color=MUTED, fontsize=8)
        return
    panels[0].set_xlabel(words, color=MARK_COLOR, fontsize=8, weight="bold")
    for axes in panels:
        for spine in axes.spines.values():
            spine.set(color=MARK_COLOR, linewidth=2)


def _grid(
    title: str,
    panel: tuple[float, float],
    labels: Sequence[str],
    titles: Sequence[str],
    key: Sequence[Line2D],
    notes: int,
) -> tuple[Figure, np.ndarray]:
    """Empty panels, and room for the words around them: the layout does not make any.

    Args:
        title: Of the figure.
        panel: Height and width of a panel in inches.
        labels: Beside the rows, wrapped.
        titles: Over the columns, wrapped.
        key: Entries of the legend.
        notes: Lines under the panels of all rows together.
    """
    rows, columns = len(labels), len(titles)
    width = columns * (panel[1] + _GAP) + names_size(labels)[0] + 1.5
    head = wrap_title(title, width)
    across = _entries_in_line(key, width)
    entries = math.ceil(len(key) / across)
    words = 0.2 * (_lines(head) + entries) + names_size(titles)[1] + notes * _LINE + 0.85
    height = rows * (panel[0] + _GAP + 0.1) + words
    figure = Figure(figsize=(width, height), layout="compressed")
    grid = figure.subplots(rows, columns, squeeze=False)
    blank_ticks(grid.flat)
    for axes, label in zip(grid[:, 0], labels, strict=True):
        axes.set_ylabel(label, rotation=0, ha="right", va="center")
    for axes, column in zip(grid[0], titles, strict=True):
        axes.set_title(column)
    figure.suptitle(head)
    figure.legend(handles=key, loc="outside lower center", ncols=across, frameon=False)
    return figure, grid


def _entries_in_line(key: Sequence[Line2D], inches: float) -> int:
    """How many entries of a legend stand side by side."""
    entries = [_CHARACTER * len(str(line.get_label())) + 0.6 for line in key]
    return len(entries) if sum(entries) <= inches else max(1, int(inches / max(entries)))


def _lines(words: str) -> int:
    return len(words.splitlines())


def _panel_inches(one: SliceMaps, box: Box, longer: float) -> tuple[float, float]:
    """Height and width of a panel, neither of them too small for the words around it."""
    height, width = crop(one.valid, box).shape
    scale = max(longer / max(height, width), _LEAST / min(height, width))
    return height * scale, width * scale


def _titles(titles: Sequence[str], inches: float) -> list[str]:
    return [wrap_name(title, int(inches / _CHARACTER)) for title in titles]


def _fitting(unit: str, inches: float) -> str:
    """The unit in lines that fit along a colour bar."""
    return fill(unit, max(12, int(inches / _SMALL_CHARACTER)), break_long_words=False)


def _note(words: str) -> Line2D:
    return Line2D([], [], linestyle="none", label=words)
