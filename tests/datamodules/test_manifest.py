"""Tests of the names of stores and cases, and of a case's record."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.decathlon import read_task
from datamodules.intensities import IntensityRange
from datamodules.manifest import (
    CaseRecord,
    case_key,
    dump_record,
    load_record,
    record_file,
    store_name,
)
from datamodules.slice_grid import SliceGrid
from datamodules.slicing import StoreSettings
from datamodules.task import Task
from tests.datamodules.tiny import NAME, edit_json, volume, write_nifti

SETTINGS = StoreSettings(size=(16, 24), max_pixel=0.2)
GRID = SliceGrid(
    (10, 2, 12),
    (16, 24),
    order=(0, 2, 1),
    reversed=(True, False, False),
    plane=(20, 30),
    larger="crop",
)
RECORD = CaseRecord(
    case="tiny_00",
    image_file="a.npy",
    label_file="b.npy",
    file_bytes=(3, 2),
    grid=GRID,
    pixel_ml=0.25,
    areas={1: (0, 4), 2: (5, 6)},
    image_sha256="aa",
    label_sha256="bb",
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "a.npy").write_bytes(b"123")
    (tmp_path / "b.npy").write_bytes(b"12")
    (tmp_path / record_file("key")).write_text(dump_record(RECORD))
    return tmp_path


def test_what_is_written_is_read(store: Path) -> None:
    assert load_record(store, "key") == RECORD
    assert (RECORD.slices, RECORD.largest_shape) == (2, (16, 24))


def test_a_volume_that_is_not_known_stays_so(store: Path) -> None:
    unknown = replace(RECORD, pixel_ml=math.nan)
    (store / record_file("key")).write_text(dump_record(unknown))
    loaded = load_record(store, "key")
    assert loaded is not None
    assert math.isnan(loaded.pixel_ml)


def test_another_key_has_no_record(store: Path) -> None:
    assert load_record(store, "other") is None


def test_another_schema_version_is_no_record(store: Path) -> None:
    content = json.loads((store / record_file("key")).read_text())
    (store / record_file("key")).write_text(json.dumps({**content, "schema_version": 0}))
    assert load_record(store, "key") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": 2}', "[" * 100_000])
def test_a_broken_record_is_none(store: Path, text: str) -> None:
    (store / record_file("key")).write_text(text)
    assert load_record(store, "key") is None


@pytest.mark.parametrize("field", ["areas", "file_bytes", "grid", "pixel_ml", "image_file"])
@pytest.mark.parametrize("value", [None, "x", []])
def test_a_record_with_wrong_fields_is_none(store: Path, field: str, value: object) -> None:
    content = json.loads((store / record_file("key")).read_text())
    (store / record_file("key")).write_text(json.dumps({**content, field: value}))
    assert load_record(store, "key") is None
    del content[field]
    (store / record_file("key")).write_text(json.dumps(content))
    assert load_record(store, "key") is None


def test_a_case_whose_files_are_of_another_size_is_not_whole(store: Path) -> None:
    (store / "a.npy").write_bytes(b"12")
    assert load_record(store, "key") is None
    (store / "a.npy").unlink()
    assert load_record(store, "key") is None


def test_names_stay_while_nothing_changes(task: Task) -> None:
    edit_json(task.folder, description="words do not matter")
    again = read_task(task.folder.parent, NAME)
    assert store_name(again, SETTINGS) == store_name(task, SETTINGS)
    assert store_name(task, SETTINGS).startswith(f"{NAME}-")
    for before, after in zip(task.cases, again.cases, strict=True):
        assert case_key(task, before) == case_key(again, after)


def test_a_store_has_a_name_for_all_that_every_case_depends_on(task: Task) -> None:
    names = [
        store_name(task, settings)
        for settings in (
            SETTINGS,
            replace(SETTINGS, size=(24, 16)),
            replace(SETTINGS, max_pixel=0.3),
            replace(SETTINGS, intensities=IntensityRange(window=(0, 1))),
            replace(SETTINGS, intensities=IntensityRange(percentiles=(0, 1))),
            replace(SETTINGS, axis=0),
            replace(SETTINGS, orientation="canonical"),
            replace(SETTINGS, spacing_mm=(1.0, 1.0)),
            replace(SETTINGS, larger="crop"),
            replace(SETTINGS, larger="tile"),
        )
    ]
    copy = shutil.copytree(task.folder, task.folder.parent / "copy", copy_function=shutil.copy2)
    names.append(store_name(read_task(copy.parent, "copy"), SETTINGS))
    edit_json(task.folder, labels={"0": "background", "1": "a", "2": "b", "3": "c"})
    names.append(store_name(read_task(task.folder.parent, NAME), SETTINGS))
    assert len(set(names)) == len(names)


def test_a_case_has_a_key_for_the_state_of_its_files(task: Task) -> None:
    first, second = task.cases[:2]
    keys = [case_key(task, first), case_key(task, second)]
    os.utime(first.label, ns=(0, 0))
    keys.append(case_key(task, first))
    write_nifti(first.image, volume(99)[0])
    os.utime(first.image, ns=(0, 0))
    keys.append(case_key(task, first))
    assert len(set(keys)) == len(keys)
    assert case_key(task, second) == keys[1]
