"""Files that are broken, of other kinds, or larger than they say."""

import gzip
import os
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from datamodules.nifti_file import (
    MOST_VOXELS,
    check_whole,
    corner_distance,
    open_volume,
    read_file_header,
)
from tests.datamodules.inspected import (
    AFFINE,
    SHAPE,
    clean_pair,
    clean_task,
    image_of,
    inspect,
    label_of,
    save,
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


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


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
        r"declares \(10000, 10000, 10000\) voxels, which is below 0 or above 2\^32",
    ),
    "10^9 voxels": (
        lambda path: claim(path, 1000, 1000, 1000),
        r"declares \(1000, 1000, 1000\) voxels in \d+ bytes, the file holds at most \d+ bytes",
    ),
    "one frame more": (lambda path: claim(path, 12, 16, 7), r"declares \(12, 16, 7\) voxels"),
    "no depth": (lambda path: claim(path, 12, 16, 0), r"of shape \(12, 16, 0\) holds"),
    "negative": (
        lambda path: claim(path, -12, 16, 6),
        r"declares \(-12, 16, 6\) voxels, which is below 0",
    ),
    "gone": (lambda path: path.unlink(), "no such file"),
    "a folder": (make_folder, "found a folder"),
    "a pipe": (make_pipe, "found no plain file, but a pipe"),
    "a loop": (lambda path: link_to(path, path.name), "cannot be followed"),
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


@given(
    voxels=arrays(
        st.sampled_from([np.uint8, np.int16, np.int64, np.float32, np.float64]),
        array_shapes(min_dims=1, max_dims=5, max_side=4),
        elements=st.integers(0, 100),
    ),
    order=st.sampled_from("<>"),
    slope=st.sampled_from([1.0, 0.0, 2.5, np.nan]),
    inter=st.sampled_from([0.0, -3.0]),
    is_second=st.booleans(),
    name=st.sampled_from(["a.nii", "a.nii.gz"]),
    extension=st.integers(0, 5000),
)
def test_what_nibabel_reads_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    voxels: NDArray[np.generic],
    order: str,
    slope: float,
    inter: float,
    is_second: bool,
    name: str,
    extension: int,
) -> None:
    path = tmp_path_factory.mktemp("volume") / name
    kind: Any = nibabel.Nifti2Image if is_second else nibabel.Nifti1Image
    header = kind.header_class(endianness=order)
    header.set_data_dtype(voxels.dtype)
    image = kind(voxels, AFFINE, header, dtype=voxels.dtype)
    image.header["scl_slope"], image.header["scl_inter"] = slope, inter
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, bytes(extension)))
    nibabel.save(image, path)
    # Saving sets the factors anew, where it has any.
    content = bytearray(
        gzip.decompress(path.read_bytes()) if name[-1] == "z" else path.read_bytes()
    )
    at, form = (176, f"{order}2d") if is_second else (112, f"{order}2f")
    struct.pack_into(form, content, at, slope, inter)
    path.write_bytes(gzip.compress(bytes(content)) if name[-1] == "z" else bytes(content))
    assert struct.unpack_from(f"{order}i", content)[0] == (540 if is_second else 348)
    expected = nibabel.load(path)
    opened = open_volume(path)
    np.testing.assert_array_equal(opened.voxels, np.asanyarray(expected.dataobj))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(opened.affine, expected.affine)  # type: ignore[attr-defined]
    assert opened.dtype == voxels.dtype.name
    told = read_file_header(path)
    assert (told.shape, told.dtype, told.is_real) == (voxels.shape, voxels.dtype.name, True)
    np.testing.assert_array_equal(told.affine, opened.affine)


def test_a_header_is_read_alone(tmp_path: Path) -> None:
    path = image_of(clean_task(tmp_path), SPOILED)
    whole = read_file_header(path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:400]))
    assert read_file_header(path).shape == whole.shape == SHAPE
    for read in (open_volume, check_whole):
        with pytest.raises(ValueError, match=r"declares \(12, 16, 6\) voxels in 2304 bytes"):
            read(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_file_is_whole_up_to_its_last_byte(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save(path, clean_pair(SPOILED)[0])
    check_whole(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises((EOFError, ValueError), match=r"holds 2655 bytes|end-of-stream"):
        check_whole(path)
    assert len(content) == 2656 or name == "a.nii.gz"


def test_the_length_of_a_file_tells_with_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    save(path, clean_pair(SPOILED)[0])
    os.truncate(path, 2655)
    with pytest.raises(ValueError, match="in 2304 bytes, the file holds 2655 bytes"):
        read_file_header(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_more_than_2_to_the_32_voxels_are_refused_before_they_are_read(
    tmp_path: Path, name: str
) -> None:
    """A sparse file that is as long as its header says, and a gz that says so."""
    path = tmp_path / name
    header = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_dtype(np.uint8)  # type: ignore[no-untyped-call]
    header.set_data_shape((2048, 2048, 1025))  # type: ignore[no-untyped-call]
    content = header.binaryblock + bytes(4)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(content + bytes(10**8), 1))
    else:
        path.write_bytes(content)
        os.truncate(path, 352 + 2048 * 2048 * 1025)
    tracemalloc.start()
    for read in (open_volume, read_file_header):
        with pytest.raises(ValueError, match=r"\(2048, 2048, 1025\) voxels, .* above 2\^32"):
            read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_large_sparse_file_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    header = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_dtype(np.float32)  # type: ignore[no-untyped-call]
    header.set_data_shape((2048, 2048, 1024))  # type: ignore[no-untyped-call]
    path.write_bytes(header.binaryblock + bytes(4))
    os.truncate(path, 352 + 4 * 2048 * 2048 * 1024)
    tracemalloc.start()
    opened = open_volume(path)
    assert not opened.voxels[..., 1000].any()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert opened.voxels.size == MOST_VOXELS
    assert peak < 1_000_000


def test_a_distance_is_that_of_the_farthest_corner() -> None:
    other = AFFINE.copy()
    other[2, 2] += 0.1
    other[0, 3] += 0.3
    corners = [np.array([x, y, z, 1]) for x in (0, 11) for y in (0, 15) for z in (0, 5)]
    by_hand = max(float(np.linalg.norm(AFFINE @ at - other @ at)) for at in corners)
    assert corner_distance(SHAPE, AFFINE, other) == pytest.approx(by_hand / 0.8)
    assert corner_distance(SHAPE, AFFINE, AFFINE) == 0
    for useless in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.full((4, 4), np.inf)):
        assert np.isnan(corner_distance(SHAPE, AFFINE, useless))
        assert np.isnan(corner_distance(SHAPE, useless, AFFINE))
