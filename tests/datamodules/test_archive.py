"""Tests of the extraction: what a good tar gives, and that each kind of bad one writes nothing."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.archive import MOST_MEMBERS, check_space, extract_task
from datamodules.decathlon import read_task
from errors import InputError
from tests.datamodules.serving import task_tar
from tests.datamodules.tiny import NAME, refusal

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"content") -> Member:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, target: str = "") -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def pack(path: Path, *members: Member) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder to write into, with something beside it that must not change."""
    (tmp_path / "around" / "into").mkdir(parents=True)
    (tmp_path / "around" / "victim").write_text("untouched")
    return tmp_path / "around" / "into"


def paths_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(tar: Path, place: Path) -> str:
    """The message of the error; nothing is written, inside or outside."""
    with pytest.raises(InputError) as caught:
        extract_task(tar, NAME, place)
    assert paths_in(place.parent) == ["into", "victim"]
    assert (place.parent / "victim").read_text() == "untouched"
    return refusal(caught)


def test_a_task_comes_out_byte_by_byte_and_without_the_files_of_macos(
    tmp_path: Path, place: Path
) -> None:
    tar = tmp_path / "task.tar"
    tar.write_bytes(task_tar(tmp_path / "source"))
    extract_task(tar, NAME, place)
    source = tmp_path / "source" / NAME
    expected = [path for path in paths_in(source) if "._" not in path and ".DS" not in path]
    assert len(expected) == 3 + 2 * 3  # dataset.json, two folders, three pairs
    assert paths_in(place) == [NAME, *(f"{NAME}/{path}" for path in expected)]
    for path in expected:
        if (source / path).is_file():
            assert (place / NAME / path).read_bytes() == (source / path).read_bytes()
    assert len(read_task(place, NAME).cases) == 3


def test_modes_are_not_taken_over(tmp_path: Path, place: Path) -> None:
    member, content = file(f"{NAME}/run.sh")
    member.mode, member.uid, member.gid = 0o6777, 12345, 12345
    extract_task(pack(tmp_path / "a.tar", (member, content)), NAME, place)
    found = (place / NAME / "run.sh").stat()
    assert found.st_mode & 0o7111 == 0
    assert found.st_uid == place.stat().st_uid


OUTSIDE: dict[str, tuple[list[Member], str]] = {
    "parent": ([file("../victim")], "lies outside"),
    "parent inside": ([file(f"{NAME}/../../victim")], "lies outside"),
    "parent to another task": ([file(f"{NAME}/../Task01/a")], "lies outside"),
    "absolute": ([file("/tmp/segstress_victim")], "lies outside"),
    "another folder": ([file("Task01_BrainTumour/dataset.json")], "lies outside"),
    "like the folder": ([file(f"{NAME}2/dataset.json")], "lies outside"),
    "the folder above as a file": ([file(".")], "lies outside"),
    "symlink": ([special(f"{NAME}/a", tarfile.SYMTYPE, "../../victim")], "a symbolic link"),
    "symlink inside": ([special(f"{NAME}/a", tarfile.SYMTYPE, "b")], "a symbolic link"),
    "symlink and through it": (
        [special(f"{NAME}/a", tarfile.SYMTYPE, "../.."), file(f"{NAME}/a/victim")],
        "a symbolic link",
    ),
    "hard link": ([special(f"{NAME}/a", tarfile.LNKTYPE, "../victim")], "a hard link"),
    "device": ([special(f"{NAME}/a", tarfile.CHRTYPE)], "a device"),
    "block device": ([special(f"{NAME}/a", tarfile.BLKTYPE)], "a device"),
    "pipe": ([special(f"{NAME}/a", tarfile.FIFOTYPE)], "a pipe"),
    "backslash": ([file(f"{NAME}\\..\\victim")], "backslashes"),
    "escape sequence": ([file(f"{NAME}/\x1b[2Ja")], "unprintable"),
    "new line": ([file(f"{NAME}/a\nb")], "unprintable"),
    "twice": ([file(f"{NAME}/a"), file(f"{NAME}/a")], "a second time"),
    "twice on some disks": ([file(f"{NAME}/a"), file(f"{NAME}/A")], "a second time"),
    "below a file": ([file(f"{NAME}/a"), file(f"{NAME}/a/b")], "below a file"),
    "a file for a folder": ([file(f"{NAME}/a/b"), file(f"{NAME}/a")], "a second time"),
}


