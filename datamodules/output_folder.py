"""What a user is told where a folder cannot be written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import InputError


@contextmanager
def writing_to(folder: Path, option: str = "--output") -> Iterator[None]:
    """Inside, files of a folder are written.

    Args:
        folder: The folder.
        option: That names it.

    Raises:
        InputError: In place of OSError.
    """
    try:
        yield
    except OSError as error:
        msg = (
            f"{option} {folder}: cannot be written ({error.strerror or error}); "
            "choose another folder"
        )
        raise InputError(msg) from error
