"""A drawn figure: its PNG for the page, and its PDF for a paper."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Self, TypeVar

from matplotlib.figure import Figure

from datamodules.workers import available_cores, run_apart
from pictures.pdf import to_pdf_bytes
from pictures.style import PNG_DPI, figure_style, to_png_bytes

Given = TypeVar("Given")
Drawn = TypeVar("Drawn")
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
    _lay_out(figure)
    return Drawing(to_png_bytes(figure), to_pdf_bytes(figure))


def draw_png(figure: Figure) -> bytes:
    """Draw a figure that goes into no paper; see :func:`draw`."""
    _lay_out(figure)
    return to_png_bytes(figure)


@contextmanager
def drawing_aside(figures: Sequence[Figure]) -> Iterator[Callable[[], list[Drawing]]]:
    """Draw many figures in other processes, where there are cores for it, while other work is done.

    Args:
        figures: The figures.

    Yields:
        A function that waits for the drawings and gives them in the order of the figures.
    """
    workers = _workers(len(figures))
    if workers <= 1:
        yield lambda: [draw(figure) for figure in figures]
        return
    with ThreadPoolExecutor(1) as aside:
        made = aside.submit(run_apart, draw, figures, workers=workers, advance=_nothing)
        yield lambda: _whole(draw, figures, made.result())


def drawn_apart(function: Callable[[Given], Drawn], given: Sequence[Given]) -> list[Drawn]:
    """Make many drawings in other processes where there are cores for it, else in this one.

    Args:
        function: Makes one drawing; a function of a module, so that processes find it.
        given: What each is made from.

    Returns:
        The drawings, in order.
    """
    workers = _workers(len(given))
    if workers <= 1:
        return [function(one) for one in given]
    return _whole(function, given, run_apart(function, given, workers=workers, advance=_nothing))


def _workers(figures: int) -> int:
    return min(available_cores(), figures // _FIGURES_A_PROCESS, _MOST_PROCESSES)


def _whole(
    function: Callable[[Given], Drawn], given: Sequence[Given], made: Sequence[Drawn | None]
) -> list[Drawn]:
    """All drawings: a process that was killed left some undone."""
    return [
        function(one) if drawing is None else drawing
        for one, drawing in zip(given, made, strict=True)
    ]


def _lay_out(figure: Figure) -> None:
    """Find the layout of a figure now: one that has an engine is drawn twice when it is saved."""
    engine = figure.get_layout_engine()
    if engine is not None:
        with figure_style():
            figure.set_dpi(PNG_DPI)
            engine.execute(figure)
            figure.set_layout_engine(None)


def _nothing() -> None:
    """Nobody is shown how far the drawings are."""
