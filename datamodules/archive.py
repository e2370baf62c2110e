"""Taking a task out of a tar that is not trusted: every member is checked before any is written."""

import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from datamodules.dataset_json import quoted
from datamodules.download_progress import megabytes, progress
from datamodules.wrong_input import wrong_input
from errors import InputError

MOST_MEMBERS = 20_000  # the largest task has 1,234 volumes, and as many files of macOS
_COPIED_AT_ONCE = 1 << 20
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


def extract_task(archive: Path, folder: str, into: Path) -> None:
    """Write the files of a task's tar, and flush them to the disk.

    Files that macOS adds (``._name``, ``.DS_Store``) are left out. Owners, modes and times are not
    taken over.

    Args:
        archive: A tar that is not compressed, so that it cannot hold more than its own size.
        folder: Name of the task's folder, the only one that the members may lie in.
        into: An empty folder to write into.

    Raises:
        InputError: If the archive is broken, holds anything but plain files and folders below
            ``folder``, too many of them or more than its own size, or the disk has too little
            space. Nothing is written then, except where a file turns out broken while it is read.
        OSError: If writing fails.
    """
    try:
        with tarfile.open(archive, mode="r:") as tar:
            members = list(_checked_members(tar, archive, folder, into))
            total = sum(member.size for member, _ in members)
            check_space(into.parent, total, f"the files of {folder}")
            with progress(f"Extracting {folder}", total) as bar:
                for member, path in members:
                    _write(tar, member, into / path)
                    bar.advance(member.size)
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise wrong_input(
            at=archive,
            found=f"no tar that can be read ({error})",
            expected="a whole tar that is not compressed",
            do="remove it and download it again",
        ) from error


def check_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Check that a disk has room.

    Args:
        folder: A folder on the disk.
        needed_bytes: What will be written.
        what: Names it in the message.

    Raises:
        InputError: If there is too little.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise wrong_input(
            at=folder,
            found=f"{megabytes(free)} free on its disk",
            expected=f"{megabytes(needed_bytes)} for {what}",
            do="free some, or set --root to a folder on another disk",
        )


def _checked_members(
    tar: tarfile.TarFile, archive: Path, folder: str, into: Path
) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Go through all members, and hand on those to write with the paths they go to."""
    most_bytes = archive.stat().st_size
    kinds: dict[str, bool] = {}  # path in small letters, and whether it is a folder
    total = 0
    for count, member in enumerate(tar, start=1):
        total += max(member.size, 0)
        path = PurePosixPath(member.name)
        why = None
        if count > MOST_MEMBERS:
            why = f"is the {count}th, of {MOST_MEMBERS} at most"
        elif member.size < 0 or member.issparse() or total > most_bytes:
            why = f"has holes or claims more than the archive's own {most_bytes} bytes"
        elif not _is_of_macos(path):
            why = _why_not(member, path, folder, into) or _why_not_beside(kinds, member, path)
        if why:
            raise _refused(archive, member, why, folder)
        if not _is_of_macos(path):
            yield member, path


def _is_of_macos(path: PurePosixPath) -> bool:
    return path.name.startswith("._") or path.name == ".DS_Store"


def _why_not(member: tarfile.TarInfo, path: PurePosixPath, folder: str, into: Path) -> str | None:
    if not member.name.isprintable() or "\\" in member.name:
        return "has a name with unprintable characters or backslashes"
    is_inside = path.parts[:1] == (folder,) or (not path.parts and member.isdir())
    if path.is_absolute() or ".." in path.parts or not is_inside:
        return f"lies outside of {folder}"
    if not (member.isreg() or member.isdir()):
        return f"is {_KINDS.get(member.type, 'of an unknown kind')}"
    # Pythons before 3.11.4 lack this filter; the checks above don't rely on it.
    if hasattr(tarfile, "data_filter"):
        try:
            tarfile.data_filter(member, str(into))
        except tarfile.FilterError as error:
            return f"is refused by Python's filter ({error})"
    return None


def _why_not_beside(
    kinds: dict[str, bool], member: tarfile.TarInfo, path: PurePosixPath
) -> str | None:
    """Compare a member with those before; some disks take capital and small letters for one."""
    for above in path.parents:
        if not kinds.setdefault(str(above).casefold(), True):
            return "lies below a file"
    name = str(path).casefold()
    if name in kinds and not (kinds[name] and member.isdir()):
        return "comes a second time"
    kinds[name] = member.isdir()
    return None


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    if source is None:
        message = f"{member.name} holds no data"
        raise tarfile.ReadError(message)
    # Made anew: whatever may lie there already is neither followed nor overwritten.
    with source, path.open("xb") as file:
        shutil.copyfileobj(source, file, _COPIED_AT_ONCE)
        file.flush()
        os.fsync(file.fileno())


def _refused(archive: Path, member: tarfile.TarInfo, why: str, folder: str) -> InputError:
    return wrong_input(
        at=archive,
        found=f"a member {quoted(member.name)} that {why}",
        expected=f"plain files and folders below {folder}",
        do="remove the archive, and get it from a place that you trust",
    )
