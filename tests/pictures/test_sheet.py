"""The sheet shows the slices and labels it is given, and none of its words stands over another."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from datamodules.inspection_facts import SlicePicture
from datamodules.inspection_picture import OTHER_MARK
from pictures.sheet import Tile, fitted, label_colors, sheet_figure, text_inches
from pictures.style import figure_style, to_png_bytes

ODD_NAME = "[bold]$x$ 中 \x1b[31m\n" + "W" * 80 + "_007"
ODD_LABELS = ("_hidden", "a name of a label " * 9, "$a$ \x07")
SHAPES = ((40, 60), (80, 30), (6, 90), (200, 200))


def picture(
    shape: tuple[int, int], marks: list[int], *, seed: int = 0, is_ct: bool = False
) -> SlicePicture:
    """Noise, with a bar for each mark."""
    rng = np.random.default_rng(seed)
    marked = np.zeros(shape, np.uint16)
    for index, mark in enumerate(marks):
        marked[1:3, 1 + 3 * index : 3 + 3 * index] = mark
    gray = rng.integers(0, 256, shape).astype(np.uint8)
    return SlicePicture(1234, 5678, gray, marked, is_ct)


def tiles(count: int, marks: list[int]) -> list[Tile]:
    return [
        (f"{ODD_NAME}{index}", picture(SHAPES[index % 4], marks, seed=index, is_ct=index == 1))
        for index in range(count)
    ]


def outlines(axes: Axes) -> list[QuadContourSet]:
    return [artist for artist in axes.collections if isinstance(artist, QuadContourSet)]


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def boxes(figure: Figure) -> list[Bbox]:
    """Where text and pictures are in the figure, after it was drawn."""
    to_png_bytes(figure, dpi=int(figure.dpi))
    (legend,) = figure.legends
    return [
        *(text.get_window_extent() for text in figure.texts),
        *(text.get_window_extent() for text in legend.get_texts()),
        *(axes.get_window_extent() for axes in figure.axes),
    ]


@pytest.mark.parametrize("count", [1, 2, 5, 16])
@pytest.mark.parametrize("labels", [("spleen",), ODD_LABELS, tuple(map(str, range(30)))])
def test_no_words_stand_over_others_or_beyond_the_page(count: int, labels: tuple[str, ...]) -> None:
    figure = sheet_figure(tiles(count, [1, OTHER_MARK]), labels, "A title " * 40)
    page = figure.get_window_extent()
    found = boxes(figure)
    for box in found:
        assert page.x0 - 1 <= box.x0 <= box.x1 <= page.x1 + 1
        assert page.y0 - 1 <= box.y0 <= box.y1 <= page.y1 + 1
    for one, other in itertools.combinations(found, 2):
        width = min(one.x1, other.x1) - max(one.x0, other.x0)
        height = min(one.y1, other.y1) - max(one.y0, other.y0)
        # Boxes of text have room for letters that hang below the line.
        assert width <= 1 or height <= 3


def test_a_tile_shows_its_slice_and_outlines() -> None:
    labels = ("one", "two", "three")
    pictures = [picture((40, 60), [1, 3]), picture((30, 30), [2], seed=1), picture((9, 9), [])]
    figure = sheet_figure([(f"case {i}", one) for i, one in enumerate(pictures)], labels, "title")
    colors = label_colors(3)
    for axes, shown, marks in zip(figure.axes, pictures, ([1, 3], [2], []), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), shown.gray)
        assert axes.images[0].get_clim() == (0, 255)
        drawn = [to_rgb(np.asarray(one.get_edgecolor())[0]) for one in outlines(axes)]
        assert drawn == [to_rgb(colors[mark - 1]) for mark in marks]
    left, right = outlines(figure.axes[0])
    # Around the pixels that have the mark, and no others.
    for contour, start in ((left, 1), (right, 4)):
        (path,) = contour.get_paths()
        corners = np.asarray(path.vertices)
        assert corners.min(axis=0).tolist() == [start - 0.5, 0.5]
        assert corners.max(axis=0).tolist() == [start + 1.5, 2.5]


def test_names_slices_and_title_are_written() -> None:
    figure = sheet_figure([("la_003", picture((20, 20), [1]))], ("atrium",), "Task02: 1 of 20")
    words = words_of(figure)
    assert "la_003" in words
    assert "slice 1234 (of 0 to 5677)" in words
    assert words[0] == "Task02: 1 of 20"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["atrium"]


@pytest.mark.parametrize(
    ("are_ct", "said", "unsaid"),
    [
        ((True,), "CT from -160 to 240 HU.", "percentile"),
        ((False,), "from the 1st to the 99th percentile", "HU"),
        ((False, True), "CT from -160 to 240 HU, others from the 1st", "nothing"),
    ],
)
def test_the_scale_of_grey_is_told(are_ct: tuple[bool, ...], said: str, unsaid: str) -> None:
    shown = [("a", picture((20, 20), [1], is_ct=is_ct)) for is_ct in are_ct]
    words = " ".join(words_of(sheet_figure(shown, ("label",), "title")))
    assert said in words
    assert unsaid not in words


def test_marks_of_no_label_are_dashed_and_told() -> None:
    figure = sheet_figure([("a", picture((20, 20), [1, OTHER_MARK]))], ("one", "two"), "title")
    known, other = outlines(figure.axes[0])
    assert known.linestyles != other.linestyles
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "two", "not in dataset.json"]


@given(st.integers(1, 60))
def test_each_label_has_a_colour_of_its_own(count: int) -> None:
    assert len(set(label_colors(count))) == count


@given(st.text(max_size=60), st.floats(0.6, 3), st.sampled_from([8.0, 11.0]))
def test_fitted_text_is_never_wider(text: str, inches: float, points: float) -> None:
    with figure_style():
        short = fitted(text, inches, points)
        assert text_inches(short, points) <= inches
        plain = text.isascii() and text.isprintable()
        if plain and text_inches(text, points) <= inches:
            assert short == text
        elif plain:
            start, _, end = short.partition("...")
            assert text.startswith(start)
            assert text.endswith(end)


def test_the_same_tiles_give_the_same_file() -> None:
    first, second = (to_png_bytes(sheet_figure(tiles(3, [1]), ("a",), "t")) for _ in range(2))
    assert first == second


def test_no_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="no tiles"):
        sheet_figure([], ("a",), "title")
