"""A drawing is a PNG that knows the PDF of the same figure."""

from matplotlib.figure import Figure

from pictures.drawing import draw
from pictures.style import to_png_bytes


def made_figure() -> Figure:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [1, 0])
    axes.set_title("A title")
    return figure


def test_both_are_of_the_figure_and_the_same_each_time() -> None:
    drawing = draw(made_figure())
    assert drawing == to_png_bytes(made_figure())
    assert drawing.pdf.startswith(b"%PDF-")
    assert drawing.pdf == draw(made_figure()).pdf
