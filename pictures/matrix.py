"""Matrices of Dice with a number in every cell: what stands in rows against what in columns."""

import re
from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pictures.style import figure_style

DICE_MAP = "viridis"
EMPTY_COLOR = "#D9DCE0"
MARK_COLOR = "#D55E00"

_CELL_WIDTH, _CELL_HEIGHT = 1.05, 0.5  # inches
_COLUMN_NAME, _ROW_NAME = 15, 30  # characters that fit a line beside the cells
_CHARACTER, _LINE = 0.075, 0.14  # inches of a name's text
_TITLE_CHARACTER = 0.095
_LEAST_WIDTH = 4.8
_DARK = 0.45  # luminance under which white is easier to read than black


def matrix_figure(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    sides: tuple[str, str],
    marked: np.ndarray | None = None,
    mark: str = "",
    small: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Dice in coloured cells, all matrices on the scale from 0 to 1.

    Args:
        values: Dice, shape ``(R, C)``; NaN where it was not measured.
        rows: Names of the R rows.
        columns: Names of the C columns.
        title: What is shown.
        sides: What the rows are, and what the columns are.
        marked: Cells with a thick edge, bool, shape ``(R, C)``.
        mark: What a thick edge means, for the legend.
        small: A second line in each cell, empty where there is none.

    Returns:
        The figure, as large as its names and cells need.

    Raises:
        ValueError: If names and values differ in number, or there are none.
    """
    if values.shape != (len(rows), len(columns)) or not values.size:
        msg = f"values of shape {values.shape} for {len(rows)} rows and {len(columns)} columns"
        raise ValueError(msg)
    heads = [wrap_name(name, _COLUMN_NAME) for name in columns]
    names = [wrap_name(name, _ROW_NAME) for name in rows]
    size = _size(names, heads)
    with figure_style():
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.set_facecolor(EMPTY_COLOR)
        image = axes.imshow(values, cmap=DICE_MAP, vmin=0.0, vmax=1.0, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            _write(axes, row, column, float(value), small[row][column] if small else "")
        axes.set_xticks(range(len(columns)), heads)
        axes.set_yticks(range(len(rows)), names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.hlines(np.arange(1, len(rows)) - 0.5, -0.5, len(columns) - 0.5, "white", linewidth=1)
        axes.vlines(np.arange(1, len(columns)) - 0.5, -0.5, len(rows) - 0.5, "white", linewidth=1)
        axes.set_ylabel(sides[0])
        axes.set_xlabel(sides[1])
        bar = figure.colorbar(image, ax=axes, pad=0.02, ticks=np.linspace(0.0, 1.0, 6))
        bar.set_label("mean Dice (0 to 1)")
        if marked is not None and marked.any():
            for row, column in np.argwhere(marked):
                axes.add_patch(_edge(column - 0.5, row - 0.5))
            key = Rectangle((0, 0), 1, 1, fill=False, edgecolor=MARK_COLOR, linewidth=2.5)
            figure.legend([key], [mark], loc="outside lower center", frameon=False)
        figure.suptitle(wrap_title(title, size[0]))
    return figure


def wrap_name(name: str, width: int) -> str:
    """A name broken into lines of at most ``width`` characters: after a sign, or before a bracket.

    Args:
        name: Such as ``bce+focal (outputs=softmax)``.
        width: The longest line, 2 or more.

    Returns:
        The same name with line breaks, which replace spaces where they meet.
    """
    parts = re.findall(r"\(?[^+ ,=(/]*[+ ,=/]?", name)
    lines = [""]
    for part in parts:
        fits = len(part.rstrip()) <= width
        for piece in [part] if fits else re.findall(rf"[^_]{{1,{width - 1}}}_?|_", part):
            if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def wrap_title(title: str, inches: float) -> str:
    """A figure's title broken into lines that fit its width."""
    return fill(title, max(24, int(inches / _TITLE_CHARACTER)))


def names_size(names: Sequence[str]) -> tuple[float, float]:
    """Width and height in inches that the largest of some wrapped names takes."""
    lines = [name.split("\n") for name in names]
    longest = max(len(line) for found in lines for line in found)
    return _CHARACTER * longest, _LINE * max(len(found) for found in lines)


def _size(names: Sequence[str], heads: Sequence[str]) -> tuple[float, float]:
    beside, _ = names_size(names)
    _, below = names_size(heads)
    tallest = max(_CELL_HEIGHT, _LINE * (1 + max(name.count("\n") + 1 for name in names)))
    width = max(beside + len(heads) * _CELL_WIDTH + 1.5, _LEAST_WIDTH)
    return width, max(len(names) * tallest, 1.2) + below + 1.3


def _write(axes: Axes, row: int, column: int, value: float, small: str) -> None:
    if np.isnan(value):
        axes.text(column, row, "none", color="black", ha="center", va="center")
        return
    red, green, blue, _ = colormaps[DICE_MAP](min(max(value, 0.0), 1.0))
    is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < _DARK
    color = "white" if is_dark else "black"
    number = axes.text(column, row - 0.18 * bool(small), f"{value:.3f}")
    below = axes.text(column, row + 0.22, small, fontsize=6.5)
    for text in (number, below):
        text.set(color=color, ha="center", va="center")


def _edge(left: float, top: float) -> Rectangle:
    """A thick edge inside a cell."""
    return Rectangle(
        (left + 0.025, top + 0.05), 0.95, 0.9, fill=False, edgecolor=MARK_COLOR, linewidth=2.5
    )
