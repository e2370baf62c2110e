"""What a download says as it runs: a bar where there is a terminal, lines on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

_MEGABYTE = 1_000_000


class Bar:
    """A bar over bytes.

    Args:
        display: Where it is drawn.
        task: Its number there.
    """

    def __init__(self, display: Progress, task: TaskID) -> None:
        self._display = display
        self._task = task

    def advance(self, count: int) -> None:
        """Move on by a number of bytes; a negative one moves back."""
        self._display.advance(self._task, count)

    def expect(self, total: int | None) -> None:
        """Set the number of bytes in all; None where it is not known."""
        self._display.update(self._task, total=total)


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Bar]:
    """Show a bar over bytes while the context lasts.

    Args:
        description: What is done.
        total: Number of bytes in all, where it is known.
    """
    console = notices()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as display:
        yield Bar(display, display.add_task(description, total=total))


def notices() -> Console:
    """Where lines for the user go: they are neither wrapped nor coloured."""
    return Console(stderr=True, soft_wrap=True, markup=False, highlight=False)


def megabytes(count: int) -> str:
    """Write a number of bytes in megabytes of 10^6."""
    return f"{count / _MEGABYTE:,.1f} MB"
