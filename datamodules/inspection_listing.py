"""The cases that a task lists, those that are listed wrongly included, each with what is wrong."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datamodules.dataset_json import DATASET_FILE, quoted, read_channels, read_json, read_labels
from datamodules.decathlon import read_task
from datamodules.inspection_facts import ListedCase, Problem
from errors import InputError

_SUFFIXES = (".nii.gz", ".nii")
_PARTS = ("image", "label")


@dataclass(frozen=True)
class Listing:
    """A task's folder as its ``dataset.json`` describes it.

    Attributes:
        folder: The task's folder.
        labels: Value and name of each label but the background, ascending by value.
        channels: Names of the image's channels, in order.
        cases: All cases, sorted by name.
    """

    folder: Path
    labels: tuple[tuple[int, str], ...]
    channels: tuple[str, ...]
    cases: tuple[ListedCase, ...]


def list_cases(root: Path, task: str) -> Listing:
    """List the cases of a task, whatever is wrong with some of them.

    Args:
        root: Folder that holds the folders of the tasks.
        task: Name of the task's folder.

    Raises:
        InputError: If there is no such folder, or ``dataset.json`` has no labels, no modality or
            no list of cases.
    """
    try:
        found = read_task(root, task)
    except InputError as error:
        return _one_by_one(root, task, error)
    cases = [ListedCase(case.name, case.image, case.label) for case in found.cases]
    return Listing(found.folder, found.labels, found.channels, tuple(cases))


def _one_by_one(root: Path, task: str, refusal: InputError) -> Listing:
    """Find the entries that a task was refused for; any other refusal stands."""
    folder = root / task
    source = folder / DATASET_FILE
    if Path(task).name != task or not source.is_file():
        raise refusal
    content = read_json(source)
    labels, channels = read_labels(content, source), read_channels(content, source)
    training = content.get("training")
    if not isinstance(training, list):
        raise refusal
    cases: dict[str, ListedCase] = {}
    again: list[ListedCase] = []
    for position, entry in enumerate(training):
        case = _listed(folder, f"training[{position}]", entry)
        if case.name in cases:
            reason = f"training[{position}] lists {case.name} again, each case can come once"
            again.append(ListedCase(case.name, None, None, (_wrong(reason),)))
        else:
            cases[case.name] = case
    if not again and not any(case.problems for case in cases.values()):
        raise refusal
    ordered = sorted([*cases.values(), *again], key=lambda case: case.name)
    return Listing(folder, labels, channels, tuple(ordered))


def _listed(folder: Path, place: str, entry: object) -> ListedCase:
    texts = [entry.get(part) for part in _PARTS] if isinstance(entry, dict) else []
    image, label = texts if len(texts) == len(_PARTS) else (None, None)
    if not isinstance(image, str) or not isinstance(label, str):
        reason = f'{place} is {quoted(entry)}, expected {{"image": path, "label": path}}'
        return ListedCase(place, None, None, (_wrong(reason),))
    problems: list[Problem] = []
    files = []
    for part, text in zip(_PARTS, (image, label), strict=True):
        reason = _refusal(folder, text)
        files.append(None if reason else folder / text)
        if reason:
            problems.append(_wrong(f"{part} {quoted(text)}: {reason}"))
    name = _name(image)
    if name is None:
        problems.append(_wrong(f"image {quoted(image)}: expected a NIfTI file, .nii or .nii.gz"))
        files[0] = None
    return ListedCase(name or place, files[0], files[1], tuple(problems))


def _refusal(folder: Path, text: str) -> str:
    """Why a path from a file, which is not trusted, is not followed; empty if it can be."""
    path = folder / text
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        return f"a path that cannot be followed ({error})"
    if not is_inside or Path(text).is_absolute() or ".." in Path(text).parts:
        return "leads out of the task's folder"
    return "" if is_file else "no such file"


def _name(image: str) -> str | None:
    name = PurePosixPath(image).name
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix)
    return None


def _wrong(reason: str) -> Problem:
    return Problem(f"wrong in {DATASET_FILE}, or not there", reason, blocks=True)
