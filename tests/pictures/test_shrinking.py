"""Figure 4 shows the probabilities of every point on one scale from 0 to 1."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.contour import QuadContourSet

from pictures.shrinking import shrinking_figure
from pictures.style import to_png_bytes
from tests.pictures.slices import LEVELS, cropped, made_snapshot


def test_each_point_has_its_probabilities_and_its_title() -> None:
    rows = [("bce", made_snapshot(0)), ("dice", made_snapshot(1))]
    figure = shrinking_figure(rows)
    panels = [axes for axes in figure.axes if axes.images]
    columns = 1 + len(LEVELS)
    assert len(panels) == 2 * columns
    titles = [axes.get_title() for axes in panels[:columns]]
    assert titles == ["clean", "level 0", "level 0.4", "level 1"]
    for number, (label, snapshot) in enumerate(rows):
        row = panels[number * columns : (number + 1) * columns]
        assert row[0].get_ylabel() == label
        for axes, probs in zip(row, [snapshot.probs, *snapshot.attacked_probs], strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), cropped(probs[0]))
            assert axes.images[0].get_clim() == (0, 1)
    assert "top5_beyond_range" in figure.get_suptitle()
    assert "case_007, slice 12" in figure.get_suptitle()


def test_contours_are_those_of_prediction_and_truth() -> None:
    snapshot = made_snapshot()
    gone = replace(snapshot, attacked_probs=0.4 * np.ones_like(snapshot.attacked_probs))
    figure = shrinking_figure([("bce", gone)])
    counts = [
        sum(isinstance(artist, QuadContourSet) for artist in axes.collections)
        for axes in figure.axes
        if axes.images
    ]
    assert counts == [2, 1, 1, 1]
    assert to_png_bytes(figure)


def test_several_classes_show_the_largest_probability() -> None:
    snapshot = made_snapshot(classes=2)
    figure = shrinking_figure([("bce", snapshot)], class_names=["front", "back"])
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown, cropped(np.maximum(*snapshot.probs)))
    (label,) = [axes.yaxis.label for axes in figure.axes if axes.get_ylabel().startswith("largest")]
    assert label.get_text().split() == ["largest", "probability", "of", "all", "classes"]
    to_png_bytes(figure)
    inside, page = label.get_window_extent(), figure.get_window_extent()
    assert page.y0 <= inside.y0
    assert inside.y1 <= page.y1
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert key == ["truth", "prediction (p = 0.5)", "front", "back"]


def test_rows_of_different_attacks_or_points_are_refused() -> None:
    snapshot = made_snapshot()
    others = (
        replace(snapshot, attack="topn_at_max"),
        made_snapshot(levels=(0.0, 0.4, 0.8)),
    )
    for other in others:
        with pytest.raises(ValueError, match="different attacks or points"):
            shrinking_figure([("bce", snapshot), ("dice", other)])
