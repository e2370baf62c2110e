"""What a Ray or a sweep leaves running, found by a mark of its own and ended."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from errors import InputError

_SECONDS_TO_END = 10.0
_PAUSE_SECONDS = 0.1


def own_folder(folder: Path) -> Path:
    """Make a folder that nobody else can write to, or see that it is one.

    Args:
        folder: In a place that others may write to.

    Raises:
        InputError: If another user has it.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        msg = (
            f"{folder}: found a folder of another user, expected one's own for Ray; set TMPDIR to "
            "another place"
        )
        raise InputError(msg)
    folder.chmod(0o700)
    return folder


def end_leftovers(folder: Path) -> list[int]:
    """End what is left of a Ray that was killed: processes with an option that names its folder.

    Args:
        folder: Of the Ray that sweeps begin, which no other Ray uses.

    Returns:
        Ids of the processes that were ended.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
            # As an option's value: who merely reads a log of it is no part of it.
            if f"={folder}" in words and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _SECONDS_TO_END
        _send(number, found)
        while any(is_running(pid) for pid in found) and time.monotonic() < deadline:
            time.sleep(0.1)
    return found


def wait_or_kill(variable: str, value: str, seconds: float) -> list[int]:
    """Wait for processes that have been asked to end, and kill those that do not.

    Args:
        variable: In the environment of these processes and of whatever they begin.
        value: Of the variable, which no other process has.
        seconds: How long they have; a Ctrl-C meanwhile is the end of it.

    Returns:
        Ids of the processes that were killed.
    """
    mark = f"{variable}={value}".encode()
    deadline = time.monotonic() + seconds
    try:
        while (found := _marked(mark)) and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
    except KeyboardInterrupt:
        found = _marked(mark)
    killed = set(found)
    while found:
        _send(signal.SIGKILL, found)
        time.sleep(_PAUSE_SECONDS)
        # One may have begun another just before.
        found = _marked(mark)
        killed.update(found)
    return sorted(killed)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended and waits to be noticed."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _marked(mark: bytes) -> list[int]:
    """Processes of this user with an entry in the environment that they began with."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            entries = (entry / "environ").read_bytes().split(b"\0")
            if mark in entries and int(entry.name) != os.getpid() and is_running(int(entry.name)):
                found.append(int(entry.name))
    return found


def _send(number: signal.Signals, processes: Sequence[int]) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
