"""A sheet of pictures, one a case: the slice with the most foreground, its labels outlined."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font
from matplotlib.lines import Line2D

from datamodules.inspection_facts import SlicePicture, printable
from datamodules.inspection_picture import CT_WINDOW_HU, OTHER_MARK
from pictures.panels import blank_ticks, key_line, outline
from pictures.style import MUTED, PALETTE, TRUTH_COLOR, figure_style

Tile = tuple[str, SlicePicture]

# Inches.
_TILE = 1.9
_GAP = 0.15
_WORDS = 0.42  # two lines below a tile
_LINE = 0.19
_MARGIN = 0.12
_KEY_MARK = 0.55  # a line of the legend and the space around its entry
_NARROWEST = 4.2

_TITLE_POINTS = 11.0
_POINTS = 8.0
_OTHER_COLOR = "#FFFFFF"
_OTHER_WORDS = "not in dataset.json"
_OTHER_KEY_COLOR = "#9AA0A6"  # white would not be seen beside the legend
_ELLIPSIS = "..."


def sheet_figure(tiles: Sequence[Tile], label_names: Sequence[str], title: str) -> Figure:
    """Draw a slice of each of some cases in a grid, with outlines of the labels.

    Names are shortened to the width of their picture, so that no text stands over another.

    Args:
        tiles: Name and picture of each case.
        label_names: Names of the task's labels, in the order of the marks 1, 2, ...
        title: What the sheet shows.

    Returns:
        A figure; the rows of a slice run along the first axis of its volume, as in training.

    Raises:
        ValueError: If there is no tile.
    """
    if not tiles:
        msg = "no tiles to draw, expected one or more"
        raise ValueError(msg)
    with figure_style():
        page = _page(tiles, label_names)
        _write_head(page, title)
        for index, (name, picture) in enumerate(tiles):
            left, top = page.corner(index)
            box = (left / page.width, 1 - (top + page.tile) / page.height)
            size = (_TILE / page.width, page.tile / page.height)
            _draw(page.figure, (*box, *size), picture, label_colors(len(label_names)))
            middle, below = left + _TILE / 2, top + page.tile + _MARGIN / 3
            page.write(middle, below, fitted(name, _TILE, _POINTS), align="center")
            where = f"slice {picture.slice_index} (of 0 to {picture.depth - 1})"
            page.write(middle, below + 0.75 * _LINE, where, color=MUTED, align="center")
        page.figure.legend(
            handles=page.key,
            loc="lower center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=page.key_columns,
            frameon=False,
            fontsize=_POINTS,
            handlelength=1.5,
            columnspacing=1.5,
        )
    return page.figure


@dataclass(frozen=True)
class _Page:
    """Where everything stands, in inches from the left and from the top.

    Attributes:
        figure: What is drawn on.
        width: Of the figure.
        height: Of the figure.
        columns: Number of tiles in a row.
        tile: Height of a tile.
        words: Lines below the title.
        key: Entries of the legend.
        key_columns: Number of them in a line.
    """

    figure: Figure
    width: float
    height: float
    columns: int
    tile: float
    words: list[str]
    key: list[Line2D]
    key_columns: int

    def corner(self, index: int) -> tuple[float, float]:
        """Left and upper end of a tile."""
        row, column = divmod(index, self.columns)
        start = (self.width - _grid_width(self.columns)) / 2
        top = _head(self.words) + row * (self.tile + _WORDS)
        return start + column * (_TILE + _GAP), top

    def write(
        self,
        left: float,
        top: float,
        text: str,
        *,
        points: float = _POINTS,
        color: str = "black",
        align: Literal["left", "center"] = "left",
    ) -> None:
        """Write a line of text below a place."""
        place = (left / self.width, 1 - top / self.height)
        self.figure.text(*place, text, fontsize=points, color=color, ha=align, va="top")


def _page(tiles: Sequence[Tile], label_names: Sequence[str]) -> _Page:
    columns = math.ceil(math.sqrt(len(tiles)))
    inner = max(_grid_width(columns), _NARROWEST)
    # As high as the flattest slices allow.
    shapes = [picture.gray.shape for _, picture in tiles]
    tile = _TILE * max(min(1.0, height / width) for height, width in shapes)
    words = _wrapped(_explanation(tiles), inner, _POINTS)
    names = [fitted(name, _TILE, _POINTS) for name in label_names]
    key = [
        key_line(name, color) for name, color in zip(names, label_colors(len(names)), strict=True)
    ]
    if any((picture.marks == OTHER_MARK).any() for _, picture in tiles):
        names.append(_OTHER_WORDS)
        key.append(key_line(_OTHER_WORDS, _OTHER_KEY_COLOR, dashed=True))
    entry = max(text_inches(name, _POINTS) for name in names) + _KEY_MARK
    key_columns = max(1, min(len(names), int(inner / entry)))
    foot = 2 * _MARGIN + 0.95 * _LINE * math.ceil(len(names) / key_columns)
    width = inner + 2 * _MARGIN
    height = _head(words) + math.ceil(len(tiles) / columns) * (tile + _WORDS) + foot
    figure = Figure(figsize=(width, height))
    return _Page(figure, width, height, columns, tile, words, key, key_columns)


def _grid_width(columns: int) -> float:
    return columns * (_TILE + _GAP) - _GAP


def _head(words: Sequence[str]) -> float:
    return 1.5 * _MARGIN + _LINE * (1.4 + len(words))


def _write_head(page: _Page, title: str) -> None:
    text = fitted(title, page.width - 2 * _MARGIN, _TITLE_POINTS)
    page.write(_MARGIN, _MARGIN, text, points=_TITLE_POINTS)
    for index, line in enumerate(page.words):
        page.write(_MARGIN, _MARGIN + _LINE * (1.4 + index), line, color=MUTED)


def label_colors(count: int) -> list[str]:
    """A colour for each label: of the house where they suffice, of the rainbow for more."""
    if count == 1:
        return [TRUTH_COLOR]
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    rainbow = matplotlib.colormaps["gist_rainbow"]
    return [to_hex(rainbow(index / (count - 1))) for index in range(count)]


def fitted(text: str, inches: float, points: float) -> str:
    """Text that is no wider than some length: its middle goes where it is too long.

    Args:
        text: Any text; what is not printable or the font has not becomes an escape.
        inches: The width.
        points: Size of the letters.
    """
    font = _font(points)
    text = "".join(
        letter
        if font.get_char_index(ord(letter))
        else letter.encode("unicode_escape").decode("ascii")
        for letter in printable(text)
    )
    kept = len(text)
    short = text
    while kept and text_inches(short, points) > inches:
        kept -= 1
        short = text[: kept // 2] + _ELLIPSIS + text[len(text) - (kept - kept // 2) :]
    return short


def text_inches(text: str, points: float) -> float:
    """Width of a line of text in inches."""
    font = _font(points)
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 / 72


def _font(points: float) -> FT2Font:
    font = get_font(findfont(FontProperties(family=matplotlib.rcParams["font.family"])))
    font.set_size(points, 72)
    return font


def _explanation(tiles: Sequence[Tile]) -> str:
    are_ct = {picture.is_ct for _, picture in tiles}
    grays = {
        True: f"CT from {CT_WINDOW_HU[0]:g} to {CT_WINDOW_HU[1]:g} HU",
        False: "from the 1st to the 99th percentile of the volume",
    }
    gray = ", others ".join(grays[is_ct] for is_ct in sorted(are_ct, reverse=True))
    return f"The slice with the most foreground, as it lies in the file. Grey: {gray}."


def _wrapped(text: str, inches: float, points: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_inches(longer, points) > inches:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _draw(
    figure: Figure,
    place: tuple[float, float, float, float],
    picture: SlicePicture,
    colors: Sequence[str],
) -> None:
    axes = figure.add_axes(place, anchor="S")
    axes.imshow(picture.gray, cmap="gray", vmin=0, vmax=255)
    blank_ticks([axes])
    for mark in np.unique(picture.marks[picture.marks > 0]):
        is_other = mark == OTHER_MARK
        color = _OTHER_COLOR if is_other else colors[mark - 1]
        outline(axes, picture.marks == mark, color=color, dashed=bool(is_other))
