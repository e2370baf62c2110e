"""Runs a command, and ends it when the process that began it is gone, however that ended.

The one that began it holds a pipe open to this process; it closes with its life, also by SIGKILL.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

GRACE_SECONDS = 20.0
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main(command: Sequence[str]) -> int:
    """Run a command as a child in a session of its own.

    Args:
        command: Program and arguments.

    Returns:
        Its exit status, or 128 and the number of the signal that ended it.
    """
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        # What this process was handed, such as a lock, is the child's too: held while it lives.
        close_fds=False,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
    )

    def stop(*_: int | FrameType | None) -> None:
        threading.Thread(target=_end, args=[child], daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    threading.Thread(target=_watch, args=[child], daemon=True).start()
    status = child.wait()
    return status if status >= 0 else 128 - status


def minded(command: Sequence[str]) -> list[str]:
    """The command that runs another under a minder; its standard input is the pipe to hold."""
    return [sys.executable, str(Path(__file__)), *command]


def _watch(child: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask the child to end, as Lightning expects it, and kill all of it if it does not."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)


def _die_with_parent() -> None:
    """Should this process be killed itself, nobody would watch the child."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
