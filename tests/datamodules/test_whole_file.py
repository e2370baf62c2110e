"""Files are there whole or not at all."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.whole_file import PARTIAL, ArrayFile, partial_of, write_whole
from tests.datamodules.tiny import start_python


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    """Another process writes two texts in turn over each other."""
    path, length = tmp_path / "file", 4_000_000
    code = (
        "import sys; from pathlib import Path; from datamodules.whole_file import write_whole\n"
        "while True:\n"
        "    for letter in (b'a', b'b'):\n"
        f"        write_whole(Path(sys.argv[1]), letter * {length})\n"
    )
    write_whole(path, b"a" * length)
    writer = start_python(code, path)
    seen: list[bytes] = []
    try:
        while len(set(seen)) < 2 or len(seen) < 100:
            assert writer.poll() is None
            content = path.read_bytes()
            assert len(content) == length
            seen.append(content[:1])
            assert content == content[:1] * length
    finally:
        writer.kill()
        writer.communicate()
    assert path.read_bytes() in {b"a" * length, b"b" * length}


def test_a_file_that_cannot_be_put_in_its_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "taken", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_array_is_written_piece_by_piece(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)
    array[1:3] = 0
    array[5] = 0
    path = tmp_path / "array.npy"
    with ArrayFile(path, array.shape, array.dtype) as file:
        for piece in np.split(array, 6):
            file.write(piece)
        assert not path.exists()
        assert [one.name for one in tmp_path.iterdir()] == [partial_of(path).name]
    np.testing.assert_array_equal(np.load(path), array)
    assert not list(tmp_path.glob(f"*{PARTIAL}"))


def test_what_is_zero_takes_no_room(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    with ArrayFile(path, (64, 1 << 17), np.uint8) as file:
        for _ in range(64):
            file.write(np.zeros((1, 1 << 17), np.uint8))
    assert not np.load(path, mmap_mode="r").any()
    assert path.stat().st_size > 64 << 17
    assert 512 * path.stat().st_blocks < 1 << 17


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    path.write_bytes(b"before")

    def interrupted() -> None:
        with ArrayFile(path, (2,), np.uint8) as file:
            file.write(np.ones(1, np.uint8))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"before"]
