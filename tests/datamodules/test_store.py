"""Tests of the slice store: what is in it, and that it is whole or not there whatever happens."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import datamodules.store
from datamodules.decathlon import read_task
from datamodules.manifest import CaseRecord, case_key, store_name
from datamodules.slicing import StoreSettings
from datamodules.store import SliceStore, default_cache_dir, open_store
from datamodules.store_build import CaseJob, build_case
from datamodules.task import BrokenCase, Task
from datamodules.workers import run_apart
from errors import InputError
from tests.datamodules.cutting import image_slices, label_slices
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
from datamodules.slicing import StoreSettings
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
        assert (record.slices, record.largest_shape) == (4, (10, 12))
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
    before = _states(folder)
    assert open_store(task, SETTINGS, tmp_path).folder == folder
    assert _states(folder) == before


def test_a_changed_volume_alone_is_prepared_again(task: Task, tmp_path: Path) -> None:
    first = open_store(task, SETTINGS, tmp_path)
    kept = np.array(first.arrays("tiny_00")[0])
    before = _states(first.folder)
    image = volume(77)[0]
    write_nifti(task.cases[0].image, image)
    second = open_store(task, SETTINGS, tmp_path)
    after = _states(second.folder)
    # Who has the old slices open keeps them.
    assert before.items() <= after.items()
    assert len(after) == len(before) + 3
    np.testing.assert_array_equal(first.arrays("tiny_00")[0], kept)
    expected = image_slices(image[np.newaxis], size=(16, 16), max_pixel=0.2)
    np.testing.assert_array_equal(second.arrays("tiny_00")[0], expected)
    assert second.records["tiny_00"].image_sha256 != first.records["tiny_00"].image_sha256
    assert second.records["tiny_01"] == first.records["tiny_01"]


@pytest.mark.parametrize("damage", ["no record", "broken", "version", "cut", "gone"])
def test_a_damaged_case_is_prepared_again(task: Task, tmp_path: Path, damage: str) -> None:
    store = open_store(task, SETTINGS, tmp_path)
    expected = np.array(store.arrays("tiny_00")[0])
    key = case_key(task, task.cases[0])
    record, array = store.folder / f"{key}.json", store.folder / f"{key}_image.npy"
    match damage:
        case "no record":
            record.unlink()
        case "broken":
            record.write_text("{")
        case "version":
            content = json.loads(record.read_text())
            record.write_text(json.dumps({**content, "schema_version": -1}))
        case "cut":
            array.write_bytes(array.read_bytes()[:-1])
        case "gone":
            array.unlink()
    before = _states(store.folder)
    again = open_store(task, SETTINGS, tmp_path)
    np.testing.assert_array_equal(again.arrays("tiny_00")[0], expected)
    after = _states(store.folder)
    assert {name for name in after if after[name] != before.get(name)} == {
        f"{key}.json",
        f"{key}_image.npy",
        f"{key}_label.npy",
    }


def test_leftovers_of_a_killed_run_go(task: Task, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / store_name(task, SETTINGS)
    folder.mkdir(parents=True)
    (folder / "0123_image.npy.partial").write_bytes(b"half")
    open_store(task, SETTINGS, tmp_path / "cache")
    assert {path.suffix for path in folder.iterdir()} == {".npy", ".json"}
    assert len(list(folder.iterdir())) == 3 * len(task.cases)


def test_one_broken_case_is_one_line_and_the_others_stay(task: Task, tmp_path: Path) -> None:
    write_nifti(task.cases[3].label, volume(3, (10, 12, 5))[1])
    cache = tmp_path / "cache"
    with pytest.raises(InputError) as caught:
        open_store(task, SETTINGS, cache)
    assert refusal(caught).startswith(str(task.cases[3].label))
    folder = cache / store_name(task, SETTINGS)
    before = {name: state for name, state in _states(folder).items() if "broken" not in name}
    assert len(before) == 3 * 4
    write_nifti(task.cases[3].label, volume(3)[1])
    assert list(open_store(task, SETTINGS, cache).records) == [case.name for case in task.cases]
    assert before.items() <= _states(folder).items()


def test_all_broken_cases_are_told_of_in_one_go(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nifti(task.cases[3].label, volume(3, (10, 12, 5))[1])
    task.cases[1].image.write_bytes(b"no NIfTI")
    listed = BrokenCase("tiny_99", "tiny_99.nii.gz: found no such file, expected one; copy it")
    task = replace(task, broken=(listed,))
    with pytest.raises(InputError) as caught:
        open_store(task, SETTINGS, tmp_path / "cache")
    assert "3 of 6 cases that cannot be used (tiny_01, tiny_03, tiny_99)" in refusal(caught)
    assert "--data.on_error skip" in refusal(caught)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["Broken", "tiny_01"],
        ["Broken", "tiny_03"],
        ["Broken", "tiny_99"],
    ]
    assert str(task.cases[1].image) in lines[0]
    assert lines[2].endswith(listed.reason)

    store = open_store(task, SETTINGS, tmp_path / "cache", on_error="skip")
    assert list(store.records) == ["tiny_00", "tiny_02", "tiny_04"]
    assert sorted(case.name for case in store.broken) == ["tiny_01", "tiny_03", "tiny_99"]
    told = capsys.readouterr().err
    assert told.count("Left out: ") == 3
    for case in store.broken:
        assert case.reason in told


def test_a_task_without_a_usable_case_is_refused_even_so(task: Task, tmp_path: Path) -> None:
    for case in task.cases:
        case.image.write_bytes(b"no NIfTI")
    with pytest.raises(InputError) as caught:
        open_store(task, SETTINGS, tmp_path / "cache", on_error="skip")
    assert "5 of 5 cases" in refusal(caught)


def test_processes_prepare_what_one_prepares(task: Task, tmp_path: Path) -> None:
    write_nifti(task.cases[2].image, volume(0, (10, 12, 3))[0])
    task.cases[4].label.write_bytes(b"")
    jobs = [CaseJob(case, case.name, 1, (1, 2), SETTINGS, tmp_path / "one") for case in task.cases]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = [build_case(job) for job in jobs]
    two = run_apart(
        build_case,
        [replace(job, folder=tmp_path / "two") for job in jobs],
        workers=2,
        advance=lambda: None,
    )
    assert one == two
    assert [type(found) for found in one] == [
        CaseRecord,
        CaseRecord,
        BrokenCase,
        CaseRecord,
        BrokenCase,
    ]
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_no_more_is_mapped_than_agreed(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(task, SETTINGS, tmp_path)
    names = list(store.records)
    size = sum(store.records[names[0]].file_bytes)
    monkeypatch.setattr(datamodules.store, "MOST_MAPPED_BYTES", 2 * size)
    before = {name: np.array(store.arrays(name)[0]) for name in names}
    for name in [*names, *names[::-1], names[0], names[2], names[0]]:
        np.testing.assert_array_equal(store.arrays(name)[0], before[name])
        assert len(_mapped(store.folder)) <= 2 * 2
    # Those used last are the ones that stay, not those opened last.
    for name in (names[2], names[0], names[1]):
        store.arrays(name)
    kept = [store.records[names[0]], store.records[names[1]]]
    files = {name for record in kept for name in (record.image_file, record.label_file)}
    assert _mapped(store.folder) == files


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


def test_a_killed_build_goes_on_where_it_was(tmp_path: Path) -> None:
    write_task(tmp_path, cases=40, shape=(60, 60, 40))
    task = read_task(tmp_path, NAME)
    settings = StoreSettings(size=(64, 64), max_pixel=0.2)
    cache = tmp_path / "cache"
    folder = cache / store_name(task, settings)
    building = start_python(f"{OPEN}\nopen_it()", tmp_path, NAME, cache, 64)
    while len(list(folder.glob("*.json"))) < 3:
        assert building.poll() is None, building.communicate()
        time.sleep(0.001)
    building.send_signal(signal.SIGKILL)
    building.communicate()
    assert building.returncode == -signal.SIGKILL
    before = {name: state for name, state in _states(folder).items() if name.endswith(".json")}
    assert 3 <= len(before) < 40

    store = open_store(task, settings, cache)
    assert before.items() <= _states(folder).items()
    assert not list(folder.glob("*.partial"))
    expected = image_slices(volume(39, (60, 60, 40))[0][np.newaxis], size=(64, 64), max_pixel=0.2)
    np.testing.assert_array_equal(store.arrays("tiny_39")[0], expected)
    first = image_slices(volume(0, (60, 60, 40))[0][np.newaxis], size=(64, 64), max_pixel=0.2)
    np.testing.assert_array_equal(store.arrays("tiny_00")[0], first)


def test_several_runs_at_once_build_once(tmp_path: Path) -> None:
    write_task(tmp_path, cases=20, shape=(60, 60, 40))
    log = tmp_path / "log"
    code = f"""{OPEN}
