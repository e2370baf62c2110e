"""A file that is not whole yet: its bytes, their running sum, and what the server said of it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_READ_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Source:
    """What the server said of the file when its first byte came.

    Attributes:
        address: Where it came from.
        validator: Its strong ETag, or else its date, which tells whether it has changed since.
        length: Its length in bytes, where the server told it.
    """

    address: str
    validator: str | None = None
    length: int | None = None


class PartFile:
    """The bytes that are there, to which others are appended.

    The source lies beside them in a file with ``.json`` at its end. As a context, the file is open
    for writing.

    Args:
        path: The file; it need not exist.
        advance: Called with the number of bytes that are read from it or written to it.
    """

    def __init__(self, path: Path, advance: Callable[[int], None]) -> None:
        """Read what is there already."""
        self.path = path
        self.source_path = path.with_name(f"{path.name}.json")
        self.size = 0
        self._advance = advance
        self._sum = hashlib.md5(usedforsecurity=False)
        self._file = path.open("a+b", buffering=0)
        self._file.seek(0)
        while chunk := self._file.read(_READ_AT_ONCE):
            self._count(chunk)
        # Bytes of an earlier run are one piece; a sum over several pieces can be wrong although
        # each of them is right.
        self.pieces = 1 if self.size else 0

    def __enter__(self) -> Self:
        """Keep the file open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, and remove it if nothing came."""
        self._file.close()
        if not self.size:
            self.remove()

    @property
    def md5(self) -> str:
        """Sum of the bytes that are there, in hexadecimal."""
        return self._sum.hexdigest()

    def source(self) -> Source | None:
        """What was kept of the source; None if it is not there or broken."""
        try:
            return Source(**json.loads(self.source_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def restart(self, source: Source | None = None) -> None:
        """Throw the bytes away, and keep where the next ones come from."""
        self._file.truncate(0)
        self._sum = hashlib.md5(usedforsecurity=False)
        self._advance(-self.size)
        self.size = self.pieces = 0
        if source is None:
            self.source_path.unlink(missing_ok=True)
        else:
            self.source_path.write_text(json.dumps(asdict(source)), encoding="utf-8")

    def append(self, chunk: bytes) -> None:
        """Write bytes at the end."""
        left = memoryview(chunk)
        while left:
            # Where a disk runs full, a write takes some bytes and only the next one fails.
            written = self._file.write(left)
            self._count(left[:written])
            left = left[written:]

    def remove(self) -> None:
        """Remove the file and what was kept of its source."""
        self.path.unlink(missing_ok=True)
        self.source_path.unlink(missing_ok=True)

    def _count(self, chunk: bytes | memoryview) -> None:
        self._sum.update(chunk)
        self.size += len(chunk)
        self._advance(len(chunk))


def md5_of(path: Path, advance: Callable[[int], None]) -> str:
    """Sum a file up.

    Args:
        path: The file.
        advance: Called with the number of bytes that are read.

    Raises:
        OSError: If it cannot be read.
    """
    found = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_READ_AT_ONCE):
            found.update(chunk)
            advance(len(chunk))
    return found.hexdigest()
