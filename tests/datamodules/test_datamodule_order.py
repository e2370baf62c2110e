"""The order of the training slices is friendly to the disk where there are many of them."""

from pathlib import Path

import pytest

import datamodules.datamodule
from tests.datamodules.test_datamodule import make, read
from tests.datamodules.tiny import write_task

WINDOW = 64  # slices


def test_a_stretch_of_the_order_reads_from_few_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of 64 slices is two runs of 32 neighbours, which lie in few cases."""
    cases, depth = 10, 64
    write_task(tmp_path / "data", cases=cases, shape=(8, 8, depth))
    slice_bytes = 8 * 8 * (4 + 1)
    monkeypatch.setattr(datamodules.datamodule, "_SHUFFLED_BYTES", WINDOW * slice_bytes)
    data = make(tmp_path / "data", size=(8, 8), batch_size=16)
    seen = read(data.train_dataloader())
    trained = data.split_cases("train")
    assert sorted(seen) == [(case, index) for case in trained for index in range(depth)]
    for start in range(0, len(seen), WINDOW):
        runs = {(case, index // 32) for case, index in seen[start : start + WINDOW]}
        assert len(runs) == 2
    # Within a window they are shuffled all the same.
    first = seen[:WINDOW]
    halves = [{(case, index // 32) for case, index in half} for half in (first[:32], first[32:])]
    assert [len(runs) for runs in halves] == [2, 2]
    # With room for all, a stretch reads from everywhere.
    monkeypatch.undo()
    again = read(make(tmp_path / "data", size=(8, 8), batch_size=16).train_dataloader())
    assert sorted(again) == sorted(seen)
    assert {case for case, _ in again[:WINDOW]} == set(trained)