build = datamodules.store_build.build_case

def noting(job):
    with open(sys.argv[5], "a") as log:
        log.write(job.case.name + "\\n")
    return build(job)

datamodules.store_build.build_case = noting
print(float(open_it().arrays("tiny_19")[0].sum()))
"""
    runs = [start_python(code, tmp_path, NAME, tmp_path / "cache", 64, log) for _ in range(3)]
    printed = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], printed
    assert log.read_text().splitlines() == [f"tiny_{index:02d}" for index in range(20)]
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
        ("size=16m", FILLING, "a cache folder that is full"),
        ("size=16m,nr_inodes=12", "", "a cache folder that is full"),
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
print([path.name for path in Path(cache).glob("*/*.partial")])
print(small.arrays("tiny_00")[0].shape)
"""
    size = 120
    command = [*tmpfs, options, str(disk), *_python(code, tmp_path, NAME, disk, size)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    message, left, shape = run.stdout.splitlines() or [run.stderr, "", ""]
    assert message.startswith(f"{disk}: found "), run.stderr
    assert free in message
    if not prelude and "inodes" not in options:
        assert f"expected {8 * 4 * size * size * 5 / 1e6:.1f} MB for the slices" in message
    assert "--data.cache_dir" in message
    assert left == "[]"
    assert shape == "(4, 1, 16, 16)"


def _states(folder: Path) -> dict[str, tuple[int, int]]:
    """Which file is there under each name, and since when."""
    found = {path.name: path.stat() for path in folder.iterdir()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


def _mapped(folder: Path) -> set[str]:
    """Files of a folder that this process has mapped."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return {Path(line.split()[-1]).name for line in lines if str(folder) in line}


def _python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
