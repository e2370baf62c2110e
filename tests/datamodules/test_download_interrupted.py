"""A download that is killed, doubled or short of room loses nothing and leaves no half task."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from datamodules.decathlon import read_task
from datamodules.download import address_in
from tests.datamodules.downloading import (
    FETCH,
    NOWHERE,
    fetch,
    names_in,
    refused,
)
from tests.datamodules.serving import (
    Behaviour,
    broken_after,
    md5,
    serving,
    status,
    stuck_after,
    task_tar,
    well,
    without_length,
)
from tests.datamodules.tiny import NAME, PROJECT, start_python


def wait_for(done: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.001)


def size_of(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def test_a_download_that_was_killed_goes_on(root: Path, content: bytes) -> None:
    most = len(content) // 2
    part = root / f"{NAME}.tar.part"
    with serving(content, stuck_after(most), well) as served:
        address = address_in(served.address, NAME)
        process = start_python(FETCH, root, NAME, address, md5(content))
        wait_for(lambda: size_of(part) == most, process)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -9
        assert part.read_bytes() == content[:most]
        assert not (root / NAME).exists()
        fetch(root, address, content)
    assert served.ranges == [None, f"bytes={most}-"]
    assert served.conditions == [None, '"one"']
    assert names_in(root) == {NAME}
    assert len(read_task(root, NAME).cases) == 3


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tar that takes a while to extract."""
    return task_tar(tmp_path_factory.mktemp("many"), cases=1000, shape=(4, 4, 2))


def test_an_extraction_that_was_killed_leaves_no_task_and_goes_on_without_a_network(
    root: Path, many: bytes
) -> None:
    partial = root / f".{NAME}.partial" / NAME / "imagesTr"
    with serving(many) as served:
        process = start_python(FETCH, root, NAME, served.address, md5(many))
        wait_for(lambda: len(list(partial.glob("*"))) > 20, process)
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -9
    assert not (root / NAME).exists()
    assert not list(root.glob("*/dataset.json"))
    assert partial.is_dir()
    done = fetch(root, NOWHERE, many)
    assert len(done.task.cases) == 1000
    assert names_in(root) == {NAME}


def test_the_task_appears_all_at_once(root: Path, many: bytes) -> None:
    with serving(many) as served:
        process = start_python(FETCH, root, NAME, served.address, md5(many))
        wait_for((root / NAME).exists, process)
        process.kill()
        process.communicate(timeout=60)
    assert len(read_task(root, NAME).cases) == 1000
    assert fetch(root, NOWHERE, many).was_there


@pytest.mark.parametrize("leftover", ["", "stale", "stale/deeper/file"])
def test_what_a_killed_extraction_left_is_cleaned(
    leftover: str, root: Path, content: bytes
) -> None:
    stale = root / f".{NAME}.partial" / NAME / leftover
    stale.mkdir(parents=True)
    with serving(content) as served:
        fetch(root, served.address, content)
    assert names_in(root) == {NAME}
    assert not (root / NAME / "stale").exists()


def test_two_calls_at_once_do_the_work_once(root: Path, content: bytes) -> None:
    with serving(content, stuck_after(1000), well) as served:
        address = address_in(served.address, NAME)
        first = start_python(FETCH, root, NAME, address, md5(content))
        wait_for(lambda: size_of(root / f"{NAME}.tar.part") == 1000, first)
        second = start_python(FETCH, root, NAME, address, md5(content))
        assert second.stderr is not None
        assert "Waiting for another call" in second.stderr.readline()
        served.released.set()  # the first one's connection breaks off, and it goes on
        outputs = [process.communicate(timeout=60)[0].strip() for process in (first, second)]
    assert outputs == ["fetched", "was there"]
    assert served.ranges == [None, "bytes=1000-"]
    assert names_in(root) == {NAME}


def test_a_call_goes_on_after_another_that_failed(root: Path, content: bytes) -> None:
    with serving(content, broken_after(1000), status(404), well) as served:
        assert "404" in refused(root, served.address, content)
        fetch(root, served.address, content)
    assert served.ranges == [None, "bytes=1000-", "bytes=1000-"]
    assert names_in(root) == {NAME}


@pytest.mark.parametrize(
    ("kilobytes", "behaviour", "words"),
    [
        (100, well, ["MB free", "the tar and the files in it"]),
        (500, well, ["MB free", "the tar and the files in it"]),
        (100, without_length, ["No space left on device", "the tar and the files in it"]),
        (500, without_length, ["MB free", f"the files of {NAME}"]),
    ],
    ids=["neither", "the tar alone", "neither, no length", "the tar alone, no length"],
)
def test_a_disk_with_room_for_too_little_is_named(
    kilobytes: int,
    behaviour: Behaviour,
    words: list[str],
    tmpfs: list[str],
    tmp_path: Path,
    content: bytes,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    assert 100 < len(content) / 1024 < 500 < 2 * len(content) / 1024
    listing = '"$@"; status=$?; find . -path "*/disk/*" -printf "left %P\\n"; exit $status'
    with serving(content, behaviour) as served:
        address = address_in(served.address, NAME)
        done = subprocess.run(
            [
                *(*tmpfs, f"size={kilobytes}k", str(disk)),
                *("sh", "-c", listing, "sh"),
                *(sys.executable, "-c", FETCH, str(disk), NAME, address, md5(content)),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {disk}: found ")
    assert "--root" in line
    assert all(word in line for word in words)
    left = {line.removeprefix("left disk/") for line in done.stdout.splitlines()}
    part = {f"{NAME}.tar.part", f"{NAME}.tar.part.json"}
    assert left == {f".{NAME}.lock"} | (part if behaviour is without_length else set())
