"""A drawn figure: its PNG for the page, and its PDF for a paper."""

from typing import Self

from matplotlib.figure import Figure

from pictures.pdf import to_pdf_bytes
from pictures.style import to_png_bytes


class Drawing(bytes):
    """The PNG of a figure, which knows the PDF of the same figure.

    Args:
        png: The PNG.
        pdf: The PDF.
    """

    pdf: bytes

    def __new__(cls, png: bytes, pdf: bytes) -> Self:
        """A PNG with its PDF."""
        drawing = super().__new__(cls, png)
        drawing.pdf = pdf
        return drawing


def draw(figure: Figure) -> Drawing:
    """Draw a figure both ways; both have the layout of the PNG, which is found once.

    Args:
        figure: The figure.
    """
    png = to_png_bytes(figure)
    figure.set_layout_engine("none")
    return Drawing(png, to_pdf_bytes(figure))
