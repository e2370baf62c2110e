"""The claim's plot shows each run once, at its two numbers, and covers none."""

import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pictures.claim import ClaimDot, claim_figure
from pictures.style import PNG_DPI, loss_styles, to_png_bytes
from robustness.claim import ATTACK

DOTS = [
    ClaimDot("dice", 120.0, 0.31),
    ClaimDot("bce", 300.0, 0.62),
    ClaimDot("dice", 100.0, 0.35),
    ClaimDot("bce+dice", 210.0, 0.5),
    ClaimDot("bce", 280.0, 0.7),
    ClaimDot("bce", 290.0, 0.6),
]
LONG = "0.5*bce+batch_dice+asymmetric_unified_focal (outputs=softmax, gamma={})"


def drawn(dots: list[ClaimDot], title: str = "Spread against robustness") -> Figure:
    return claim_figure(dots, title=title, styles=loss_styles(dot.label for dot in dots))


def marks(axes: Axes, *, hollow: bool) -> list[Line2D]:
    return [line for line in axes.lines if (line.get_markerfacecolor() == "none") == hollow]


def points(line: Line2D) -> list[tuple[float, ...]]:
    return [tuple(point) for point in np.asarray(line.get_xydata()).tolist()]


def test_each_run_is_one_dot_in_the_colour_of_its_loss() -> None:
    (axes,) = drawn(DOTS).axes
    styles = loss_styles(dot.label for dot in DOTS)
    found = {
        (line.get_color(), line.get_marker()): points(line) for line in marks(axes, hollow=False)
    }
    assert found == {
        (styles[loss].color, styles[loss].marker): [
            (dot.spread, dot.robustness) for dot in DOTS if dot.label == loss
        ]
        for loss in ("bce", "dice", "bce+dice")
    }
    assert all(line.get_linestyle() == "None" for line in axes.lines)


def test_means_of_losses_with_several_runs_are_larger_and_hollow() -> None:
    (axes,) = drawn(DOTS).axes
    styles = loss_styles(dot.label for dot in DOTS)
    small, large = (marks(axes, hollow=hollow) for hollow in (False, True))
    bce, dice = large
    assert points(bce) == [pytest.approx((290.0, 0.64))]
    assert points(dice) == [pytest.approx((110.0, 0.33))]
    assert [line.get_markeredgecolor() for line in large] == [
        styles["bce"].color,
        styles["dice"].color,
    ]
    assert min(line.get_markersize() for line in large) > max(
        line.get_markersize() for line in small
    )


def test_axes_and_legend_say_what_is_shown() -> None:
    figure = drawn(DOTS)
    (axes,) = figure.axes
    assert "effective number of pixels" in axes.get_xlabel()
    assert axes.get_xlabel().endswith("(pixels)")
    assert axes.get_ylabel() == f"area under {ATTACK} / clean Dice (a ratio)"
    assert axes.get_title() == "Spread against robustness"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "bce",
        "dice",
        "bce+dice",
        "a run",
        "mean of a loss's runs",
    ]
    single = drawn([DOTS[0], DOTS[1]]).legends[0]
    assert [text.get_text() for text in single.get_texts()] == ["bce", "dice"]


@pytest.mark.parametrize("losses", [1, 4, 30])
def test_words_and_legend_stay_off_the_plot_and_inside(losses: int) -> None:
    dots = [
        ClaimDot(LONG.format(number), 10.0 + number * run, 0.01 * number - run)
        for number in range(losses)
        for run in range(2)
    ]
    figure = drawn(dots, "Spread of gradients against robustness to the attack of the paper: " * 2)
    figure.set_dpi(PNG_DPI)
    to_png_bytes(figure)
    (axes,), (legend,) = figure.axes, figure.legends
    plot, beside, page = axes.get_window_extent(), legend.get_window_extent(), figure.bbox
    assert plot.width > 300
    words = [axes.title, axes.xaxis.label, axes.yaxis.label]
    boxes = [text.get_window_extent() for text in words]
    assert all(box.x1 <= beside.x0 for box in [plot, *boxes])
    for box in [beside, *boxes]:
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert page.y0 <= box.y0 < box.y1 <= page.y1
    title, along, up = boxes
    assert title.y0 >= plot.y1
    assert along.y1 <= plot.y0
    assert up.x1 <= plot.x0
    inside = axes.transData.transform([(dot.spread, dot.robustness) for dot in dots])
    assert np.all(inside > (plot.x0 + 5, plot.y0 + 5))
    assert np.all(inside < (plot.x1 - 5, plot.y1 - 5))


def test_the_same_runs_give_the_same_bytes() -> None:
    assert to_png_bytes(drawn(DOTS)) == to_png_bytes(drawn(DOTS))
    assert to_png_bytes(drawn(DOTS)) != to_png_bytes(drawn(DOTS[1:]))


@pytest.mark.parametrize(
    ("dots", "found"),
    [
        ([], "no runs"),
        ([ClaimDot("bce", math.nan, 0.5)], "finite"),
        ([ClaimDot("bce", 3.0, math.inf)], "finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(dots: list[ClaimDot], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        drawn(dots)


def test_a_loss_without_a_style_is_refused() -> None:
    with pytest.raises(ValueError, match="no style for dice, found those of bce"):
        claim_figure([ClaimDot("dice", 1.0, 0.5)], title="", styles=loss_styles(["bce"]))
