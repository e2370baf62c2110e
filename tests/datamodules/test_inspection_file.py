"""Files that are broken, of other kinds, or larger than they say."""

import gzip
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from datamodules.inspection_file import open_volume
from tests.datamodules.inspected import (
    AFFINE,
    SHAPE,
    clean_pair,
    clean_task,
    image_of,
    inspect,
    label_of,
    trained_on,
)
from tests.datamodules.tiny import edit_json

SPOILED = 2  # the case that is spoiled


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def claim(path: Path, *lengths: int) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[40 : 42 + 2 * len(lengths)] = struct.pack(f"<{1 + len(lengths)}h", 3, *lengths)
    path.write_bytes(gzip.compress(bytes(content)))


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "EOFError"),
    "checksum": (flip_checksum, "BadGzipFile: CRC check failed"),
    "text": (lambda path: path.write_text("no volume"), "BadGzipFile"),
    "empty": (lambda path: path.write_bytes(b""), "Error"),
    "text in gz": (lambda path: path.write_bytes(gzip.compress(b"x" * 999)), "Error"),
    "10^12 voxels": (
        lambda path: claim(path, 10000, 10000, 10000),
        r"declares \(10000, 10000, 10000\) voxels in \d+ bytes, the file holds \d+ bytes",
    ),
    "one frame more": (lambda path: claim(path, 12, 16, 7), r"declares \(12, 16, 7\) voxels"),
    "no depth": (lambda path: claim(path, 12, 16, 0), r"of shape \(0,\) holds"),
    "negative": (lambda path: claim(path, -12, 16, 6), "negative count"),
    "gone": (lambda path: path.unlink(), "no such file"),
    "a folder": (make_folder, "no such file"),
    "a loop": (lambda path: link_to(path, path.name), "cannot be followed|no such file"),
    "a way out": (lambda path: link_to(path, "/etc/hostname"), "leads out of the task's folder"),
}


@pytest.mark.parametrize("part", ["image", "label"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_told_and_stops_nothing(tmp_path: Path, how: str, part: str) -> None:
    folder = clean_task(tmp_path)
    spoil, words = BROKEN[how]
    spoil((image_of if part == "image" else label_of)(folder, SPOILED))
    found = inspect(folder)
    case = found.cases[SPOILED]
    assert not case.usable
    assert any(re.search(words, problem.reason) for problem in case.problems)
    assert all(not other.problems for other in found.cases if other is not case)
    assert len(found.usable) == 5
    assert not trained_on(folder, tmp_path)


def test_volumes_without_compression_are_the_same(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    before = inspect(folder)
    pairs = []
    for index in range(6):
        files = {}
        for part, at in (("image", image_of), ("label", label_of)):
            packed = at(folder, index)
            plain = packed.with_suffix("")
            plain.write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()
            files[part] = str(plain.relative_to(folder))
        pairs.append(files)
    edit_json(folder, training=pairs)
    after = inspect(folder)
    for one, other in zip(before.cases, after.cases, strict=True):
        assert one.image is not None
        assert other.image is not None
        assert one.image.channels == other.image.channels
        assert one.image.sha256 == other.image.sha256
        assert one.label == other.label
    content = image_of(folder, 1).with_suffix("").read_bytes()
    image_of(folder, 1).with_suffix("").write_bytes(content[:-1])
    (cut_short,) = [case for case in inspect(folder).cases if not case.usable]
    assert cut_short.name == "case_1"


def test_what_a_header_does_not_declare_is_not_kept_in_memory(tmp_path: Path) -> None:
    path = image_of(clean_task(tmp_path), SPOILED)
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(200_000_000), 1))
    tracemalloc.start()
    opened = open_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(opened.voxels, clean_pair(SPOILED)[0])
    assert peak < 100_000_000


def test_a_nifti_2_file_is_read(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    image = nibabel.Nifti2Image(clean_pair(SPOILED)[0], AFFINE)  # type: ignore[no-untyped-call]
    before = inspect(folder).cases[SPOILED].image
    image_of(folder, SPOILED).write_bytes(gzip.compress(image.to_bytes()))
    after = inspect(folder).cases[SPOILED].image
    assert before is not None
    assert after is not None
    assert (before.sha256, before.shape) == (after.sha256, after.shape) == (after.sha256, SHAPE)
