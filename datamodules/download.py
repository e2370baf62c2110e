"""Getting a task: its tar is downloaded or found, checked, and extracted beside its place."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock, Timeout

from datamodules.archive import extract_task
from datamodules.decathlon import Task, read_task
from datamodules.download_http import Patience, download
from datamodules.download_part import md5_of
from datamodules.download_progress import notices, progress
from datamodules.whole_file import sync_folder
from datamodules.wrong_input import wrong_input
from errors import InputError

_SECONDS_BEFORE_NOTICE = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class FetchedTask:
    """A task that is there.

    Attributes:
        task: The task.
        was_there: Whether it was there before, so that nothing was done.
        archive: The tar that was left beside it or that it came from; None if there is none.
    """

    task: Task
    was_there: bool
    archive: Path | None = None


def fetch_task(
    root: Path,
    folder: str,
    *,
    address: str,
    md5: str,
    keep_archive: bool = False,
    patience: Patience | None = None,
) -> FetchedTask:
    """Bring a task to ``<root>/<folder>``, unless it is there.

    ``<root>/<folder>.tar`` is used without a network if it is there, and stays. A download lies in
    ``<root>/<folder>.tar.part`` until the task is whole, so that the next call goes on after any
    interruption. Two calls at once do the work once.

    Args:
        root: Folder that holds the folders of tasks, made if it is not there.
        folder: Name of the task's folder, also in the tar.
        address: Where the tar lies: http, https or file.
        md5: Sum of the tar, in hexadecimal.
        keep_archive: Keep a downloaded tar as ``<root>/<folder>.tar``.
        patience: How long to bear with a server.

    Raises:
        InputError: If the folder is there and not whole, the tar cannot be got or is not the
            expected one or not safe, or the disk cannot be written or is full.
    """
    try:
        there = _whole_task(root, folder)
        if there is not None:
            return FetchedTask(there, was_there=True)
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root, folder):
            there = _whole_task(root, folder)
            if there is not None:
                return FetchedTask(there, was_there=True)
            archive = _get_archive(root, folder, address, md5, patience or Patience())
            task = _extract(archive, root, folder)
            return FetchedTask(task, False, _settle(archive, root, folder, keep=keep_archive))
    except OSError as error:
        is_full = error.errno in _FULL
        raise wrong_input(
            at=error.filename or root,
            found=f"a place that cannot be used ({error.strerror or error})",
            expected="room for the tar and the files in it" if is_full else "one to write in",
            do="free some, or set --root to another folder" if is_full else "set --root to another",
        ) from error


def address_in(mirror: str, folder: str) -> str:
    """Address of a task's tar in a mirror.

    Args:
        mirror: Address of the folder that holds the tars: http, https or file.
        folder: Name of the task's folder.

    Raises:
        InputError: If it is no such address, or holds a password, which would be shown and stored.
    """
    try:
        parts = urlsplit(mirror)
        is_secret = parts.username is not None or parts.password is not None
        is_usable = (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        ) or (
            parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path[:1] == "/"
        )
    except ValueError:
        is_secret, is_usable = "@" in mirror, False
    if is_secret or not is_usable or parts.query or parts.fragment:
        raise wrong_input(
            at="--mirror",
            found="an address with a user or password" if is_secret else repr(mirror),
            expected="the address of a folder of tars, as in https://host/folder or file:///folder",
            do="mend it; passwords belong in ~/.netrc",
        )
    return f"{mirror.rstrip('/')}/{folder}.tar"


def _whole_task(root: Path, folder: str) -> Task | None:
    """Read the task that is there; None if there is none."""
    place = root / folder
    if not place.exists() and not place.is_symlink():
        return None
    try:
        task = read_task(root, folder)
    except InputError as error:
        raise _not_whole(place, str(error)) from error
    if task.broken:
        raise _not_whole(place, task.broken[0].reason)
    for case in task.cases:
        for path in (*case.images, case.label):
            if not path.stat().st_size:
                raise _not_whole(place, f"{path} is empty")
    return task


def _not_whole(place: Path, why: str) -> InputError:
    return wrong_input(
        at=place,
        found=f"something that is not a whole task ({why})",
        expected="a whole task or nothing",
        do="rename or remove it, and run the command again",
    )


@contextmanager
def _lock(root: Path, folder: str) -> Iterator[None]:
    lock = FileLock(root / f".{folder}.lock")
    try:
        lock.acquire(timeout=_SECONDS_BEFORE_NOTICE)
    except Timeout:
        notices().print(f"Waiting for another call that downloads {folder} ...")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _get_archive(root: Path, folder: str, address: str, md5: str, patience: Patience) -> Path:
    """Find the tar on this machine, or download it."""
    archive = root / f"{folder}.tar"
    parts = urlsplit(address)
    if not archive.exists():
        if parts.scheme != "file":
            part = _part(root, folder)
            download(address, part, md5, patience)
            return part
        archive = Path(url2pathname(parts.path))
        if not archive.is_file():
            raise wrong_input(
                at=archive,
                found="no such file",
                expected="the tar of a task",
                do="set --mirror to the folder that holds it",
            )
    with progress(f"Checking {archive.name}", archive.stat().st_size) as bar:
        found = md5_of(archive, bar.advance)
    if found != md5:
        raise wrong_input(
            at=archive,
            found=f"a file with md5 {found}",
            expected=f"md5 {md5}",
            do="copy it again, or remove it to download it",
        )
    return archive


def _extract(archive: Path, root: Path, folder: str) -> Task:
    """Extract into a hidden folder and rename; whatever a killed run left there goes first."""
    # One folder deeper than tasks lie, so that an unfinished one is never listed as a task.
    partial = root / f".{folder}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    try:
        extract_task(archive, folder, partial)
        try:
            broken = [case.reason for case in read_task(partial, folder).broken]
        except InputError as error:
            broken = [str(error)]
        if broken:
            raise wrong_input(
                at=archive,
                found=f"no task that can be read ({broken[0]})",
                expected=f"folder {folder} with a task",
                do="get the archive from another place",
            )
        (partial / folder).rename(root / folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(root)
    return read_task(root, folder)


def _settle(archive: Path, root: Path, folder: str, *, keep: bool) -> Path | None:
    """Remove or keep a tar that was downloaded; one that was there before is never removed."""
    part = _part(root, folder)
    if archive != part:
        return archive
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    if keep:
        return part.rename(root / f"{folder}.tar")
    part.unlink()
    return None


def _part(root: Path, folder: str) -> Path:
    return root / f"{folder}.tar.part"
