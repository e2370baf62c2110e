"""What Ray leaves is found by its folder; whoever only looks there is left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from errors import InputError
from sweeps.leftovers import end_leftovers, is_running, own_folder, wait_or_kill

SLEEP = "import time; time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
)


def begin(code: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE)


def test_processes_of_the_folder_end_and_others_stay(tmp_path: Path) -> None:
    ours = begin(SLEEP, f"--temp-dir={tmp_path}")
    deeper = begin(SLEEP, f"--session_dir={tmp_path}/session/x")
    reader = begin(SLEEP, f"{tmp_path}/session/log.txt")
    time.sleep(0.2)
    assert set(end_leftovers(tmp_path)) == {ours.pid, deeper.pid}
    assert not is_running(ours.pid)
    assert not is_running(deeper.pid)
    assert is_running(reader.pid)
    for process in (ours, deeper, reader):
        process.kill()
        process.communicate()
    assert not is_running(reader.pid)


def test_a_stubborn_one_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.leftovers._SECONDS_TO_END", 0.5)
    process = begin(STUBBORN, f"--temp-dir={tmp_path}")
    assert process.stdout is not None
    process.stdout.readline()
    assert end_leftovers(tmp_path) == [process.pid]
    assert process.wait(10) == -9
    process.stdout.close()


def test_marked_ones_have_time_to_end_and_then_are_killed() -> None:
    mark = {**os.environ, "MARK_OF_A_TEST": "mine"}
    again = "import subprocess, sys; subprocess.call([sys.executable, '-c', sys.argv[1]])"
    ends = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"], env=mark)
    stays = subprocess.Popen([sys.executable, "-c", again, SLEEP], env=mark)
    other = subprocess.Popen([sys.executable, "-c", SLEEP], env={**mark, "MARK_OF_A_TEST": "no"})
    stays.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    killed = wait_or_kill("MARK_OF_A_TEST", "mine", 1.5)
    assert 1.5 <= time.monotonic() - started < 5
    assert stays.pid in killed
    assert ends.pid not in killed
    assert not any(is_running(pid) for pid in killed)
    assert ends.wait() == 0
    assert stays.wait() == -signal.SIGKILL
    assert is_running(other.pid)
    assert wait_or_kill("MARK_OF_A_TEST", "mine", 60) == []
    other.kill()
    other.wait()


def test_a_folder_is_nobody_elses(tmp_path: Path) -> None:
    folder = tmp_path / "ray"
    for _ in range(2):
        assert own_folder(folder).stat().st_mode & 0o777 == 0o700
        folder.chmod(0o777)
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(InputError, match="found a folder of another user"):
        own_folder(tmp_path / "link")
