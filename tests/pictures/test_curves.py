"""Dice curves show the numbers they are given, from 0 to 1, with the legend beside them."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from pictures.curves import Curve, axis_words, curves_figure
from pictures.style import loss_styles, to_png_bytes

POINTS = np.array([1.0, 10.0, 50.0])


def curve(label: str, shift: float = 0.0, **more: np.ndarray | float) -> Curve:
    dice = np.array([0.85, 0.6, 0.3]) - shift
    return Curve(label, POINTS, dice, dice - 0.05, dice + 0.05, **more)  # type: ignore[arg-type]


def figure_of(*curves: Curve, bars: str | None = None) -> Figure:
    return curves_figure(
        curves,
        title="Figure 5",
        axis_label=axis_words("pixels"),
        volumes=40,
        band="95 % over volumes",
        bars=bars,
    )


def test_lines_and_bands_are_those_of_the_losses() -> None:
    curves = [curve("bce"), curve("dice", 0.1)]
    axes = figure_of(*curves).axes[0]
    styles = loss_styles(["bce", "dice"])
    lines = [line for line in axes.lines if line.get_marker() not in {"None", ""}]
    bands = [artist for artist in axes.collections if isinstance(artist, PolyCollection)]
    assert len(lines) == len(bands) == 2
    for line, band, drawn in zip(lines, bands, curves, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), POINTS)
        np.testing.assert_array_equal(line.get_ydata(), drawn.dice)
        assert line.get_color() == styles[drawn.label].color
        corners = np.asarray(band.get_paths()[0].vertices)
        for point, low, high in zip(POINTS, drawn.low, drawn.high, strict=True):  # type: ignore[arg-type]
            at = corners[corners[:, 0] == point, 1]
            assert (at.min(), at.max()) == pytest.approx((low, high))
    assert axes.get_ylim() == (0, 1)
    assert axes.get_ylabel() == "mean Dice over 40 volumes"
    assert axes.get_xlabel() == "pixels replaced in each slice"


def test_controls_are_dashed_and_clean_dice_is_dotted() -> None:
    control = np.array([0.88, 0.87, 0.86])
    figure = figure_of(curve("bce", control=control, clean=0.9))
    (dashed,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    (dotted,) = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    np.testing.assert_array_equal(dashed.get_ydata(), control)
    assert list(dotted.get_ydata()) == [0.9, 0.9]  # type: ignore[arg-type]
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert key == ["bce", "no attack", "control: random pixels", "95 % over volumes"]


def test_error_bars_end_where_they_are_told() -> None:
    low, high = np.array([0.8, 0.5, 0.1]), np.array([0.9, 0.65, 0.4])
    figure = figure_of(curve("bce", bar_low=low, bar_high=high), bars="95 % over seeds")
    (container,) = figure.axes[0].containers
    (segments,) = container[2]
    ends = np.array([[end[1] for end in segment] for segment in segments.get_segments()])
    np.testing.assert_allclose(ends, np.stack([low, high], axis=1))
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert key == ["bce", "95 % over volumes", "95 % over seeds"]


@pytest.mark.parametrize("losses", [2, 4, 9])
def test_error_bars_of_losses_stand_beside_each_other(losses: int) -> None:
    low, high = np.array([0.8, 0.5, 0.1]), np.array([0.9, 0.65, 0.4])
    same = [curve(f"loss {at}", bar_low=low, bar_high=high) for at in range(losses)]
    figure = figure_of(*same, bars="95 % over seeds")
    to_png_bytes(figure)
    axes = figure.axes[0]
    places = [
        container[2][0].get_transform().transform((same[0].points[0], 0.5))[0]
        for container in axes.containers
    ]
    apart = np.diff(places) * 72 / figure.dpi
    assert (apart >= 1.9).all()
    assert apart.sum() <= 16.1
    middle = axes.transData.transform((same[0].points[0], 0.5))[0]
    assert np.mean(places) == pytest.approx(middle)


def test_the_legend_never_covers_the_curves() -> None:
    labels = [f"0.5*bce+batch_dice+focal(gamma={number})" for number in range(8)]
    figure = figure_of(*(curve(label, 0.01 * index) for index, label in enumerate(labels)))
    to_png_bytes(figure)
    legend = figure.legends[0].get_window_extent()
    axes = figure.axes[0].get_window_extent()
    assert axes.x1 <= legend.x0
    assert axes.width > 200


def test_no_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="no curves"):
        figure_of()


@pytest.mark.parametrize(
    ("axis", "max_pixel", "words"),
    [
        ("level", None, "level of the replaced pixels (image units)"),
        ("level", 0.2, "level of the replaced pixels (image units, 0.2 = brightest)"),
        ("pixels", 0.2, "pixels replaced in each slice"),
        ("epsilon", None, "epsilon (image units)"),
    ],
)
def test_axes_are_put_in_words(axis: str, max_pixel: float | None, words: str) -> None:
    assert axis_words(axis, max_pixel) == words
