"""A lock is free when whoever took it and whoever it was handed to are gone."""

import subprocess
import sys
import time
from pathlib import Path

from sweeps.one_at_a_time import held


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with held(path, 0) as first:
        assert first is not None
        with held(path, 0) as second:
            assert second is None
    with held(path, 0) as again:
        assert again is not None


def test_a_child_holds_on_to_it(tmp_path: Path) -> None:
    with held(tmp_path / "lock", 0) as lock:
        assert lock is not None
        code = "import time; time.sleep(1.5)"
        child = subprocess.Popen([sys.executable, "-c", code], pass_fds=[lock])
    with held(tmp_path / "lock", 0) as other:
        assert other is None
    started = time.monotonic()
    with held(tmp_path / "lock", 30) as other:
        assert other is not None
    assert time.monotonic() - started < 20
    assert child.wait(5) == 0
