"""How hard a network's margins are: probabilities along a line and their histogram."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from pictures.panels import Row, check_rows, slice_title, valid_box
from pictures.style import MUTED, LossStyle, figure_style, loss_styles, wrap_label
from robustness.snapshots import Snapshot

HISTOGRAM_BINS = 40

_TRUTH_SHADE = "#DADCE0"


@dataclass(frozen=True)
class Line:
    """A straight line of pixels through a slice.

    Attributes:
        along_rows: The line is a row of the image (horizontal), else a column.
        index: Which row or column.
        start: First pixel of the line that is no padding.
        stop: One past the last.
    """

    along_rows: bool
    index: int
    start: int
    stop: int

    def take(self, maps: np.ndarray) -> np.ndarray:
        """Values of ``(..., H, W)`` on the line, shape ``(..., n)``."""
        inside = slice(self.start, self.stop)
        if self.along_rows:
            return maps[..., self.index, inside]
        return maps[..., inside, self.index]

    def words(self) -> str:
        """The line for an axis label."""
        across, along = ("column", "row") if self.along_rows else ("row", "column")
        return f"{across} (pixels), along {along} {self.index}"


def margins_figure(rows: Sequence[Row], *, styles: Mapping[str, LossStyle] | None = None) -> Figure:
    """Probabilities across the boundary and the histogram of all, one line for each row.

    The line goes through the centroid of the truth along its longer extent. Where there are
    several classes, the probability is the largest among them and the truth their union.

    Args:
        rows: A label and a snapshot of the same slice for each row.
        styles: Colours and markers by label, to match other figures; chosen from the labels
            where None.

    Returns:
        A figure of two panels.

    Raises:
        ValueError: If there is no row, or rows are of different slices.
    """
    check_rows(rows)
    first = rows[0][1]
    line = centroid_line(first)
    with figure_style():
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        across, histogram = figure.subplots(1, 2)
        _shade_truth(across, line, first)
        styles = styles or loss_styles(label for label, _ in rows)
        positions = np.arange(line.start, line.stop)
        valid = first.valid if first.valid.any() else ~first.valid
        for label, snapshot in rows:
            probs, style = snapshot.probs.max(axis=0), styles[label]
            across.plot(
                positions,
                line.take(probs),
                color=style.color,
                marker=style.marker,
                markersize=3,
                linewidth=1.3,
                label=wrap_label(label, 24),
            )
            counts, edges = np.histogram(probs[valid], bins=HISTOGRAM_BINS, range=(0.0, 1.0))
            histogram.stairs(counts, edges, color=style.color, linewidth=1.3)
        _finish_line(across, line, first)
        _finish_histogram(histogram, first, int(valid.sum()))
        figure.suptitle(slice_title(first, "Margins"))
        figure.legend(loc="outside right upper", frameon=False)
    return figure


def centroid_line(snapshot: Snapshot) -> Line:
    """The line through the truth's centroid along its longer extent, without padding.

    Args:
        snapshot: The slice; classes are taken together.

    Returns:
        The middle row of the slice where it holds no truth.
    """
    rows, columns = valid_box(snapshot.valid)
    pixels = np.argwhere(snapshot.mask.any(axis=0))
    if not len(pixels):
        return Line(True, (rows.start + rows.stop) // 2, columns.start, columns.stop)
    height, width = np.ptp(pixels, axis=0)
    row, column = np.rint(pixels.mean(axis=0)).astype(int).tolist()
    if width >= height:
        return Line(True, row, columns.start, columns.stop)
    return Line(False, column, rows.start, rows.stop)


def _shade_truth(axes: Axes, line: Line, snapshot: Snapshot) -> None:
    on = np.pad(line.take(snapshot.mask.max(axis=0)).astype(int), 1)
    edges = np.flatnonzero(np.diff(on))
    for number, (start, stop) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        axes.axvspan(
            line.start + start - 0.5,
            line.start + stop - 0.5,
            color=_TRUTH_SHADE,
            linewidth=0,
            zorder=0,
            label="truth" if number == 0 else None,
        )


def _finish_line(axes: Axes, line: Line, snapshot: Snapshot) -> None:
    through = "truth's centroid" if snapshot.mask.any() else "the middle, no truth here"
    axes.set_xlabel(f"{line.words()} ({through})")
    axes.set_ylabel(_probability(snapshot))
    axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle="dotted", zorder=0)
    axes.set_xlim(line.start - 0.5, line.stop - 0.5)
    axes.set_ylim(-0.03, 1.03)


def _finish_histogram(axes: Axes, snapshot: Snapshot, pixels: int) -> None:
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel(_probability(snapshot))
    axes.set_ylabel(f"pixels of {pixels} (log scale)")


def _probability(snapshot: Snapshot) -> str:
    return "probability" if snapshot.mask.shape[0] == 1 else "largest probability of all classes"
