"""Tests of getting a task: from a server, a mirror on disk or a tar that lies there."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.decathlon import read_task
from datamodules.download import address_in
from errors import InputError
from tests.datamodules.downloading import (
    NOWHERE,
    fetch,
    names_in,
    refused,
)
from tests.datamodules.serving import (
    md5,
    serving,
)
from tests.datamodules.tiny import NAME, refusal


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
