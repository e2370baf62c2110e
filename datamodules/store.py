"""The slice store: a task's slices as ``.npy`` memory maps, keyed by what went into them.

A store is written into a folder beside its place and renamed when it is whole, under a lock: a
killed run or two runs at once never leave half of one.
"""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from rich.console import Console

from datamodules.decathlon import Task
from datamodules.manifest import CaseRecord, StoreSettings, load_manifest, store_key
from datamodules.store_build import build_store, needed_bytes, sync_folder
from datamodules.volumes import read_shape
from datamodules.wrong_input import wrong_input
from errors import InputError

_MEGABYTE = 1_000_000
_SECONDS_BEFORE_NOTICE = 1.0


class SliceStore:
    """The slices of a task on disk, opened as memory maps when they are first asked for.

    It can be sent to another process, which then opens the maps anew.

    Args:
        folder: The store.
        records: What its manifest says of the cases.
    """

    def __init__(self, folder: Path, records: tuple[CaseRecord, ...]) -> None:
        """Remember where the cases lie."""
        self.folder = folder
        self.records = {record.case: record for record in records}
        self._arrays: dict[str, tuple[NDArray[np.float32], NDArray[np.uint8]]] = {}

    def arrays(self, case: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Open a case.

        Returns:
            Its images ``(D, C, H, W)`` and its label maps ``(D, H, W)``, both read-only.
        """
        opened = self._arrays.get(case)
        if opened is None:
            record = self.records[case]
            # A plain array over the map: indexing np.memmap itself costs more than reading a slice.
            opened = (
                np.asarray(np.load(self.folder / record.image_file, mmap_mode="r")),
                np.asarray(np.load(self.folder / record.label_file, mmap_mode="r")),
            )
            self._arrays[case] = opened
        return opened

    def __getstate__(self) -> dict[str, object]:
        """Leave the memory maps behind, which would be copied voxel by voxel."""
        return {**self.__dict__, "_arrays": {}}


def open_store(task: Task, settings: StoreSettings, cache_dir: Path) -> SliceStore:
    """Open the store of a task, building it first if it is not there or not whole.

    Args:
        task: The task.
        settings: How volumes become slices.
        cache_dir: Folder that holds the stores; made if it is not there.

    Raises:
        InputError: If a volume cannot be used, or the folder is full or cannot be written.
    """
    try:
        key = store_key(task, settings)
    except OSError as error:
        raise wrong_input(
            at=error.filename,
            found=f"a file that cannot be read ({error.strerror})",
            expected="a volume",
            do="check the file and its permissions",
        ) from error
    folder = cache_dir / key
    records = _whole(folder, key)
    if records is None:
        try:
            records = _build_locked(task, settings, folder, key)
        except OSError as error:
            raise _disk_error(error, task, settings, cache_dir) from error
    return SliceStore(folder, records)


def default_cache_dir() -> Path:
    """Folder of the stores where none is set: ``segstress/slices`` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "segstress" / "slices"


def _whole(folder: Path, key: str) -> tuple[CaseRecord, ...] | None:
    try:
        return load_manifest(folder, key)
    except (OSError, ValueError, RecursionError):
        return None


def _build_locked(
    task: Task, settings: StoreSettings, folder: Path, key: str
) -> tuple[CaseRecord, ...]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{key}.lock"))
    try:
        lock.acquire(timeout=_SECONDS_BEFORE_NOTICE)
    except Timeout:
        Console(stderr=True).print(f"Waiting for another run that prepares {task.folder.name} ...")
        lock.acquire()
    try:
        return _whole(folder, key) or _build(task, settings, folder, key)
    finally:
        lock.release()


def _build(task: Task, settings: StoreSettings, folder: Path, key: str) -> tuple[CaseRecord, ...]:
    """Build beside the store's place and rename; whatever a killed run left there goes first."""
    partial, replaced = (folder.with_name(f"{key}.{state}") for state in ("partial", "replaced"))
    for leftover in (partial, replaced):
        if leftover.exists():
            shutil.rmtree(leftover)
    partial.mkdir()
    try:
        build_store(task, settings, partial, key)
        if folder.exists():
            folder.rename(replaced)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)
    return load_manifest(folder, key)


def _disk_error(error: OSError, task: Task, settings: StoreSettings, cache_dir: Path) -> InputError:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return wrong_input(
            at=cache_dir,
            found=f"a cache folder that cannot be used ({error.strerror or error})",
            expected="one that can be written",
            do="set --data.cache_dir to another folder",
        )
    shapes = [read_shape(case, channels=len(task.channels)) for case in task.cases]
    needed = needed_bytes(task, shapes, settings) / _MEGABYTE
    free = shutil.disk_usage(cache_dir).free / _MEGABYTE
    return wrong_input(
        at=cache_dir,
        found=f"{free:.1f} MB free in the cache folder ({error.strerror})",
        expected=f"{needed:.1f} MB for the slices of {task.folder.name}",
        do="free some, or set --data.cache_dir to a folder on another disk",
    )
