"""A command ends with whoever began it, and hands on how it ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.leftovers import is_running
from sweeps.minder import minded
from sweeps.one_at_a_time import held
from tests.places import ROOT

MINDER = str(ROOT / "sweeps" / "minder.py")
SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


def begin(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, MINDER, sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("status", [0, 1, 2, 143])
def test_the_exit_status_is_that_of_the_command(status: int) -> None:
    process = begin(f"raise SystemExit({status})")
    assert process.wait(30) == status
    process.communicate()


def test_a_command_that_is_killed_has_a_status_of_its_own() -> None:
    process = begin("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert process.wait(30) == 128 + signal.SIGKILL
    process.communicate()


def child_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_it_ends_when_the_pipe_closes() -> None:
    process = begin(SLEEP)
    child = child_of(process)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 128 + signal.SIGTERM
    wait_until_gone(child)
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_the_minder(number: signal.Signals) -> None:
    process = begin(SLEEP)
    child = child_of(process)
    process.send_signal(number)
    process.wait(30)
    wait_until_gone(child)
    process.communicate()


def test_a_lock_is_held_while_the_command_lives(tmp_path: Path) -> None:
    path = tmp_path / "mine.lock"
    with held(path, 0) as lock:
        assert lock is not None
        process = subprocess.Popen(
            # Its own signal to end, when the minder is killed, leaves it alone.
            minded(
                [sys.executable, "-c", f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEP}"]
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[lock],
        )
        child = child_of(process)
    process.kill()
    process.wait()
    assert is_running(child)
    with held(path, 0) as lock:
        assert lock is None
    os.kill(child, signal.SIGKILL)
    wait_until_gone(child)
    with held(path, 0) as lock:
        assert lock is not None
    process.communicate()


def test_it_ends_with_the_one_that_began_it() -> None:
    outer = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, {MINDER!r}, sys.executable, '-c', {SLEEP!r}],"
        " stdin=subprocess.PIPE)\n"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE, text=True)
    child = child_of(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until_gone(child)
    assert process.stdout is not None
    process.stdout.close()
