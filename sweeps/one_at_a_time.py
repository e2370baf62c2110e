"""A lock that a process takes and hands to the one it begins: free when both are gone."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAUSE_SECONDS = 0.2


@contextmanager
def held(path: Path, seconds: float) -> Iterator[int | None]:
    """Hold a lock inside.

    Args:
        path: Its file, made if it is not there.
        seconds: How long is waited for another process that holds it.

    Yields:
        The file's descriptor, which a child may inherit; None where another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor if _taken(descriptor, seconds) else None
    finally:
        os.close(descriptor)


def _taken(descriptor: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE_SECONDS)
        else:
            return True
