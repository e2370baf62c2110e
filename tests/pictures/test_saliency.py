"""Figure 1 shows the gradient as it is, on a scale that is written beside it."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pictures.saliency import GRADIENT_UNIT, gradient_scale, saliency_figure
from pictures.style import to_png_bytes
from robustness.snapshots import Snapshot
from tests.pictures.slices import HEIGHT, WIDTH, cropped, made_snapshot


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images]


def bars(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_ylabel() == GRADIENT_UNIT]


def scaled(snapshot: Snapshot, factor: float) -> Snapshot:
    return replace(snapshot, gradient=factor * snapshot.gradient)


def test_a_row_shows_image_truth_gradient_and_its_positive_part() -> None:
    snapshot = made_snapshot()
    image, truth, signed, positive = panels(saliency_figure([("bce", snapshot)]))
    gradient = cropped(snapshot.gradient[0])
    np.testing.assert_array_equal(image.images[0].get_array(), cropped(snapshot.image[0]))
    shown = np.asarray(truth.images[0].get_array())[..., 0]
    np.testing.assert_array_equal(shown, cropped(snapshot.mask[0]))
    np.testing.assert_array_equal(signed.images[0].get_array(), gradient)
    np.testing.assert_array_equal(positive.images[0].get_array(), np.maximum(gradient, 0))
    assert image.get_ylabel() == "bce"


def test_grey_is_zero_and_both_scales_end_at_the_percentile() -> None:
    snapshot = made_snapshot()
    figure = saliency_figure([("bce", snapshot)])
    _, _, signed, positive = panels(figure)
    inside = np.sort(np.abs(cropped(snapshot.gradient[0])).ravel())
    # Linear interpolation between order statistics, as numpy's percentile is defined.
    position = 0.999 * (HEIGHT * WIDTH - 1)
    low = int(position)
    end = inside[low] + (position - low) * (inside[low + 1] - inside[low])
    assert signed.images[0].get_clim() == pytest.approx((-end, end))
    assert positive.images[0].get_clim() == pytest.approx((0, end))
    ranges = sorted(axes.get_ylim() for axes in bars(figure))
    assert ranges == [pytest.approx((-end, end)), pytest.approx((0, end))]


def test_rows_of_a_comparison_have_one_scale_and_one_pair_of_bars() -> None:
    weak = made_snapshot()
    rows = [("bce", weak), ("dice", scaled(weak, 10)), ("bce+dice", scaled(weak, 2))]
    shared = saliency_figure(rows, shared_scale=True)
    limits = {axes.images[0].get_clim() for axes in panels(shared)[2::4]}
    end = gradient_scale([snapshot for _, snapshot in rows])
    assert limits == {(-end, end)}
    assert len(bars(shared)) == 2

    own = saliency_figure(rows)
    ends = [axes.images[0].get_clim()[1] for axes in panels(own)[2::4]]
    assert ends == pytest.approx([ends[0], 10 * ends[0], 2 * ends[0]])
    assert len(bars(own)) == 6


def test_padding_neither_sets_the_scale_nor_is_hidden_in_silence() -> None:
    snapshot = made_snapshot()
    gradient = np.where(snapshot.valid, 0.5, 100.0)[None].astype(np.float32)
    figure = saliency_figure([("bce", replace(snapshot, gradient=gradient))])
    _, _, signed, positive = panels(figure)
    assert np.asarray(signed.images[0].get_array()).shape == (HEIGHT, WIDTH)
    assert signed.images[0].get_clim() == (-0.5, 0.5)
    inside = 0.5 * HEIGHT * WIDTH
    hidden = 100.0 * (32 * 32 - HEIGHT * WIDTH)
    assert positive.get_xlabel().startswith(f"{hidden / (hidden + inside):.0%} of")


def test_the_bars_of_one_row_are_as_high_as_its_panels() -> None:
    figure = saliency_figure([("bce", made_snapshot())])
    to_png_bytes(figure)
    panel = panels(figure)[2].get_window_extent()
    for bar in bars(figure):
        unit = bar.yaxis.label.get_window_extent()
        # Open ends stand above and below the bar, inside of the panel's height.
        assert panel.y0 - 0.5 <= bar.get_window_extent().y0
        assert bar.get_window_extent().y1 <= panel.y1 + 0.5
        assert panel.y0 <= unit.y0
        assert unit.y1 <= panel.y1


def test_panels_of_all_columns_have_one_size() -> None:
    for shared in (False, True):
        rows = [("bce", made_snapshot(0)), ("dice", made_snapshot(1))]
        figure = saliency_figure(rows, shared_scale=shared)
        to_png_bytes(figure)
        sizes = np.array([axes.get_window_extent().size for axes in panels(figure)])
        np.testing.assert_allclose(sizes, sizes[:1].repeat(8, axis=0), atol=1)


def test_a_gradient_of_zero_is_drawn() -> None:
    snapshot = made_snapshot()
    figure = saliency_figure([("bce", scaled(snapshot, 0))])
    assert panels(figure)[2].images[0].get_clim() == (-1, 1)
    assert to_png_bytes(figure)


def test_several_channels_and_classes_are_named() -> None:
    figure = saliency_figure(
        [("bce", made_snapshot(classes=2, channels=4))], class_names=["front", "back"]
    )
    titles = [axes.get_title() for axes in panels(figure)]
    assert titles[0] == "image (channel 1 of 4)"
    assert titles[2] == "gradient (channel 1)"
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert key[:2] == ["outline of the truth, front", "outline of the truth, back"]


def test_rows_of_different_slices_are_refused() -> None:
    snapshot = made_snapshot()
    with pytest.raises(ValueError, match="different slices"):
        saliency_figure([("bce", snapshot), ("dice", replace(snapshot, slice_index=1))])
