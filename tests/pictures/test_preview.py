"""Small pictures show what the whole figures do, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from pictures.preview import saliency_preview, shrinking_preview
from pictures.saliency import gradient_scale
from pictures.style import to_png_bytes
from tests.pictures.slices import HEIGHT, WIDTH, cropped, made_snapshot


def test_saliency_is_the_positive_gradient_on_the_scale_of_figure_1() -> None:
    snapshot = made_snapshot()
    figure = saliency_preview(snapshot)
    (axes,) = figure.axes
    shown = np.maximum(cropped(snapshot.gradient[0]), 0)
    np.testing.assert_array_equal(axes.images[0].get_array(), shown)
    assert axes.images[0].get_clim() == pytest.approx((0, gradient_scale([snapshot])))
    assert axes.lines or axes.collections or axes.patches
    assert np.divide(*figure.get_size_inches()) == pytest.approx(WIDTH / HEIGHT)


@pytest.mark.parametrize("points", [1, 3, 8, 20])
def test_shrinking_goes_from_clean_to_the_last_point_in_at_most_nine_panels(points: int) -> None:
    snapshot = made_snapshot()
    attacked = np.linspace(0, 1, points, dtype=np.float32)[:, None, None, None]
    attacked = np.broadcast_to(attacked, (points, *snapshot.probs.shape)).copy()
    many = replace(snapshot, points=np.arange(points) / 10, attacked_probs=attacked)
    panels = shrinking_preview(many).axes
    assert len(panels) == min(points + 1, 9)
    first, last = panels[0].images[0].get_array(), panels[-1].images[0].get_array()
    np.testing.assert_array_equal(first, cropped(snapshot.probs.max(axis=0)))
    np.testing.assert_array_equal(last, cropped(attacked[-1].max(axis=0)))
    left, top = panels[0].get_position().x0, panels[0].get_position().y1
    assert (left, top) == pytest.approx((0, 1))


def test_nothing_but_panels_is_drawn_and_the_same_bytes_each_time() -> None:
    snapshot = made_snapshot()
    for draw in (saliency_preview, shrinking_preview):
        figure = draw(snapshot)
        assert not figure.texts
        assert not figure.legends
        assert all(not axes.axison and not axes.get_title() for axes in figure.axes)
        assert to_png_bytes(draw(snapshot)) == to_png_bytes(figure)
