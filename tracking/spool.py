"""What a run writes waits here, in order and on disk, until its store has it."""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from datamodules.whole_file import PARTIAL, write_whole
from tracking.store import runs_dir, sqlite_path

_ENDING = ".entry"
_ADDRESS_FILE = "store.txt"
_ABANDONED_AFTER_S = 3600.0


@dataclass(frozen=True)
class Entry:
    """One write that a run asked for; written twice, it changes nothing.

    Attributes:
        kind: ``metrics``, ``describe``, ``file``, ``picture``, ``status`` or ``dashboards``.
        facts: What is written, as plain values.
        payload: Content of a file or picture.
    """

    kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


class Spool:
    """The entries of one run that its store does not have yet, in the order they were written.

    An entry is one file, on disk before it has its name: a process that is killed leaves it whole
    or not at all. Several processes may add to a spool; one at a time delivers from it, and holds
    :meth:`lock` meanwhile.

    Args:
        run_id: The run.
        root: Folder of all spools; beside the checkpoints where none is given.
    """

    def __init__(self, run_id: str, root: Path | None = None) -> None:
        self.run_id = run_id
        self.folder = (spools_dir() if root is None else root) / run_id
        self._last = 0

    @property
    def address(self) -> str | None:
        """The store that the entries are for; None where nobody has said so."""
        try:
            return (self.folder / _ADDRESS_FILE).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    def claim(self, uri: str) -> None:
        """Make the spool and say which store its entries are for.

        Args:
            uri: Address of the store; its user and password are not kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.address != store_address(uri):
            self._write(self.folder / _ADDRESS_FILE, store_address(uri).encode())

    def append(self, entry: Entry) -> str:
        """Add an entry; it is on disk when this returns.

        Returns:
            Its name; later entries have higher ones.
        """
        header = json.dumps({"kind": entry.kind, **entry.facts}).encode()
        # Times number the entries: names go on rising where all earlier ones were delivered.
        self._last = max(time.time_ns(), self._highest() + 1)
        # What is drawn at random keeps processes apart that add at the same moment.
        path = self.folder / f"{self._last:020d}-{uuid.uuid4().hex[:8]}{_ENDING}"
        self._write(path, header + b"\n" + entry.payload)
        return path.name

    def names(self) -> list[str]:
        """The entries that wait, the oldest first."""
        try:
            found = [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if name.endswith(_ENDING))

    def read(self, name: str) -> Entry:
        """An entry that waits.

        Raises:
            FileNotFoundError: If it was delivered meanwhile.
            ValueError: If the file is no entry.
        """
        header, found, payload = (self.folder / name).read_bytes().partition(b"\n")
        facts = json.loads(header)
        if not found or not isinstance(facts, dict) or "kind" not in facts:
            msg = f"{self.folder / name} is no entry of a spool"
            raise ValueError(msg)
        return Entry(facts.pop("kind"), facts, payload)

    def remove(self, name: str) -> None:
        """Drop an entry, which the store has."""
        (self.folder / name).unlink(missing_ok=True)

    def lock(self, timeout_s: float) -> FileLock:
        """What one deliverer holds while it delivers, among all processes and threads."""
        return FileLock(self.folder / "deliver.lock", timeout=timeout_s)

    def tidy(self) -> None:
        """Drop what killed processes left half-written long ago."""
        for left in self.folder.glob(f"*{PARTIAL}"):
            try:
                if time.time() - left.stat().st_mtime > _ABANDONED_AFTER_S:
                    left.unlink()
            except FileNotFoundError:
                continue

    def _highest(self) -> int:
        if not self._last:
            self._last = max((int(name.partition("-")[0]) for name in self.names()), default=0)
        return self._last

    def _write(self, path: Path, content: bytes) -> None:
        write_whole(path, content)
        # The folder is not flushed: it would double the cost, and what a power cut takes here the
        # checkpoint still has.


def spools_dir() -> Path:
    """Where the spools of all runs are: beside the checkpoints."""
    return runs_dir() / "spool"


def waiting_spools(root: Path | None = None) -> Iterator[Spool]:
    """The spools with entries that were not delivered.

    Args:
        root: Folder of all spools; beside the checkpoints where none is given.
    """
    folder = spools_dir() if root is None else root
    for found in sorted(folder.iterdir()) if folder.is_dir() else ():
        spool = Spool(found.name, folder)
        if spool.names():
            yield spool


def store_address(uri: str) -> str:
    """A store's address as it may be written down: without user, password and options.

    An SQLite file lies beside its spools, so that both can be moved: its name is enough.
    """
    database = sqlite_path(uri)
    if database is not None:
        return f"sqlite:{database.name}"
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")
