"""Downloads tasks of the Medical Segmentation Decathlon."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from commands.inspect import TASK_CONFIGS
from commands.options import CommandParser
from datamodules.printable import printable
from datamodules.tasks import TASKS, TaskFacts, find_task

_ALL = "all"
_INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Download tasks that are not there.

    Args:
        argv: What stands after ``download`` on the command line.

    Returns:
        Exit status 0; 130 after Ctrl-C, from where the next call goes on.

    Raises:
        InputError: If an option is wrong or a task cannot be got.
    """
    options = _parser().parse_args(argv)
    tasks = _named(options.tasks)
    # Imported late, so that --help and wrong options answer at once.
    from datamodules.download import address_in, fetch_task  # noqa: PLC0415
    from datamodules.download_http import Patience  # noqa: PLC0415

    patience = Patience(retries=options.retries, timeout_seconds=options.timeout)
    mirror = options.mirror
    addresses = [
        facts.address if mirror is None else address_in(mirror, facts.folder) for facts in tasks
    ]
    try:
        for facts, address in zip(tasks, addresses, strict=True):
            fetched = fetch_task(
                options.root,
                facts.folder,
                address=address,
                md5=facts.md5,
                keep_archive=options.keep_archive,
                patience=patience,
            )
            _report(facts, options.root, len(fetched.task.cases), was_there=fetched.was_there)
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from here.")
        return _INTERRUPTED
    return 0


def _named(names: Sequence[str]) -> tuple[TaskFacts, ...]:
    """The tasks by number, each once; all names are checked before anything is downloaded."""
    if _ALL in names:
        names = [*(name for name in names if name != _ALL), *(facts.name for facts in TASKS)]
    named = {find_task(name, "download") for name in names}
    return tuple(facts for facts in TASKS if facts in named)


def _report(facts: TaskFacts, root: Path, cases: int, *, was_there: bool) -> None:
    count = f"{cases} labelled cases"
    if cases != facts.training_cases:
        count = f"{cases} of the {facts.training_cases} published labelled cases"
    command = ["python", "main.py", "fit", "--config", f"{TASK_CONFIGS}/{facts.name}.yaml"]
    command += ["--data.root", str(root), "--data.task", facts.folder]
    print(
        f"{root / facts.folder}: {count}, {facts.modality}"
        f"{'; it was there already, nothing to do' if was_there else ''}\n"
        f"Train on them: {printable(shlex.join(command))}",
        flush=True,
    )


def _parser() -> CommandParser:
    parser = CommandParser(
        "download",
        "Download tasks of the Medical Segmentation Decathlon, check them and extract them. "
        "A download that broke off goes on when the command is run again. A tar that lies in the "
        "root already is used without a network; a task that is there is left alone.",
        "Licence of the data: CC-BY-SA 4.0. Tasks: "
        + ", ".join(f"{facts.number} {facts.name}" for facts in TASKS)
        + ".",
    )
    parser.add_argument(
        "tasks",
        nargs="+",
        metavar="TASK",
        help=f"names, numbers or folder names of tasks, or {_ALL} (tens of gigabytes)",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("data"),
        help="folder that holds the folders of tasks, made if missing (default: %(default)s)",
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="address of another folder that holds the tars: http, https or file",
    )
    parser.add_argument(
        "--keep_archive", action="store_true", help="keep the tar beside the task's folder"
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=5,
        help="how often to try again in a row without a byte more (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long to wait for a connection and for each next byte (default: %(default)s)",
    )
    return parser
