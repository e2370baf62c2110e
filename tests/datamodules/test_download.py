"""Tests of getting a task: from a server, a mirror on disk or a tar that lies there."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from datamodules.decathlon import read_task
from datamodules.download import FetchedTask, address_in, fetch_task
from datamodules.download_http import Patience
from errors import InputError
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
from tests.datamodules.tiny import NAME, PROJECT, refusal, start_python

HASTE = Patience(retries=1, timeout_seconds=5, first_wait_seconds=0.01)
NOWHERE = "http://127.0.0.1:9/none.tar"
FETCH = (
    "import sys; from pathlib import Path; from datamodules.download import fetch_task;"
    "from errors import InputError\n"
    "root, folder, address, md5 = sys.argv[1:5]\n"
    "try: done = fetch_task(Path(root), folder, address=address, md5=md5)\n"
    "except InputError as error: sys.exit(f'error: {error}')\n"
    "print('was there' if done.was_there else 'fetched')"
)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return task_tar(tmp_path_factory.mktemp("packed"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "new" / "data"


def fetch(
    root: Path, address: str, content: bytes, *, keep: bool = False, folder: str = NAME
) -> FetchedTask:
    return fetch_task(
        root, folder, address=address, md5=md5(content), keep_archive=keep, patience=HASTE
    )


def names_in(root: Path) -> set[str]:
    """What lies in a root, without the lock that stays."""
    return {path.name for path in root.iterdir()} - {f".{NAME}.lock"}


def refused(root: Path, address: str, content: bytes, *, folder: str = NAME) -> str:
    with pytest.raises(InputError) as caught:
        fetch(root, address, content, folder=folder)
    return refusal(caught)


def test_a_task_is_downloaded_and_can_be_read(root: Path, content: bytes) -> None:
    with serving(content) as served:
        done = fetch(root, address_in(served.address, NAME), content)
    assert served.paths == [f"/{NAME}.tar"]
    assert not done.was_there
    assert done.archive is None
    assert done.task == read_task(root, NAME)
    assert [case.name for case in done.task.cases] == ["tiny_00", "tiny_01", "tiny_02"]
    assert names_in(root) == {NAME}


def test_the_tar_is_kept_on_request(root: Path, content: bytes) -> None:
    with serving(content) as served:
        done = fetch(root, address_in(served.address, NAME), content, keep=True)
    assert done.archive == root / f"{NAME}.tar"
    assert done.archive.read_bytes() == content
    assert names_in(root) == {NAME, f"{NAME}.tar"}


def test_a_task_that_is_there_is_left_alone(root: Path, content: bytes) -> None:
    with serving(content) as served:
        fetch(root, served.address, content)
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        again = fetch(root, served.address, content)
    assert again.was_there
    assert len(served.paths) == 1
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_task_that_is_there_needs_no_lock_and_may_be_read_only(
    root: Path, content: bytes
) -> None:
    with serving(content) as served:
        fetch(root, served.address, content)
    (root / f".{NAME}.lock").unlink()
    assert fetch(root, NOWHERE, content).was_there
    assert names_in(root) == {path.name for path in root.iterdir()} == {NAME}


@pytest.mark.parametrize("keep", [False, True])
def test_a_tar_that_lies_there_needs_no_network_and_stays(
    keep: bool, root: Path, content: bytes
) -> None:
    root.mkdir(parents=True)
    (root / f"{NAME}.tar").write_bytes(content)
    done = fetch(root, NOWHERE, content, keep=keep)
    assert done.archive == root / f"{NAME}.tar"
    assert names_in(root) == {NAME, f"{NAME}.tar"}
    assert len(done.task.cases) == 3


def test_a_wrong_tar_that_lies_there_is_named_and_stays(root: Path, content: bytes) -> None:
    root.mkdir(parents=True)
    tar = root / f"{NAME}.tar"
    tar.write_bytes(content[:-1])
    message = refused(root, NOWHERE, content)
    assert message.startswith(f"{tar}: found a file with md5 {md5(content[:-1])}")
    assert tar.read_bytes() == content[:-1]
    assert names_in(root) == {f"{NAME}.tar"}


def test_a_mirror_on_disk_is_read_where_it_is(root: Path, tmp_path: Path, content: bytes) -> None:
    mirror = tmp_path / "a mirror, 100 %"
    mirror.mkdir()
    (mirror / f"{NAME}.tar").write_bytes(content)
    done = fetch(root, address_in(mirror.as_uri(), NAME), content)
    assert done.archive == mirror / f"{NAME}.tar"
    assert done.archive.read_bytes() == content
    assert names_in(root) == {NAME}


def test_a_mirror_on_disk_without_the_tar(root: Path, tmp_path: Path, content: bytes) -> None:
    message = refused(root, address_in(f"file://{tmp_path}/", NAME), content)
    assert message.startswith(f"{tmp_path}/{NAME}.tar: found no such file")


@pytest.mark.parametrize(
    ("mirror", "address"),
    [
        ("http://host:80/a/", "http://host:80/a/T.tar"),
        ("https://host", "https://host/T.tar"),
        ("file:///a/b", "file:///a/b/T.tar"),
        ("file://localhost/a", "file://localhost/a/T.tar"),
    ],
)
def test_the_tar_lies_under_the_mirror(mirror: str, address: str) -> None:
    assert address_in(mirror, "T") == address


@pytest.mark.parametrize(
    "mirror",
    [
        *("", "data", "/data", "ftp://host/a", "http://", "http:///a", "file:a", "file://host/a"),
        *("http://host:x/", "http://[::1", "https://host/?key=1", "https://host/#a"),
    ],
)
def test_a_wrong_mirror_is_refused(mirror: str) -> None:
    with pytest.raises(InputError) as caught:
        address_in(mirror, NAME)
    assert refusal(caught).startswith(f"--mirror: found {mirror!r}")


@pytest.mark.parametrize("mirror", ["https://ada:secret@host/", "http://secret@host:x/a"])
def test_a_password_in_a_mirror_is_refused_and_not_shown(mirror: str) -> None:
    with pytest.raises(InputError) as caught:
        address_in(mirror, NAME)
    assert "secret" not in refusal(caught)


# Folders that are there and not whole


def remove_image(folder: Path) -> None:
    (folder / "imagesTr" / "tiny_01.nii.gz").unlink()


def empty_label(folder: Path) -> None:
    (folder / "labelsTr" / "tiny_01.nii.gz").write_bytes(b"")


def remove_json(folder: Path) -> None:
    (folder / "dataset.json").unlink()


@pytest.mark.parametrize("harm", [remove_image, empty_label, remove_json])
def test_a_folder_that_is_not_whole_is_named_and_never_replaced(
    harm: Callable[[Path], None], root: Path, content: bytes
) -> None:
    with serving(content) as served:
        fetch(root, served.address, content)
        harm(root / NAME)
        before = sorted(root.rglob("*"))
        message = refused(root, served.address, content)
    assert message.startswith(f"{root / NAME}: ")
    assert "rename or remove it" in message
    assert sorted(root.rglob("*")) == before
    assert len(served.paths) == 1


def test_a_file_in_the_place_of_the_folder(root: Path, content: bytes) -> None:
    root.mkdir(parents=True)
    (root / NAME).write_text("mine")
    assert "rename or remove it" in refused(root, NOWHERE, content)
    assert (root / NAME).read_text() == "mine"


def test_a_root_that_cannot_be(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "set --root" in refused(root, NOWHERE, content)
    assert (tmp_path / "file").read_text() == "mine"


# Wrong archives


def test_an_archive_of_another_task_leaves_nothing(root: Path, content: bytes) -> None:
    with serving(content) as served:
        message = refused(root, served.address, content, folder="Task05_Prostate")
    assert "lies outside of Task05_Prostate" in message
    part = "Task05_Prostate.tar.part"
    assert names_in(root) == {".Task05_Prostate.lock", part, f"{part}.json"}


def test_an_archive_without_a_task_leaves_nothing(
    root: Path, tmp_path: Path, content: bytes
) -> None:
    source = tmp_path / "empty"
    (source / NAME).mkdir(parents=True)
    (source / NAME / "dataset.json").write_text(json.dumps({"labels": {}}))
    subprocess.run(["tar", "cf", f"{tmp_path}/e.tar", "-C", source, NAME], check=True)
    packed = (tmp_path / "e.tar").read_bytes()
    with serving(packed) as served:
        assert "no task that can be read" in refused(root, served.address, packed)
    assert names_in(root) == {f"{NAME}.tar.part", f"{NAME}.tar.part.json"}


def test_a_wrong_file_leaves_nothing(root: Path, content: bytes) -> None:
    with serving(b"<html>log in</html>") as served:
        assert "md5" in refused(root, served.address, content)
    assert names_in(root) == set()


# Interruptions


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
