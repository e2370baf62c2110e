"""Margins are read along a stated line of pixels, and the histogram counts every valid one."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from pictures.margins import HISTOGRAM_BINS, Line, centroid_line, margins_figure
from pictures.style import loss_styles, to_png_bytes
from robustness.snapshots import Snapshot
from tests.pictures.slices import HEIGHT, WIDTH, made_snapshot


def turned(snapshot: Snapshot) -> Snapshot:
    return replace(
        snapshot,
        image=snapshot.image.swapaxes(-1, -2),
        mask=snapshot.mask.swapaxes(-1, -2),
        valid=snapshot.valid.T,
        probs=snapshot.probs.swapaxes(-1, -2),
    )


def test_the_line_runs_through_the_centroid_along_the_longer_extent() -> None:
    snapshot = made_snapshot()
    # The disc is centred on row 9 and column 14 and is wider than high.
    assert centroid_line(snapshot) == Line(True, 9, 0, WIDTH)
    assert centroid_line(turned(snapshot)) == Line(False, 9, 0, WIDTH)
    empty = replace(snapshot, mask=np.zeros_like(snapshot.mask))
    assert centroid_line(empty) == Line(True, HEIGHT // 2, 0, WIDTH)


@pytest.mark.parametrize("upright", [False, True])
def test_probabilities_stand_at_their_pixels(upright: bool) -> None:
    snapshot = turned(made_snapshot()) if upright else made_snapshot()
    figure = margins_figure([("bce", snapshot)])
    across = figure.axes[0]
    (line,) = [drawn for drawn in across.lines if drawn.get_label() == "bce"]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(WIDTH))
    on_line = snapshot.probs[0, :WIDTH, 9] if upright else snapshot.probs[0, 9, :WIDTH]
    np.testing.assert_array_equal(line.get_ydata(), on_line)
    expected = "row (pixels), along column 9" if upright else "column (pixels), along row 9"
    assert across.get_xlabel() == f"{expected} (truth's centroid)"


def test_the_truth_is_shaded_where_it_lies_on_the_line() -> None:
    snapshot = made_snapshot()
    mask = snapshot.mask.copy()
    mask[0, 9, 13:15] = False
    across = margins_figure([("bce", replace(snapshot, mask=mask))]).axes[0]
    shaded = sorted(
        (
            patch.get_extents().transformed(across.transData.inverted()).x0,
            patch.get_extents().transformed(across.transData.inverted()).x1,
        )
        for patch in across.patches
    )
    on = np.flatnonzero(mask[0, 9])
    assert np.array(shaded) == pytest.approx(np.array([[on[0] - 0.5, 12.5], [14.5, on[-1] + 0.5]]))


def test_the_histogram_counts_every_pixel_that_is_no_padding() -> None:
    rows = [("bce", made_snapshot(0)), ("dice", made_snapshot(1))]
    figure = margins_figure(rows)
    steps = [patch for patch in figure.axes[1].patches if isinstance(patch, StepPatch)]
    assert len(steps) == 2
    for drawn, (_, snapshot) in zip(steps, rows, strict=True):
        inside = snapshot.probs[0][:HEIGHT, :WIDTH].astype(float).ravel()
        counted = [0] * HISTOGRAM_BINS
        for value in inside:
            counted[min(int(value * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)] += 1
        assert drawn.get_data()[0].tolist() == counted
    assert figure.axes[1].get_yscale() == "log"
    assert str(HEIGHT * WIDTH) in figure.axes[1].get_ylabel()


def test_losses_have_the_colours_that_they_are_given() -> None:
    rows = [("dice", made_snapshot())]
    styles = loss_styles(["bce", "dice"])
    figure = margins_figure(rows, styles=styles)
    (line,) = [drawn for drawn in figure.axes[0].lines if drawn.get_label() == "dice"]
    assert line.get_color() == styles["dice"].color
    assert styles["dice"] != loss_styles(["dice"])["dice"]


def test_several_classes_are_taken_together() -> None:
    snapshot = made_snapshot(classes=2)
    figure = margins_figure([("bce", snapshot)])
    (line,) = [drawn for drawn in figure.axes[0].lines if drawn.get_label() == "bce"]
    np.testing.assert_array_equal(line.get_ydata(), np.maximum(*snapshot.probs)[9, :WIDTH])
    assert figure.axes[0].get_ylabel() == "largest probability of all classes"


def test_a_slice_without_truth_says_so() -> None:
    snapshot = made_snapshot()
    figure = margins_figure([("bce", replace(snapshot, mask=np.zeros_like(snapshot.mask)))])
    assert figure.axes[0].get_xlabel().endswith("(the middle, no truth here)")
    assert not figure.axes[0].patches
    assert to_png_bytes(figure)
