"""Tests of a store's key and manifest."""

import json
import os
import shutil
from pathlib import Path

import pytest

from datamodules.decathlon import Task, read_task
from datamodules.manifest import (
    MANIFEST_FILE,
    CaseRecord,
    StoreSettings,
    dump_manifest,
    load_manifest,
    store_key,
)
from tests.datamodules.tiny import NAME, edit_json, volume, write_nifti, write_task

SETTINGS = StoreSettings(size=(16, 24), max_pixel=0.2)
RECORD = CaseRecord(
    case="tiny_00",
    image_file="a.npy",
    label_file="b.npy",
    file_bytes=(3, 2),
    slices=2,
    shape=(10, 12),
    areas={1: (0, 4), 2: (5, 6)},
    image_sha256="aa",
    label_sha256="bb",
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "a.npy").write_bytes(b"123")
    (tmp_path / "b.npy").write_bytes(b"12")
    (tmp_path / MANIFEST_FILE).write_text(dump_manifest("key", SETTINGS, [RECORD]))
    return tmp_path


def test_what_is_written_is_read(store: Path) -> None:
    assert load_manifest(store, "key") == (RECORD,)


def test_another_key_is_refused(store: Path) -> None:
    with pytest.raises(ValueError, match="key"):
        load_manifest(store, "other")


def test_another_schema_version_is_refused(store: Path) -> None:
    content = json.loads((store / MANIFEST_FILE).read_text())
    (store / MANIFEST_FILE).write_text(json.dumps({**content, "schema_version": 0}))
    with pytest.raises(ValueError, match="version"):
        load_manifest(store, "key")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": 1, "key": "key"}'])
def test_broken_manifests_are_refused(store: Path, text: str) -> None:
    (store / MANIFEST_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"."):
        load_manifest(store, "key")


@pytest.mark.parametrize("field", ["areas", "file_bytes", "shape", "slices", "case"])
@pytest.mark.parametrize("value", [None, "x", []])
def test_wrong_fields_are_refused(store: Path, field: str, value: object) -> None:
    content = json.loads((store / MANIFEST_FILE).read_text())
    content["cases"][0][field] = value
    if field == "case":
        del content["cases"][0][field]
    (store / MANIFEST_FILE).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"."):
        load_manifest(store, "key")


def test_files_of_another_size_are_refused(store: Path) -> None:
    (store / "a.npy").write_bytes(b"12")
    with pytest.raises(ValueError, match="tiny_00"):
        load_manifest(store, "key")
    (store / "a.npy").unlink()
    with pytest.raises(FileNotFoundError):
        load_manifest(store, "key")


def test_the_key_stays_while_nothing_changes(task: Task) -> None:
    again = read_task(task.folder.parent, NAME)
    assert store_key(again, SETTINGS) == store_key(task, SETTINGS)
    edit_json(task.folder, description="words do not matter")
    assert store_key(read_task(task.folder.parent, NAME), SETTINGS) == store_key(task, SETTINGS)


def test_the_key_changes_with_all_that_slices_depend_on(task: Task) -> None:
    keys = [
        store_key(task, SETTINGS),
        store_key(task, StoreSettings(size=(24, 16), max_pixel=0.2)),
        store_key(task, StoreSettings(size=(16, 24), max_pixel=0.3)),
    ]
    copy = shutil.copytree(task.folder, task.folder.parent / "copy", copy_function=shutil.copy2)
    keys.append(store_key(read_task(copy.parent, "copy"), SETTINGS))
    os.utime(task.cases[0].label, ns=(0, 0))
    keys.append(store_key(task, SETTINGS))
    write_nifti(task.cases[0].image, volume(99)[0])
    os.utime(task.cases[0].image, ns=(0, 0))
    keys.append(store_key(task, SETTINGS))
    edit_json(task.folder, labels={"0": "background", "1": "a", "2": "b", "3": "c"})
    keys.append(store_key(read_task(task.folder.parent, NAME), SETTINGS))
    write_task(task.folder.parent, cases=6)
    keys.append(store_key(read_task(task.folder.parent, NAME), SETTINGS))
    assert len(set(keys)) == len(keys)
