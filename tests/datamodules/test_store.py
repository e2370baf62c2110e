"""Tests of the slice store: what is in it, and that it is whole or not there whatever happens."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datamodules.decathlon import Task, read_task
from datamodules.manifest import MANIFEST_FILE, StoreSettings, store_key
from datamodules.preprocessing import image_slices, label_slices
from datamodules.store import SliceStore, default_cache_dir, open_store
from errors import InputError
from tests.datamodules.tiny import (
    NAME,
    PROJECT,
    refusal,
    start_python,
    volume,
    write_nifti,
    write_task,
)

SETTINGS = StoreSettings(size=(16, 16), max_pixel=0.2)

OPEN = """
import sys
from pathlib import Path
import datamodules.store, datamodules.store_build
from datamodules.decathlon import read_task
from datamodules.manifest import StoreSettings
from errors import InputError

root, name, cache, side = sys.argv[1:5]

def open_it():
    task = read_task(Path(root), name)
    settings = StoreSettings(size=(int(side), int(side)), max_pixel=0.2)
    return datamodules.store.open_store(task, settings, Path(cache))
"""


def test_the_store_holds_the_slices(task: Task, tmp_path: Path) -> None:
    store = open_store(task, SETTINGS, tmp_path / "cache")
    assert list(store.records) == [f"tiny_{index:02d}" for index in range(5)]
    for index, (name, record) in enumerate(store.records.items()):
        image, label = volume(index)
        images, labels = store.arrays(name)
        np.testing.assert_array_equal(
            images, image_slices(image[np.newaxis], size=(16, 16), max_pixel=0.2)
        )
        np.testing.assert_array_equal(labels, label_slices(label, size=(16, 16)))
        assert images.dtype == np.float32
        assert labels.dtype == np.uint8
        assert (record.slices, record.shape) == (4, (10, 12))
        for value in (1, 2):
            counted = [int((label[:, :, frame] == value).sum()) for frame in range(4)]
            assert list(record.areas[value]) == counted


def test_the_arrays_are_maps_that_cannot_be_written(task: Task, tmp_path: Path) -> None:
    images, labels = open_store(task, SETTINGS, tmp_path).arrays("tiny_00")
    for array in (images, labels):
        assert isinstance(array.base, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_store_sent_to_another_process_leaves_its_maps_behind(task: Task, tmp_path: Path) -> None:
    store = open_store(task, SETTINGS, tmp_path)
    images = store.arrays("tiny_01")[0]
    sent = pickle.dumps(store)
    assert len(sent) < images.nbytes
    received: SliceStore = pickle.loads(sent)
    np.testing.assert_array_equal(received.arrays("tiny_01")[0], images)


def test_a_store_is_built_once(task: Task, tmp_path: Path) -> None:
    folder = open_store(task, SETTINGS, tmp_path).folder
    before = (folder / MANIFEST_FILE).stat()
    assert open_store(task, SETTINGS, tmp_path).folder == folder
    after = (folder / MANIFEST_FILE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_changed_volumes_get_a_store_of_their_own(task: Task, tmp_path: Path) -> None:
    first = open_store(task, SETTINGS, tmp_path)
    image = volume(77)[0]
    write_nifti(task.cases[0].image, image)
    second = open_store(task, SETTINGS, tmp_path)
    assert second.folder != first.folder
    expected = image_slices(image[np.newaxis], size=(16, 16), max_pixel=0.2)
    np.testing.assert_array_equal(second.arrays("tiny_00")[0], expected)
    assert second.records["tiny_00"].image_sha256 != first.records["tiny_00"].image_sha256
    assert second.records["tiny_01"].image_sha256 == first.records["tiny_01"].image_sha256


@pytest.mark.parametrize("damage", ["no manifest", "broken", "version", "cut", "gone"])
def test_a_damaged_store_is_built_anew(task: Task, tmp_path: Path, damage: str) -> None:
    store = open_store(task, SETTINGS, tmp_path)
    expected = np.array(store.arrays("tiny_00")[0])
    manifest, array = store.folder / MANIFEST_FILE, store.folder / "00000_image.npy"
    match damage:
        case "no manifest":
            manifest.unlink()
        case "broken":
            manifest.write_text("{")
        case "version":
            content = json.loads(manifest.read_text())
            manifest.write_text(json.dumps({**content, "schema_version": -1}))
        case "cut":
            array.write_bytes(array.read_bytes()[:-1])
        case "gone":
            array.unlink()
    again = open_store(task, SETTINGS, tmp_path)
    np.testing.assert_array_equal(again.arrays("tiny_00")[0], expected)
    assert {path.suffix for path in tmp_path.iterdir() if path != task.folder.parent} == {
        "",
        ".lock",
    }


def test_leftovers_of_a_killed_run_go(task: Task, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    key = store_key(task, SETTINGS)
    for state in ("partial", "replaced"):
        (cache / f"{key}.{state}").mkdir(parents=True)
        (cache / f"{key}.{state}" / "00000_image.npy").write_bytes(b"half")
    open_store(task, SETTINGS, cache)
    assert sorted(path.name for path in cache.iterdir()) == [key, f"{key}.lock"]


def test_a_wrong_volume_leaves_nothing_behind(task: Task, tmp_path: Path) -> None:
    write_nifti(task.cases[3].label, volume(3, (10, 12, 5))[1])
    cache = tmp_path / "cache"
    with pytest.raises(InputError) as caught:
        open_store(task, SETTINGS, cache)
    assert refusal(caught).startswith(str(task.cases[3].label))
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_cache_folder_that_cannot_be_made(task: Task, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        open_store(task, SETTINGS, tmp_path / "file" / "cache")
    assert refusal(caught).startswith(str(tmp_path / "file" / "cache"))
    assert "--data.cache_dir" in refusal(caught)


def test_a_volume_that_went_away(task: Task, tmp_path: Path) -> None:
    task.cases[2].image.unlink()
    with pytest.raises(InputError) as caught:
        open_store(task, SETTINGS, tmp_path)
    assert refusal(caught).startswith(str(task.cases[2].image))


def test_the_default_folder_lies_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "segstress" / "slices"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert default_cache_dir() == tmp_path / "me" / ".cache" / "segstress" / "slices"


def test_a_killed_build_leaves_no_half_store(tmp_path: Path) -> None:
    write_task(tmp_path, cases=40, shape=(60, 60, 40))
    task = read_task(tmp_path, NAME)
    settings = StoreSettings(size=(64, 64), max_pixel=0.2)
    cache = tmp_path / "cache"
    key = store_key(task, settings)
    building = start_python(f"{OPEN}\nopen_it()", tmp_path, NAME, cache, 64)
    while not list((cache / f"{key}.partial").glob("00003_*")):
        assert building.poll() is None, building.communicate()
        time.sleep(0.001)
    building.send_signal(signal.SIGKILL)
    building.communicate()
    assert building.returncode == -signal.SIGKILL
    assert not (cache / key).exists()
    assert (cache / f"{key}.partial").exists()

    store = open_store(task, settings, cache)
    assert sorted(path.name for path in cache.iterdir()) == [key, f"{key}.lock"]
    expected = image_slices(volume(39, (60, 60, 40))[0][np.newaxis], size=(64, 64), max_pixel=0.2)
    np.testing.assert_array_equal(store.arrays("tiny_39")[0], expected)


def test_several_runs_at_once_build_once(tmp_path: Path) -> None:
    write_task(tmp_path, cases=20, shape=(60, 60, 40))
    log = tmp_path / "log"
    code = f"""{OPEN}
