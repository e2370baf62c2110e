"""Calls that get a task from a server of the test's own."""

from pathlib import Path

import pytest

from datamodules.download import FetchedTask, fetch_task
from datamodules.download_http import Patience
from errors import InputError
from tests.datamodules.serving import (
    md5,
)
from tests.datamodules.tiny import NAME, refusal

HASTE = Patience(retries=1, timeout_seconds=5, first_wait_seconds=0.01)
NOWHERE = "http://127.0.0.1:9/none.tar"
FETCH = (
    "import sys; from pathlib import Path; from datamodules.download import fetch_task;"
    "from errors import InputError\n"
    "root, folder, address, md5 = sys.argv[1:5]\n"
    "try: done = fetch_task(Path(root), folder, address=address, md5=md5)\n"
    "except InputError as error: sys.exit(f'error: {error}')\n"
    "print('was there' if done.was_there else 'fetched')"
)


def fetch(
    root: Path, address: str, content: bytes, *, keep: bool = False, folder: str = NAME
) -> FetchedTask:
    return fetch_task(
        root, folder, address=address, md5=md5(content), keep_archive=keep, patience=HASTE
    )


def names_in(root: Path) -> set[str]:
    """What lies in a root, without the lock that stays."""
    return {path.name for path in root.iterdir()} - {f".{NAME}.lock"}


def refused(root: Path, address: str, content: bytes, *, folder: str = NAME) -> str:
    with pytest.raises(InputError) as caught:
        fetch(root, address, content, folder=folder)
    return refusal(caught)
