"""Every cell says its Dice, on one scale, and nothing that is written leaves the picture."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pictures.matrix import matrix_figure, wrap_name
from pictures.style import PNG_DPI, to_png_bytes

LONG = "bce+batch_dice+focal (outputs=softmax, class_weights=median_frequency)"
SIDES = ("made on", "counted on")


def panel(figure: Figure) -> Axes:
    (axes,) = [axes for axes in figure.axes if axes.images]
    return axes


def cells(figure: Figure) -> list[tuple[tuple[int, int], str]]:
    """What is written in each cell, from the left and the top."""
    return [
        ((round(text.get_position()[1]), round(text.get_position()[0])), text.get_text())
        for text in panel(figure).texts
        if text.get_text()
    ]


def test_each_cell_has_its_number_and_the_names_of_its_row_and_column() -> None:
    values = np.array([[0.0, 0.5, 1.0], [0.1234, np.nan, 0.9999]])
    figure = matrix_figure(values, ["a", "b"], ["x", "y", "z"], title="Dice", sides=SIDES)
    assert dict(cells(figure)) == {
        **{(0, 0): "0.000", (0, 1): "0.500", (0, 2): "1.000"},
        **{(1, 0): "0.123", (1, 1): "none", (1, 2): "1.000"},
    }
    axes = panel(figure)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["x", "y", "z"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == SIDES
    assert axes.images[0].get_clim() == (0.0, 1.0)
    (bar,) = [other for other in figure.axes if other is not axes]
    assert bar.get_ylabel() == "mean Dice (0 to 1)"


def test_numbers_are_dark_on_light_cells_and_light_on_dark_ones() -> None:
    values = np.array([[0.0, 0.2, 0.8, 1.0]])
    figure = matrix_figure(values, ["a"], list("wxyz"), title="Dice", sides=SIDES)
    shown = [to_hex(text.get_color()) for text in panel(figure).texts if text.get_text()]
    assert shown == ["#ffffff", "#ffffff", "#000000", "#000000"]


def test_marked_cells_alone_are_framed_and_the_legend_says_why() -> None:
    marked = np.array([[True, False], [False, True]])
    figure = matrix_figure(
        np.full((2, 2), 0.5), list("ab"), list("xy"), title="", sides=SIDES, marked=marked, mark="!"
    )
    frames = [patch for patch in panel(figure).patches if isinstance(patch, Rectangle)]
    centres = [np.round(frame.get_center()).tolist() for frame in frames]
    assert centres == [[0, 0], [1, 1]]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["!"]
    plain = matrix_figure(
        np.full((1, 1), 0.5), ["a"], ["x"], title="", sides=SIDES, marked=np.zeros((1, 1), bool)
    )
    assert not plain.legends


def test_a_second_line_stands_under_its_number() -> None:
    values = np.array([[0.25, 0.75]])
    figure = matrix_figure(
        values, ["a"], ["x", "y"], title="", sides=SIDES, small=[["other 0.5", ""]]
    )
    assert cells(figure) == [((0, 0), "0.250"), ((0, 0), "other 0.5"), ((0, 1), "0.750")]


@pytest.mark.parametrize(
    ("values", "rows", "columns"),
    [(np.ones((2, 1)), ["a"], ["x"]), (np.ones((1, 2)), ["a"], ["x"]), (np.ones((0, 0)), [], [])],
)
def test_names_that_do_not_fit_the_values_are_refused(
    values: np.ndarray, rows: list[str], columns: list[str]
) -> None:
    with pytest.raises(ValueError, match="values of shape"):
        matrix_figure(values, rows, columns, title="", sides=SIDES)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 9), (9, 2), (8, 8)])
def test_nothing_that_is_written_leaves_the_picture(rows: int, columns: int) -> None:
    figure = matrix_figure(
        np.full((rows, columns), 0.5),
        [LONG] * rows,
        [LONG] * columns,
        title="Transfer of projected_gradient_descent_on_the_training_loss at epsilon 0.02",
        sides=SIDES,
        marked=np.eye(rows, columns, dtype=bool),
        mark="white box: made on the network that it is counted on",
        small=[["other seed 0.512"] * columns] * rows,
    )
    figure.set_dpi(PNG_DPI)  # letters are not as wide at another resolution
    to_png_bytes(figure)
    inside = figure.bbox
    boxes = [text.get_window_extent() for text in figure.texts]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    boxes += [box for axes in figure.axes if (box := axes.get_tightbbox())]
    for box in boxes:
        assert inside.x0 <= box.x0
        assert box.x1 <= inside.x1
        assert inside.y0 <= box.y0
        assert box.y1 <= inside.y1
    axes = panel(figure)
    cell = axes.get_window_extent().width / columns
    assert all(text.get_window_extent().width < cell for text in axes.texts)
    heads = [text.get_window_extent() for text in axes.get_xticklabels()]
    for left, right in pairwise(heads):
        assert left.x1 < right.x0


@settings(max_examples=60)
@given(st.text("ab+ ,=_(/)", max_size=60), st.integers(2, 20))
def test_wrapped_names_lose_nothing_and_fit(name: str, width: int) -> None:
    wrapped = wrap_name(name, width)
    assert all(len(line) <= width for line in wrapped.split("\n"))
    assert "".join(wrapped.split()) == "".join(name.split())


def test_names_break_where_a_reader_would() -> None:
    assert wrap_name(LONG, 30) == (
        "bce+batch_dice+focal (outputs=\nsoftmax, class_weights=\nmedian_frequency)"
    )
    assert wrap_name("focal(gamma=3)", 14) == "focal(gamma=3)"
    assert wrap_name("focal(gamma=3)", 10) == "focal\n(gamma=3)"
    assert wrap_name("asymmetric_unified_focal", 12) == "asymmetric_\nunified_\nfocal"
