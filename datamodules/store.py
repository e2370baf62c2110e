"""The slice store: a task's slices as ``.npy`` memory maps, keyed by what went into them.

Each case stands for itself: it is whole once its record is there, and is prepared again only when
its files change. A lock keeps two runs from preparing the same task at once.
"""

import errno
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich.console import Console

from datamodules.failures import recall_failure
from datamodules.manifest import CaseRecord, case_key, load_record, store_name
from datamodules.printable import printable
from datamodules.slicing import StoreSettings
from datamodules.store_build import CaseJob, build_cases
from datamodules.task import BrokenCase, Task
from datamodules.whole_file import PARTIAL, sync_folder
from datamodules.wrong_input import listed, wrong_input
from errors import InputError

OnError = Literal["stop", "skip"]
# Pages of a map that were read count as memory of the process while the map is open.
MOST_MAPPED_BYTES = 1 << 29
_SECONDS_BEFORE_NOTICE = 1.0

Arrays = tuple[NDArray[np.float32], NDArray[np.uint8]]


class SliceStore:
    """The slices of a task on disk, opened as memory maps when they are asked for.

    The maps used last stay open, up to 512 MB of them (or the last one alone): a task may be larger
    than memory. It can be sent to another process, which then opens the maps anew.

    Args:
        folder: The store.
        records: What it holds of each case.
        broken: The cases that were left out, and why.
    """

    def __init__(
        self, folder: Path, records: Sequence[CaseRecord], broken: Sequence[BrokenCase] = ()
    ) -> None:
        """Remember where the cases lie."""
        self.folder = folder
        self.records = {record.case: record for record in records}
        self.broken = tuple(broken)
        self._arrays: dict[str, Arrays] = {}
        self._mapped_bytes = 0

    def arrays(self, case: str) -> Arrays:
        """Open a case.

        Returns:
            Its images ``(S, C, H, W)`` and its label maps ``(S, H, W)``, both read-only.
        """
        opened = self._arrays.pop(case, None)
        if opened is None:
            record = self.records[case]
            # A plain array over the map: indexing np.memmap itself costs more than reading a slice.
            opened = (
                np.asarray(np.load(self.folder / record.image_file, mmap_mode="r")),
                np.asarray(np.load(self.folder / record.label_file, mmap_mode="r")),
            )
            self._mapped_bytes += sum(record.file_bytes)
            while self._arrays and self._mapped_bytes > MOST_MAPPED_BYTES:
                oldest = next(iter(self._arrays))
                del self._arrays[oldest]
                self._mapped_bytes -= sum(self.records[oldest].file_bytes)
        self._arrays[case] = opened
        return opened

    def __getstate__(self) -> dict[str, object]:
        """Leave the memory maps behind, which would be copied voxel by voxel."""
        return {**self.__dict__, "_arrays": {}, "_mapped_bytes": 0}


def open_store(
    task: Task,
    settings: StoreSettings,
    cache_dir: Path,
    *,
    workers: int | None = None,
    on_error: OnError = "stop",
    quiet: bool = False,
) -> SliceStore:
    """Open the store of a task, and prepare the cases that are not there or not whole.

    Args:
        task: The task.
        settings: How volumes become slices.
        cache_dir: Folder that holds the stores; made if it is not there.
        workers: Number of processes that prepare; all cores if None.
        on_error: Whether a case that cannot be used stops, or is skipped and told of on standard
            error.
        quiet: Whether another process tells of cases that are skipped.

    Raises:
        InputError: If a case cannot be used and that stops, or none can, or the folder is full or
            cannot be written. What is wrong with several cases goes to standard error, a line each.
    """
    folder = cache_dir / store_name(task, settings)
    keys: dict[str, str] = {}
    broken = list(task.broken)
    for case in task.cases:
        try:
            keys[case.name] = case_key(task, case)
        except OSError as error:
            wrong = wrong_input(
                at=error.filename,
                found=f"a file that cannot be read ({error.strerror})",
                expected="a volume",
                do="check the file and its permissions",
            )
            broken.append(BrokenCase(case.name, str(wrong)))
    found = _load(folder, keys)
    recalled = _recall(folder, task, keys, found)
    broken += recalled.values()
    wanted = {name: key for name, key in keys.items() if name not in recalled}
    if len(found) < len(wanted):
        try:
            built, wrong_cases = _build_locked(
                task, settings, folder, wanted, workers, lambda more: _print([*broken, *more])
            )
        except OSError as error:
            raise _disk_error(error, cache_dir) from error
        found, broken = built, [*broken, *wrong_cases]
    if broken:
        _refuse_or_skip(task, broken, len(found), on_error, quiet=quiet)
    return SliceStore(folder, [found[name] for name in sorted(found)], broken)


