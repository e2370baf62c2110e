import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks import timing
from benchmarks.timing import Ratio, time_in_turn, write_results


def test_a_ratio_is_that_of_two_things_timed_in_turn() -> None:
    found = time_in_turn(
        "waits", partial(time.sleep, 0.004), partial(time.sleep, 0.002), goal="2", calls=2, rounds=5
    )
    assert found.low <= found.median <= found.high
    assert 1.2 < found.median < 3.0
    assert 0.004 <= found.seconds < 0.02


def test_a_section_replaces_the_one_before_and_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "RESULTS", tmp_path / "results.md")
    row = Ratio("one / other", 1.02, 1.01, 1.05, 0.0012, "at most 1.05")
    write_results("First", [row])
    write_results("Second", [row])
    write_results("First", [Ratio("new / other", 0.9, 0.8, 1.0, 0.001, "1")])
    text = (tmp_path / "results.md").read_text()
    assert text.startswith("# Measurements")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Second",
        "## First",
    ]
    assert "| one / other | 1.020 | 1.010 to 1.050 | 1.20 ms | at most 1.05 |" in text
    assert text.count("/ other") == 2
