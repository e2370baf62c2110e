"""The picture of the checks shows every number that was measured, and its legend covers none."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from pictures.style import PNG_DPI, loss_styles, to_png_bytes
from pictures.trust import trust_figure, trust_losses_figure
from robustness.trust import Evidence, TrustThresholds
from robustness.trust_table import curves_frame

LAYERS = ("net.head", "net.up.0", "net.down.1", "net.down.0")
LONG = "0.5*bce+batch_dice+asymmetric_unified_focal (outputs=softmax, gamma={})"
LIMIT = TrustThresholds().randomised


def made(number: int = 0, layers: Sequence[str] = LAYERS, method: str = "lime") -> pd.DataFrame:
    """Curves whose numbers tell one from another."""
    generator = np.random.default_rng(number)
    rows = [("randomised", name, generator.uniform(-1, 1), np.nan) for name in layers]
    rows += [
        (check, f"{share:g}", generator.uniform(0, 1), generator.uniform(0, 1))
        for check in ("deletion", "insertion")
        for share in np.linspace(0, 1, 6).tolist()
    ]
    return curves_frame([Evidence(method, tuple(rows))])


def panels(figure: Figure) -> tuple[Axes, Axes, Axes]:
    layers, deletion, insertion = figure.axes
    return layers, deletion, insertion


def of(curves: pd.DataFrame, check: str, column: str = "value") -> np.ndarray:
    return curves.loc[curves["check"] == check, column].to_numpy(float)


def test_layers_stand_from_the_output_down_with_the_limit() -> None:
    curves = made()
    figure = trust_figure(curves, title="lime, bce seed 0")
    axes, *_ = panels(figure)
    line, *limits = axes.lines
    np.testing.assert_array_equal(points(line)[:, 0], of(curves, "randomised"))
    np.testing.assert_array_equal(points(line)[:, 1], [1, 2, 3, 4])
    assert [points(limit)[0, 0] for limit in limits] == [-LIMIT, LIMIT]
    bottom, top = axes.get_ylim()
    assert top < 1
    assert bottom > 4
    # What all names begin with says nothing.
    assert tick_words(axes) == {1: "head", 2: "up.0", 3: "down.1", 4: "down.0"}
    assert axes.get_xlabel()
    assert "from the output down" in axes.get_ylabel()


def points(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_xydata())


def tick_words(axes: Axes) -> dict[int, str]:
    names = (label.get_text() for label in axes.get_yticklabels())
    return dict(sorted(zip((round(at) for at in axes.get_yticks()), names, strict=True)))


@pytest.mark.parametrize(("check", "place"), [("deletion", 1), ("insertion", 2)])
def test_curves_stand_beside_those_of_a_random_order(check: str, place: int) -> None:
    curves = made()
    axes = panels(trust_figure(curves, title="lime"))[place]
    found = {str(line.get_linestyle()): points(line) for line in axes.lines}
    for style, column in (("-", "value"), ("--", "by_chance")):
        np.testing.assert_allclose(found[style][:, 0], np.linspace(0, 1, 6))
        np.testing.assert_array_equal(found[style][:, 1], of(curves, check, column))
    assert "clean 1" in axes.get_ylabel()


def test_losses_have_a_line_each_in_their_colours() -> None:
    by_loss = {"dice": made(1), "bce": made(2), LONG: made(3)}
    styles = loss_styles(by_loss)
    figure = trust_losses_figure(by_loss, title="lime", styles=styles)
    for axes, check in zip(panels(figure), ("randomised", "deletion", "insertion"), strict=True):
        solid = [line for line in axes.lines if line.get_linestyle() == "-"]
        found = {str(line.get_color()): points(line)[:, 1] for line in solid}
        for loss, curves in by_loss.items():
            expected = of(curves, check) if check != "randomised" else [1, 2, 3, 4]
            np.testing.assert_array_equal(found[styles[loss].color], expected)
    (legend,) = figure.legends
    words = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
    assert words[:2] == ["bce", "dice"]
    assert f"±{LIMIT:g}" in " ".join(words)


def test_layers_are_numbered_where_networks_are_unlike() -> None:
    by_loss = {"bce": made(0), "dice": made(1, ["a.head", "a.stem"])}
    figure = trust_losses_figure(by_loss, title="lime", styles=loss_styles(by_loss))
    assert tick_words(figure.axes[0]) == {place: str(place) for place in range(1, 5)}


@pytest.mark.parametrize("count", [1, 4, 200])
def test_nothing_covers_anything_and_all_is_inside(count: int) -> None:
    layers = [f"net.block.{index}.a_rather_long_name_of_a_layer.conv" for index in range(count)]
    by_loss = {loss: made(index, layers) for index, loss in enumerate(("bce", "dice", LONG))}
    title = "lime: what its verdict rests on, medians over slices"
    figure = trust_losses_figure(by_loss, title=title, styles=loss_styles(by_loss))
    figure.set_dpi(PNG_DPI)
    to_png_bytes(figure)
    page, (legend,) = figure.bbox, figure.legends
    assert page.height < 1700
    beside = legend.get_window_extent()
    plots = [axes.get_window_extent() for axes in figure.axes]
    assert all(plot.width > 300 for plot in plots)
    ticks = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    words = [text.get_window_extent() for axes in figure.axes for text in words_of(axes)]
    assert all(box.x1 <= beside.x0 for box in (*plots, *words, *ticks))
    for box in (beside, *words, *ticks):
        assert page.x0 <= box.x0 < box.x1 <= page.x1
        assert page.y0 <= box.y0 < box.y1 <= page.y1
        assert not any(box.overlaps(plot) for plot in plots)
    ticks.sort(key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(ticks))
    # The last layer, which the verdict asks for, is always among those with a name.
    assert max(tick_words(figure.axes[0])) == count


def words_of(axes: Axes) -> list[Text]:
    found = (axes.title, axes.xaxis.label, axes.yaxis.label)
    return [text for text in found if text.get_text()]


def test_a_panel_without_a_number_says_so() -> None:
    curves = made()
    curves.loc[curves["check"] == "deletion", "value"] = np.nan
    words = [
        [text.get_text() for text in axes.texts]
        for axes in panels(trust_figure(curves, title="lime"))
    ]
    assert words == [[], ["no slice tells"], []]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="found curves of nothing, expected one method"):
        trust_figure(made().iloc[:0], title="none")
    both = pd.concat([made(), made(method="gradient")])
    with pytest.raises(ValueError, match="curves of gradient, lime, expected one method"):
        trust_figure(both, title="two")
    with pytest.raises(ValueError, match="no style for bce, found those of dice"):
        trust_losses_figure({"bce": made()}, title="bare", styles=loss_styles(["dice"]))
