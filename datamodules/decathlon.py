"""A task of the Medical Segmentation Decathlon: its labels, channels and cases, checked on disk.

Of dataset.json only ``training``, ``labels`` and ``modality`` are needed; others may be misspelt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.dataset_json import (
    DATASET_FILE,
    LAYOUT,
    entry_of,
    quoted,
    read_channels,
    read_json,
    read_labels,
    slug,
)
from datamodules.wrong_input import listed, unknown_name, wrong_input

_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Case:
    """A labelled volume.

    Attributes:
        name: File name of the image without ``.nii`` or ``.nii.gz``.
        image: Path of the image.
        label: Path of the label map.
    """

    name: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Task:
    """A Decathlon task on disk.

    Attributes:
        folder: The task's folder.
        labels: Value and name of each label but the background, ascending by value.
        channels: Names of the image's channels, in order.
        cases: The labelled cases, sorted by name.
    """

    folder: Path
    labels: tuple[tuple[int, str], ...]
    channels: tuple[str, ...]
    cases: tuple[Case, ...]

    def value_of(self, name: str, option: str) -> int:
        """Look up the value of a label by name, in capital or small letters.

        Args:
            name: Name as in ``dataset.json``.
            option: The option that names it.

        Raises:
            InputError: If the name is unknown.
        """
        values = {slug(known, value): value for value, known in self.labels}
        if slug(name, -1) not in values:
            labels = [known for _, known in self.labels]
            raise unknown_name(option=option, kind="label", name=name, known=labels)
        return values[slug(name, -1)]

    def select(
        self, names: Sequence[str] | None, *, without: int | None = None
    ) -> tuple[tuple[int, str], ...]:
        """Choose the labels to segment.

        Args:
            names: Names as in ``dataset.json``; None means all labels.
            without: Value of a label that is not to be segmented.

        Returns:
            Value and name of each label, ascending by value.

        Raises:
            InputError: If a name is unknown, comes twice or is the one left out, or none is left.
        """
        option = "--data.labels"
        left = {value: name for value, name in self.labels if value != without}
        values = list(left) if names is None else [self.value_of(name, option) for name in names]
        if not values:
            raise wrong_input(
                at=option,
                found="no label",
                expected=f"some of {listed(left.values())}",
                do="name one, or leave it out to take all of them",
            )
        for value in values:
            if values.count(value) > 1 or value not in left:
                raise wrong_input(
                    at=option,
                    found=f"{dict(self.labels)[value]} twice or in --data.ignore_label as well",
                    expected="each label once",
                    do="remove one of the two",
                )
        return tuple((value, left[value]) for value in sorted(values))


def read_task(root: Path, task: str) -> Task:
    """Read ``<root>/<task>/dataset.json`` and check that the files it lists are there.

    Args:
        root: Folder that holds the folders of the tasks.
        task: Name of the task's folder.

    Raises:
        InputError: If the folder or the file is missing or wrong, with what to do about it.
    """
    folder = _task_folder(root, task)
    source = folder / DATASET_FILE
    content = read_json(source)
    return Task(
        folder=folder,
        labels=read_labels(content, source),
        channels=read_channels(content, source),
        cases=_cases(content, source),
    )


def _task_folder(root: Path, task: str) -> Path:
    at = f"--data.root {root}"
    remedy = "set --data.root, or write a made-up task with 'python main.py phantom'"
    if not root.is_dir():
        raise wrong_input(
            at=at,
            found="a file" if root.exists() else "no such folder",
            expected="a folder that holds the folders of tasks",
            do=remedy,
        )
    if not task or task == ".." or Path(task).name != task:
        raise wrong_input(
            at=f"--data.task {task!r}",
            found="no plain name",
            expected=f"the name of a folder in {root}",
            do="set --data.root to the folder that holds it",
        )
    try:
        tasks = sorted(path.parent.name for path in root.glob(f"*/{DATASET_FILE}"))
        is_empty = next(root.iterdir(), None) is None
    except OSError as error:
        raise wrong_input(
            at=at,
            found=f"a folder that cannot be read ({error.strerror})",
            expected="one that can",
            do="check its permissions",
        ) from error
    if (root / task).is_dir():
        return root / task
    if tasks:
        raise unknown_name(option=f"--data.task in {root}", kind="task", name=task, known=tasks)
    if (root / DATASET_FILE).is_file():
        whole = root.resolve()
        raise wrong_input(
            at=at,
            found=f"a task itself, with {DATASET_FILE} in it",
            expected="the folder that holds the folders of tasks",
            do=f"set --data.root {whole.parent} --data.task {whole.name}",
        )
    raise wrong_input(
        at=at,
        found="an empty folder" if is_empty else f"no folder with a {DATASET_FILE}",
        expected=f"a folder {task} with {LAYOUT}",
        do=remedy,
    )


def _cases(content: Mapping[str, object], source: Path) -> tuple[Case, ...]:
    training = entry_of(content, "training", source)
    if not isinstance(training, list) or not training:
        raise wrong_input(
            at=source,
            found="no training cases" if training == [] else f"training {quoted(training)}",
            expected='a list of {"image": path, "label": path}',
            do="list the labelled cases",
        )
    cases: dict[str, Case] = {}
    for position, entry in enumerate(training):
        at = f"{source}, training[{position}]"
        paths = [entry.get(key) for key in ("image", "label")] if isinstance(entry, dict) else []
        files = [_inside(source.parent, path, at) for path in paths if isinstance(path, str)]
        if len(files) != len(("image", "label")):
            raise wrong_input(
                at=at,
                found=quoted(entry),
                expected='{"image": path, "label": path}',
                do="mend the entry",
            )
        name = _case_name(files[0], at)
        if name in cases:
            raise wrong_input(
                at=at,
                found=f"case {name!r} a second time",
                expected="each case once",
                do="remove or rename one of them",
            )
        cases[name] = Case(name, files[0], files[1])
    return tuple(cases[name] for name in sorted(cases))


def _inside(folder: Path, text: str, at: str) -> Path:
    """Follow a path from a file, which is not trusted to stay in the task's folder."""
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
        raise wrong_input(
            at=path,
            found="no such file",
            expected=f"the volume that {at} lists",
            do=f"copy it there or remove the case from {DATASET_FILE}",
        )
    return path


def _case_name(image: Path, at: str) -> str:
    for suffix in _SUFFIXES:
        if image.name.endswith(suffix) and image.name != suffix:
            return image.name.removesuffix(suffix)
    raise wrong_input(
        at=at,
        found=f"file {image.name!r}",
        expected="a NIfTI file, .nii or .nii.gz",
        do="convert it",
    )
