"""A drawn figure: its PNG for the page, and its PDF for a paper."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Self

from matplotlib.figure import Figure

from datamodules.workers import available_cores, run_apart
from pictures.pdf import to_pdf_bytes
from pictures.style import PNG_DPI, figure_style, to_png_bytes

Undrawn = Figure
"""A figure that is not drawn yet, for parts that hand figures on and know no matplotlib."""

_FIGURES_A_PROCESS = 6  # which takes as long to begin as it takes to draw two or three
_MOST_PROCESSES = 4


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

    def __reduce__(self) -> tuple[type[Self], tuple[bytes, bytes]]:
        """What another process makes it from."""
        return type(self), (bytes(self), self.pdf)


def draw(figure: Figure) -> Drawing:
    """Draw a figure both ways; both have the layout of the PNG, which is found once.

    Args:
        figure: The figure; afterwards it has its final layout, and no layout engine any more.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        # A figure that has an engine is drawn twice whenever it is saved.
        with figure_style():
            figure.set_dpi(PNG_DPI)
            engine.execute(figure)
            figure.set_layout_engine(None)
    return Drawing(to_png_bytes(figure), to_pdf_bytes(figure))


@contextmanager
def drawing_aside(figures: Sequence[Figure]) -> Iterator[Callable[[], list[Drawing]]]:
    """Draw many figures in other processes, where there are cores for it, while other work is done.

    Args:
        figures: The figures.

    Yields:
        A function that waits for the drawings and gives them in the order of the figures.
    """
    workers = min(available_cores(), len(figures) // _FIGURES_A_PROCESS, _MOST_PROCESSES)
    if workers <= 1:
        yield lambda: [draw(figure) for figure in figures]
        return
    with ThreadPoolExecutor(1) as aside:
        found = aside.submit(run_apart, draw, figures, workers=workers, advance=_nothing)
        # A process that was killed left its figure undrawn.
        yield lambda: [
            draw(figure) if drawing is None else drawing
            for figure, drawing in zip(figures, found.result(), strict=True)
        ]


def _nothing() -> None:
    """Nobody is shown how far the drawings are."""