def default_cache_dir() -> Path:
    """Folder of the stores where none is set: ``segstress/slices`` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "segstress" / "slices"


def _load(folder: Path, keys: dict[str, str]) -> dict[str, CaseRecord]:
    loaded = {name: load_record(folder, key) for name, key in keys.items()}
    return {name: record for name, record in loaded.items() if record is not None}


def _recall(
    folder: Path, task: Task, keys: dict[str, str], found: Collection[str]
) -> dict[str, BrokenCase]:
    """Cases that could not be used when they were read last, and have not been touched since."""
    recalled = {
        case.name: recall_failure(folder, keys[case.name], case)
        for case in task.cases
        if case.name in keys and case.name not in found
    }
    return {name: broken for name, broken in recalled.items() if broken is not None}


def _build_locked(
    task: Task,
    settings: StoreSettings,
    folder: Path,
    keys: dict[str, str],
    workers: int | None,
    tell: Callable[[Sequence[BrokenCase]], None],
) -> tuple[dict[str, CaseRecord], list[BrokenCase]]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=_SECONDS_BEFORE_NOTICE)
    except Timeout:
        Console(stderr=True).print(f"Waiting for another run that prepares {task.folder.name} ...")
        lock.acquire()
    try:
        found = _load(folder, keys)
        for leftover in folder.glob(f"*{PARTIAL}"):
            leftover.unlink()
        jobs = [
            CaseJob(
                case,
                keys[case.name],
                len(task.channels),
                tuple(value for value, _ in task.labels),
                settings,
                folder,
            )
            for case in task.cases
            if case.name in keys and case.name not in found
        ]
        title = f"Preparing slices of {task.folder.name}"
        built, broken = build_cases(jobs, title=title, workers=workers, tell=tell)
        sync_folder(folder)
    finally:
        lock.release()
    return found | {record.case: record for record in built}, broken


def _refuse_or_skip(
    task: Task, broken: Sequence[BrokenCase], usable: int, on_error: OnError, *, quiet: bool
) -> None:
    """Say what is wrong with all cases that cannot be used, and end unless they are skipped."""
    skips = on_error == "skip" and usable > 0
    if skips:
        if not quiet:
            _print(broken, "Left out")
        return
    if len(broken) == 1:
        raise InputError(printable(broken[0].reason))
    _print(broken)
    names = listed(sorted(case.name for case in broken), 6)
    raise wrong_input(
        at=task.folder,
        found=f"{len(broken)} of {len(broken) + usable} cases that cannot be used ({names}), each "
        "named above",
        expected="volumes and label maps that fit together",
        do="mend or remove them, or set --data.on_error skip to go on without them"
        if usable
        else "mend them",
    )


def _print(broken: Sequence[BrokenCase], word: str = "Broken") -> None:
    console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    for case in sorted(broken, key=lambda case: case.name):
        console.print(printable(f"{word}: {case.name}: {case.reason}"))


def _disk_error(error: OSError, cache_dir: Path) -> InputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return wrong_input(
        at=cache_dir,
        found=f"a cache folder that {'is full' if full else 'cannot be used'} "
        f"({error.strerror or error})",
        expected="room for the slices" if full else "one that can be written",
        do="free some, or set --data.cache_dir to a folder on another disk"
        if full
        else "set --data.cache_dir to another folder",
    )
