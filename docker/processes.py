"""Processes in sessions of their own that end when whoever started them ends, however that was."""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from composed import StackError

_LIBC = ctypes.CDLL(None)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_PATIENCE_S = 180.0  # a server on a busy machine makes its tables within this
_GRACE_S = 30.0


@dataclass(frozen=True)
class Running:
    """A process with all that it starts.

    Attributes:
        name: What a user knows it as.
        process: The process, at the head of its session.
        log: File of what it says.
        log_start: Where in that file it began, in bytes.
        ends_on: The signal on which it ends in order.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    ends_on: signal.Signals

    def end(self) -> None:
        """Ask it to end, and kill what is left of it."""
        if self.process.poll() is None:
            self.process.send_signal(self.ends_on)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE_S)
        # What it started is in its session, and may be there still where it was killed.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def complaint(self) -> str:
        """The line that tells why it ended."""
        return complaint(self.log.read_bytes()[self.log_start :].decode(errors="replace"))


def start(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    ends_on: signal.Signals,
    user: str | None = None,
) -> Running:
    """Start a process; on Linux it gets ``ends_on`` when this one is gone, also by SIGKILL."""

    def follow_parent() -> None:
        _LIBC.prctl(_DIE_WITH_PARENT, ends_on)

    group, others = _groups(user)
    with log.open("ab") as output:
        begins = output.tell()
        process = subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=follow_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            user=user,
            group=group,
            extra_groups=others,
        )
    return Running(name, process, log, begins, ends_on)


def called(
    command: Sequence[str], environment: Mapping[str, str], user: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and keep what it said."""
    group, others = _groups(user)
    return subprocess.run(
        command,
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        user=user,
        group=group,
        extra_groups=others,
    )


def wait_until(running: Sequence[Running], ready: Callable[[], bool]) -> None:
    """Wait for something that the last process makes true.

    Raises:
        StackError: If it takes too long, or one of the processes ends.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while not ready():
        for one in running:
            if one.process.poll() is not None:
                msg = f"{one.name} did not start: {one.complaint()} ({one.log} has more)"
                raise StackError(msg)
        if time.monotonic() > deadline:
            slow = running[-1]
            msg = f"{slow.name} did not answer for {_PATIENCE_S:.0f} s; see {slow.log}"
            raise StackError(msg)
        time.sleep(0.2)


def watch(running: Sequence[Running]) -> int:
    """Wait for an end that nobody asked for, and tell of it."""
    while True:
        for one in running:
            status = one.process.poll()
            if status is not None:
                print(f"error: {one.name} ended, status {status}; see {one.log}", file=sys.stderr)
                return 1
        time.sleep(0.5)


def without_settings() -> dict[str, str]:
    """The environment without what a user set for MLflow and PostgreSQL in the terminal."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "_MLFLOW_", "PG", "POSTGRES_"))
    }


def complaint(text: str) -> str:
    """The first line with an error in what a program said, or else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    bad = [line for line in lines if "error:" in line.lower() or "fatal:" in line.lower()]
    return next(iter([*bad, *lines[-1:]]), "it said nothing")


def _groups(user: str | None) -> tuple[int | None, list[str | int] | None]:
    return (None, None) if user is None else (pwd.getpwnam(user).pw_gid, [])
