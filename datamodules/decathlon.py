"""Tasks by folder and name, and the format of the Medical Segmentation Decathlon.

Of a Decathlon's dataset.json only ``training``, ``labels`` and ``modality`` are needed; others may
be misspelt.
"""

from collections.abc import Mapping
from pathlib import Path

from datamodules.dataset_json import (
    DATASET_FILE,
    LAYOUT,
    entry_of,
    is_nnunet,
    quoted,
    read_channels,
    read_json,
    read_labels,
)
from datamodules.nnunet import IGNORED_LABEL, list_nnunet_cases
from datamodules.task import BrokenCase, Case, Task
from datamodules.task_files import listed_file, name_without_ending
from datamodules.wrong_input import unknown_name, wrong_input
from errors import InputError

__all__ = ["BrokenCase", "Case", "Task", "read_task"]


def read_task(root: Path, task: str) -> Task:
    """Read ``<root>/<task>/dataset.json``, of the Decathlon or of nnU-Net, and look for its files.

    A case that is listed wrongly, or whose files are not there, becomes a broken case of the task.

    Args:
        root: Folder that holds the folders of the tasks.
        task: Name of the task's folder.

    Raises:
        InputError: If the folder as a whole is missing or wrong, with what to do about it.
    """
    folder = _task_folder(root, task)
    source = folder / DATASET_FILE
    content = read_json(source)
    labels, channels = read_labels(content, source), read_channels(content, source)
    ignored = None
    if is_nnunet(content):
        cases, broken = list_nnunet_cases(content, source, channels)
        ignored = next((name for _, name in labels if name == IGNORED_LABEL), None)
    else:
        cases, broken = _list_cases(content, source)
    return Task(
        folder=folder,
        labels=labels,
        channels=channels,
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        broken=tuple(sorted(broken, key=lambda case: case.name)),
        ignored=ignored,
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


def _list_cases(content: Mapping[str, object], source: Path) -> tuple[list[Case], list[BrokenCase]]:
    training = entry_of(content, "training", source)
    if not isinstance(training, list) or not training:
        raise wrong_input(
            at=source,
            found="no training cases" if training == [] else f"training {quoted(training)}",
            expected='a list of {"image": path, "label": path}',
            do="list the labelled cases",
        )
    cases: list[Case] = []
    broken: list[BrokenCase] = []
    names: set[str] = set()
    for position, entry in enumerate(training):
        name = f"training[{position}]"
        at = f"{source}, {name}"
        try:
            image, label = _paths(entry, at)
            name = name_without_ending(Path(image).name, at)
            if name in names:
                raise wrong_input(
                    at=at,
                    found=f"case {name!r} a second time",
                    expected="each case once",
                    do="remove or rename one of them",
                )
            names.add(name)
            cases.append(Case(name, (_file(source, image, at),), _file(source, label, at)))
        except InputError as error:
            broken.append(BrokenCase(name, str(error)))
    return cases, broken


def _paths(entry: object, at: str) -> tuple[str, str]:
    texts = [entry.get(key) for key in ("image", "label")] if isinstance(entry, dict) else []
    paths = [text for text in texts if isinstance(text, str)]
    if len(paths) != len(("image", "label")):
        raise wrong_input(
            at=at,
            found=quoted(entry),
            expected='{"image": path, "label": path}',
            do="mend the entry",
        )
    return paths[0], paths[1]


def _file(source: Path, text: str, at: str) -> Path:
    return listed_file(
        source.parent,
        text,
        at,
        expected=f"the volume that {at} lists",
        do=f"copy it there or remove the case from {DATASET_FILE}",
    )
