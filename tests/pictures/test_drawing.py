"""A drawing is a PNG that knows the PDF of the same figure."""

import pickle
import resource

import pytest
from matplotlib.figure import Figure

from pictures.drawing import _FIGURES_A_PROCESS, draw, drawing_aside
from pictures.saliency import saliency_figure
from pictures.shrinking import shrinking_figure
from pictures.style import figure_style, to_png_bytes
from tests.pictures.slices import made_snapshot


def made_figure(title: str = "A title") -> Figure:
    with figure_style():
        figure = Figure(layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [1, 0])
        axes.set_title(title)
    return figure


def test_both_are_of_the_figure_and_the_same_each_time() -> None:
    drawn = draw(made_figure())
    assert drawn == to_png_bytes(made_figure())
    assert drawn.pdf.startswith(b"%PDF-")
    assert drawn.pdf == draw(made_figure()).pdf


def test_the_layout_is_that_of_a_figure_which_is_saved() -> None:
    rows = [(loss, made_snapshot(index)) for index, loss in enumerate(("bce", "dice"))]
    for make in (saliency_figure, shrinking_figure):
        assert draw(make(rows)) == to_png_bytes(make(rows))


def test_a_drawing_keeps_its_pdf_from_process_to_process() -> None:
    drawn = draw(made_figure())
    copied = pickle.loads(pickle.dumps(drawn))
    assert type(copied) is type(drawn)
    assert copied == drawn
    assert copied.pdf == drawn.pdf


@pytest.mark.parametrize("count", [2, 2 * _FIGURES_A_PROCESS])
def test_figures_drawn_aside_are_the_same_in_their_order(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pictures.drawing.available_cores", lambda: 2)
    titles = [f"Figure {number}" for number in range(count)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with drawing_aside([made_figure(title) for title in titles]) as drawings:
        found = drawings()
    expected = [draw(made_figure(title)) for title in titles]
    assert found == expected
    assert [one.pdf for one in found] == [one.pdf for one in expected]
    # A process takes longer to begin than a few figures take.
    helped = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > before
    assert helped == (count > _FIGURES_A_PROCESS)
