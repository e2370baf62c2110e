"""Tests of the phantom's folder."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from datamodules.datamodule import DecathlonDataModule
from datamodules.phantom import write_phantom
from errors import InputError
from tests.datamodules.tiny import refusal

NAME = "Task00_Phantom"


def _files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_phantom_is_a_task_that_the_datamodule_reads(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path, cases=5, classes=3, seed=1)
    assert folder == tmp_path / NAME
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    data = DecathlonDataModule(
        root=str(tmp_path), task=NAME, merge_labels=False, cache_dir=str(tmp_path / "cache")
    )
    assert data.class_names == ("part_1", "part_2", "part_3")
    data.prepare_data()
    batch = next(iter(data.test_dataloader()))
    assert batch["mask"].shape[1:] == (3, 64, 64)
    assert batch["mask"].sum((0, 2, 3)).min() > 0


def test_the_folder_says_that_it_is_synthetic(tmp_path: Path) -> None:
    content = json.loads((write_phantom(tmp_path, cases=1) / "dataset.json").read_text())
    assert content["description"].startswith("SYNTHETIC")
    assert content["modality"] == {"0": "synthetic"}
    assert content["numTraining"] == len(content["training"]) == 1


def test_the_same_settings_give_the_same_files(tmp_path: Path) -> None:
    first = write_phantom(tmp_path / "a", cases=2, seed=4)
    second = write_phantom(tmp_path / "b", cases=2, seed=4)
    other = write_phantom(tmp_path / "c", cases=2, seed=5)
    assert _files(first) == _files(second)
    assert not set(_files(first).values()) & set(_files(other).values())


def test_a_larger_phantom_holds_the_smaller_one(tmp_path: Path) -> None:
    small = _files(write_phantom(tmp_path / "a", cases=1))
    large = _files(write_phantom(tmp_path / "b", cases=2))
    del small["dataset.json"]
    assert small.items() <= large.items()


def test_a_phantom_of_the_same_settings_is_kept(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path, cases=2)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_phantom(tmp_path, cases=2) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    write_phantom(tmp_path, cases=2, force=True)
    assert (folder / "dataset.json").stat().st_mtime_ns > before[folder / "dataset.json"]


def test_another_phantom_is_replaced_by_force_alone(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path, cases=2)
    before = _files(folder)
    with pytest.raises(InputError) as caught:
        write_phantom(tmp_path, cases=1)
    assert "--force" in refusal(caught)
    assert _files(folder) == before
    write_phantom(tmp_path, cases=1, force=True)
    assert len(_files(folder)) == 3
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_phantom_that_lacks_a_file_is_not_taken_for_whole(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path, cases=2)
    (folder / "labelsTr/phantom_002.nii.gz").unlink()
    with pytest.raises(InputError) as caught:
        write_phantom(tmp_path, cases=2)
    assert "all its files" in refusal(caught)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("content", ["{", "[]", '{"name": "mine"}'])
def test_a_folder_of_somebody_else_is_never_replaced(
    tmp_path: Path, content: str, *, force: bool
) -> None:
    mine = tmp_path / NAME
    mine.mkdir()
    (mine / "dataset.json").write_text(content)
    with pytest.raises(InputError) as caught:
        write_phantom(tmp_path, cases=1, force=force)
    assert "found something that is no phantom" in refusal(caught)
    assert _files(mine).keys() == {"dataset.json"}


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    assert (write_phantom(tmp_path, cases=1) / "dataset.json").is_file()


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"cases": 0}, "--cases: found 0"),
        ({"cases": 1, "classes": 0}, "--classes: found 0"),
        ({"cases": 1, "classes": 256}, "--classes: found 256, expected 1 to 255"),
        ({"cases": 1, "seed": -1}, "--seed: found -1"),
        ({"cases": 1, "name": "a/b"}, "--name: found 'a/b'"),
        ({"cases": 1, "name": ".."}, "--name: found '..'"),
        ({"cases": 1, "name": ""}, "--name: found ''"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, options: dict[str, Any], at: str) -> None:
    with pytest.raises(InputError) as caught:
        write_phantom(tmp_path, **options)
    assert refusal(caught).startswith(at)
    assert not list(tmp_path.iterdir())


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        write_phantom(tmp_path / "file", cases=1)
    assert "--root" in refusal(caught)


def test_a_volume_takes_a_fraction_of_a_second(tmp_path: Path) -> None:
    start = time.process_time()
    write_phantom(tmp_path, cases=4)
    assert (time.process_time() - start) / 4 < 0.5
