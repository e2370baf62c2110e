"""Files that a task lists: paths from a file are not trusted to stay in the task's folder."""

from pathlib import Path

from datamodules.dataset_json import quoted
from datamodules.wrong_input import wrong_input

NIFTI_ENDINGS = (".nii.gz", ".nii")


def listed_file(folder: Path, text: str, at: str, *, expected: str, do: str) -> Path:
    """Follow a path to a file, through links inside the folder and none out of it.

    Args:
        folder: The task's folder.
        text: The path as it is listed, relative to the folder.
        at: Where it is listed, for the message.
        expected: What should be there, for the message where nothing is.
        do: What to do then.

    Raises:
        InputError: If it leads out of the folder, cannot be followed or leads to no file.
    """
    path = folder / text
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise wrong_input(
            at=at,
            found=f"a path that cannot be followed, {quoted(text)} ({error})",
            expected="a file in the task's folder",
            do="mend the path",
        ) from error
    if not is_inside or Path(text).is_absolute() or ".." in Path(text).parts:
        raise wrong_input(
            at=at,
            found=f"path {quoted(text)}, which leads out of the task's folder",
            expected=f"a relative path to a file inside {folder}",
            do="put the file there",
        )
    if not is_file:
        found = "a folder" if path.is_dir() else "no plain file, but a pipe or a device"
        raise wrong_input(
            at=path,
            found=found if path.exists() else "no such file",
            expected=expected,
            do=do,
        )
    return path


def name_without_ending(file: str, at: str) -> str:
    """Name of a NIfTI file without ``.nii`` or ``.nii.gz``.

    Args:
        file: Name of the file.
        at: Where it is listed, for the message.

    Raises:
        InputError: If it has no such name.
    """
    for ending in NIFTI_ENDINGS:
        if file.endswith(ending) and file != ending:
            return file.removesuffix(ending)
    raise wrong_input(
        at=at,
        found=f"file {file!r}",
        expected="a NIfTI file, .nii or .nii.gz",
        do="convert it",
    )
