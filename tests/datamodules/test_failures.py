"""What cannot be used is read once, and again when it was touched."""

import os
from pathlib import Path

import pytest

from datamodules.failures import failure_file, recall_failure, remember_failure
from datamodules.manifest import case_key
from datamodules.slicing import StoreSettings
from datamodules.store import open_store
from datamodules.task import BrokenCase, Task
from errors import InputError
from tests.datamodules.tiny import volume, write_nifti

SETTINGS = StoreSettings(size=(16, 16), max_pixel=0.2)


def test_what_is_remembered_is_recalled_until_a_file_is_touched(task: Task, tmp_path: Path) -> None:
    case = task.cases[1]
    broken = BrokenCase(case.name, "tiny_01: found nothing, expected something; mend it")
    assert recall_failure(tmp_path, "key", case) is None
    remember_failure(tmp_path, "key", case, broken)
    assert recall_failure(tmp_path, "key", case) == broken
    assert recall_failure(tmp_path, "other", case) is None
    case.label.chmod(0o600)
    assert recall_failure(tmp_path, "key", case) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"reason": "x"}', "[" * 100_000])
def test_a_broken_note_is_none(task: Task, tmp_path: Path, text: str) -> None:
    (tmp_path / failure_file("key")).write_text(text)
    assert recall_failure(tmp_path, "key", task.cases[0]) is None


def test_a_broken_case_is_not_read_at_every_start(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = task.cases[3]
    write_nifti(case.label, volume(3, (10, 12, 5))[1])
    cache = tmp_path / "cache"
    first = open_store(task, SETTINGS, cache, on_error="skip")
    read = []

    def reading(job: object) -> BrokenCase:
        read.append(job)
        return BrokenCase(case.name, "read again")

    monkeypatch.setattr("datamodules.store_build.build_case", reading)
    again = open_store(task, SETTINGS, cache, on_error="skip")
    assert again.broken == first.broken
    assert list(again.records) == list(first.records)
    with pytest.raises(InputError) as caught:
        open_store(task, SETTINGS, cache)
    assert str(caught.value) == first.broken[0].reason
    assert not read
    os.utime(case.label)
    assert open_store(task, SETTINGS, cache, on_error="skip").broken[0].reason == "read again"
    assert len(read) == 1


def test_a_mended_case_is_used(task: Task, tmp_path: Path) -> None:
    case = task.cases[3]
    content = case.label.read_bytes()
    write_nifti(case.label, volume(3, (10, 12, 5))[1])
    cache = tmp_path / "cache"
    folder = open_store(task, SETTINGS, cache, on_error="skip").folder
    assert (folder / failure_file(case_key(task, case))).is_file()
    case.label.write_bytes(content)
    assert case.name in open_store(task, SETTINGS, cache).records
