"""Files that are there whole or not at all, whatever ends the process that writes them."""

import os
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import DTypeLike, NDArray

PARTIAL = ".partial"


def partial_of(path: Path) -> Path:
    """Where a file is written before it is put in its place.

    Two processes that write the same one, one of them left over from a run that was killed, stay
    apart.
    """
    return path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it: there is never half of one.

    Args:
        path: The file, in a folder that exists.
        content: What it holds.

    Raises:
        OSError: If it cannot be written.
    """
    partial = partial_of(path)
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, so that a rename outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ArrayFile:
    """An ``.npy`` file written piece by piece beside its place, and renamed when it is whole.

    Plain writes: a full disk is then an error and not a signal, and a run that has the file of the
    same name mapped keeps what it has. What is zero throughout takes no room on disks that know
    holes in files.

    Args:
        path: Its place.
        shape: Of the array.
        dtype: Of its values.

    Raises:
        OSError: If it cannot be written.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Begin the file."""
        self._path = path
        self._partial = partial_of(path)
        self._file = self._partial.open("wb")
        header = npy_format.header_data_from_array_1_0(np.empty(0, dtype))
        npy_format.write_array_header_1_0(self._file, {**header, "shape": shape})

    def __enter__(self) -> "ArrayFile":
        """Write inside."""
        return self

    def write(self, piece: NDArray[np.generic]) -> None:
        """Add values in C order."""
        if piece.any():
            self._file.write(np.ascontiguousarray(piece).data)
        else:
            self._file.seek(piece.nbytes, os.SEEK_CUR)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Put the file in its place, or drop it after an error."""
        try:
            if kind is None:
                self._file.truncate(self._file.tell())
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._partial.replace(self._path)
        finally:
            try:
                # On a full disk it fails once more, over what is still to be written.
                self._file.close()
            finally:
                self._partial.unlink(missing_ok=True)