@pytest.mark.parametrize("case", OUTSIDE)
@pytest.mark.parametrize("after", [0, 3], ids=["first", "after good members"])
def test_a_bad_member_is_refused_by_name_and_nothing_is_written(
    case: str, after: int, tmp_path: Path, place: Path
) -> None:
    members, why = OUTSIDE[case]
    good = [file(f"{NAME}/good_{index}") for index in range(after)]
    message = refused(pack(tmp_path / "bad.tar", *good, *members), place)
    assert why in message
    assert "a member" in message
    assert not Path("/tmp/segstress_victim").exists()


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path, place: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(f"{NAME}/\udcff"))
    (tmp_path / "bad.tar").write_bytes(packed.getvalue())
    assert "unprintable" in refused(tmp_path / "bad.tar", place)


def test_the_message_of_a_very_long_name_is_short(tmp_path: Path, place: Path) -> None:
    assert len(refused(pack(tmp_path / "bad.tar", file("x/" * 5000)), place)) < 700


def sparse(path: Path, size: int = 10**12, *beside: Member) -> Path:
    """A file of a terabyte that is nearly all hole, in 10 KB."""
    member, content = file(f"{NAME}/bomb", b"x" * 512)
    member.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": f"{NAME}/bomb",
        "GNU.sparse.size": str(size),
        "GNU.sparse.numblocks": "1",
        "GNU.sparse.map": f"{size - 512},512",
    }
    return pack(path, *beside, (member, content))


def sparse_and_small(path: Path) -> Path:
    """A file with a hole that is smaller than the archive."""
    return sparse(path, 10_000, file(f"{NAME}/beside", bytes(20_000)))


def too_large(path: Path) -> Path:
    """A header that claims a terabyte, and nothing behind it."""
    member, _ = file(f"{NAME}/bomb")
    member.size = 10**12
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    return path


def compressed(path: Path) -> Path:
    pack(path, file(f"{NAME}/zeros", bytes(1_000_000)))
    path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def too_many(path: Path) -> Path:
    return pack(path, *(file(f"{NAME}/{index}", b"") for index in range(MOST_MEMBERS + 1)))


def too_many_of_macos(path: Path) -> Path:
    return pack(path, *(file(f"{NAME}/._{index}", b"") for index in range(MOST_MEMBERS + 1)))


@pytest.mark.parametrize(
    ("bomb", "why"),
    [
        (sparse, "the archive's own"),
        (sparse_and_small, "has holes"),
        (too_large, "the archive's own"),
        (compressed, "no tar"),
        (too_many, f"of {MOST_MEMBERS} at most"),
        (too_many_of_macos, f"of {MOST_MEMBERS} at most"),
    ],
)
def test_a_bomb_is_refused(
    bomb: Callable[[Path], Path], why: str, tmp_path: Path, place: Path
) -> None:
    assert why in refused(bomb(tmp_path / "bomb.tar"), place)


def test_members_that_are_left_out_are_not_written_whatever_they_are(
    tmp_path: Path, place: Path
) -> None:
    extract_task(
        pack(
            tmp_path / "a.tar",
            file("../._victim"),
            special("._link", tarfile.SYMTYPE, "../victim"),
            file(f"{NAME}/a"),
        ),
        NAME,
        place,
    )
    assert paths_in(place.parent) == ["into", f"into/{NAME}", f"into/{NAME}/a", "victim"]


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * 5000, b"<html>" * 1000])
def test_what_is_no_tar_is_refused(content: bytes, tmp_path: Path, place: Path) -> None:
    (tmp_path / "no.tar").write_bytes(content)
    assert "no tar" in refused(tmp_path / "no.tar", place)


def test_python_s_filter_is_asked_too(tmp_path: Path, place: Path) -> None:
    # Its verdict must reach the user, whatever it is: here on a folder that leads out of `into`.
    if not hasattr(tarfile, "data_filter"):
        pytest.skip("Python before 3.11.4, such as Debian 12's, has no tarfile.data_filter")
    (place / NAME).symlink_to(place.parent)
    with pytest.raises(InputError) as caught:
        extract_task(pack(tmp_path / "a.tar", file(f"{NAME}/victim")), NAME, place)
    assert "Python's filter" in refusal(caught)
    assert (place.parent / "victim").read_text() == "untouched"


def test_room_on_the_disk_is_checked(tmp_path: Path) -> None:
    check_space(tmp_path, 1, "a byte")
    with pytest.raises(InputError) as caught:
        check_space(tmp_path, 10**18, "very much")
    message = refusal(caught)
    assert "1,000,000,000,000.0 MB for very much" in message
    assert str(tmp_path) in message