build = datamodules.store.build_store

def noting(*arguments):
    with open(sys.argv[5], "a") as log:
        log.write("built\\n")
    build(*arguments)

datamodules.store.build_store = noting
print(float(open_it().arrays("tiny_19")[0].sum()))
"""
    runs = [start_python(code, tmp_path, NAME, tmp_path / "cache", 64, log) for _ in range(3)]
    printed = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], printed
    assert log.read_text() == "built\n"
    assert len({out for out, _ in printed}) == 1


FILLING = """
read = datamodules.store_build.read_volume
calls = []

def filling(case, **options):
    # Another program takes the rest of the disk after the free space was looked at.
    calls.append(case)
    if len(calls) == 3:
        try:
            with open(cache + "/other", "wb") as other:
                while True:
                    other.write(bytes(65536))
        except OSError:
            pass
    return read(case, **options)

datamodules.store_build.read_volume = filling
"""


@pytest.mark.parametrize(
    ("options", "prelude", "free"),
    [
        ("size=1m", "", "1.0 MB free"),
        ("size=16m", FILLING, "MB free"),
        ("size=16m,nr_inodes=7", "", "MB free"),
    ],
    ids=["too small", "filled meanwhile", "no more files"],
)
def test_a_full_disk_is_one_line_and_leaves_what_is_there(
    tmpfs: list[str], tmp_path: Path, options: str, prelude: str, free: str
) -> None:
    write_task(tmp_path, cases=8)
    write_task(tmp_path, cases=1, name="Task78_Small")
    disk = tmp_path / "disk"
    disk.mkdir()
    code = f"""{OPEN}
import os
small = datamodules.store.open_store(
    read_task(Path(root), "Task78_Small"), StoreSettings(size=(16, 16), max_pixel=0.2), Path(cache)
)
{prelude}
try:
    open_it()
except InputError as error:
    print(error)
print(sorted(os.path.splitext(name)[1] for name in os.listdir(cache)))
print(small.arrays("tiny_00")[0].shape)
"""
    size = 120
    command = [*tmpfs, options, str(disk), *_python(code, tmp_path, NAME, disk, size)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    message, left, shape = run.stdout.splitlines() or [run.stderr, "", ""]
    assert message.startswith(f"{disk}: found "), run.stderr
    assert free in message
    assert f"expected {8 * 4 * size * size * 5 / 1e6:.1f} MB for the slices of {NAME}" in message
    assert "--data.cache_dir" in message
    suffixes = ["", ".lock", ".lock"] if "inodes" not in options else None
    if prelude:
        suffixes = ["", "", ".lock", ".lock"]
    assert suffixes is None or left == str(suffixes)
    assert ".partial" not in left
    assert shape == "(4, 1, 16, 16)"


def _python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
