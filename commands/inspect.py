"""Shows what a task's folder holds, before anybody trains on it."""

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from commands.options import CommandParser
from datamodules.output_folder import writing_to
from errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from datamodules.inspection import Inspection

TABLE_FILE = "cases.csv"
SHEET_FILE = "sheet.png"
TASK_CONFIGS = "conf/task"
_FIRST = 10  # cases that the terminal shows
_FIRST_OF_KIND = 5
_MOST_PICTURES = 256
_WIDTH_OF_FILE = 400  # letters, where no terminal sets them


def main(arguments: Sequence[str]) -> int:
    """Inspect a task's folder.

    Args:
        arguments: What stands after ``inspect`` on the command line.

    Returns:
        Exit status: 0, or 1 where some case cannot be used for training.

    Raises:
        InputError: If an option is wrong, there is no such task or its ``dataset.json`` names no
            cases, labels or channels, or if the files cannot be written.
    """
    options = _parser().parse_args(arguments)
    _check(options)
    # Imported late, so that --help and wrong options answer at once.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from datamodules.decathlon import read_task  # noqa: PLC0415
    from datamodules.inspection import inspect_task  # noqa: PLC0415
    from datamodules.workers import available_cores  # noqa: PLC0415

    task = read_task(options.root.expanduser(), options.task)
    folder = _prepared(options.output or _default_folder(options.task))
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Reading volumes", total=len(task.cases))
        inspection = inspect_task(
            task,
            workers=options.workers or available_cores(),
            pictures=options.pictures,
            advance=lambda: progress.advance(bar),
        )
    written = _write(inspection, folder)
    width = None if sys.stdout.isatty() else _WIDTH_OF_FILE
    _print(inspection, Console(markup=False, highlight=False, width=width), options)
    for path in written:
        print(f"Written: {path}")
    return 0 if len(inspection.usable) == len(inspection.cases) else 1


def _write(inspection: "Inspection", folder: Path) -> list[Path]:
    """Write the table and the sheet; a sheet of an earlier call goes where there is none now."""
    from datamodules.inspection_table import csv_text  # noqa: PLC0415
    from datamodules.whole_file import write_whole  # noqa: PLC0415

    tiles = [(case.name, case.picture) for case in inspection.cases if case.picture is not None]
    table, sheet = folder / TABLE_FILE, folder / SHEET_FILE
    with writing_to(folder):
        write_whole(table, csv_text(inspection).encode())
        if not tiles:
            sheet.unlink(missing_ok=True)
            return [table]
    from pictures.sheet import sheet_figure  # noqa: PLC0415
    from pictures.style import to_png_bytes  # noqa: PLC0415

    title = f"{inspection.folder.name}: {len(tiles)} of {len(inspection.cases)} cases"
    if len(inspection.channels) > 1:
        title += f", channel {inspection.channels[0]}"
    figure = sheet_figure(tiles, [name for _, name in inspection.labels], title)
    with writing_to(folder):
        write_whole(sheet, to_png_bytes(figure))
    return [table, sheet]


def _print(inspection: "Inspection", console: "Console", options: Namespace) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from datamodules.inspection_table import (  # noqa: PLC0415
        HEADERS,
        problem_lines,
        summary_rows,
        table_rows,
    )

    rows = table_rows(inspection, None if options.all else _FIRST)
    for columns in _columns(console, rows):
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            shown.add_column(HEADERS[column], overflow="fold")
        for cells in rows:
            shown.add_row(*(Text(cells[column]) for column in columns))
        console.print(shown)
    hidden = len(inspection.cases) - len(rows)
    if hidden:
        console.print(f"... and {hidden} more: {TABLE_FILE} has them, and --all shows them")
    for title, blocks in (("Cannot be used for training", True), ("Suspicious", False)):
        lines = problem_lines(
            inspection, blocks=blocks, most=None if options.all else _FIRST_OF_KIND
        )
        if lines:
            console.print(f"\n{title}", style="bold")
            console.print("\n".join(f"  {line}" for line in lines), soft_wrap=True)
    summary = Table(box=None, pad_edge=False, show_header=False)
    for name, text in summary_rows(inspection):
        summary.add_row(Text(name), Text(text))
    console.print("\nSummary", style="bold")
    console.print(summary)
    console.print(_advice(inspection, options), soft_wrap=True)


def _columns(console: "Console", rows: Sequence[Sequence[str]]) -> list[list[int]]:
    """Which columns stand in one table: all, or in two parts where the terminal is narrow."""
    from datamodules.inspection_table import HEADERS, MEASURED_HEADERS  # noqa: PLC0415

    whole = list(range(len(HEADERS)))
    lengths = [
        max(len(line) for cells in (HEADERS, *rows) for line in cells[column].split("\n"))
        for column in whole
    ]
    if sum(lengths) + 2 * len(lengths) <= console.width:
        return [whole]
    measured = [HEADERS.index(name) for name in MEASURED_HEADERS]
    return [[column for column in whole if column not in measured], [0, *measured]]


def _advice(inspection: "Inspection", options: Namespace) -> str:
    from datamodules.inspection_advice import (  # noqa: PLC0415
        known_task,
        orientation_options,
        size_options,
        split_options,
        window_options,
    )
    from datamodules.printable import printable  # noqa: PLC0415

    if inspection.size is None:
        return "\nThere is nothing to train with."
    command, size, window = ["python", "main.py", "fit"], None, window_options(inspection)
    known = known_task(inspection)
    if known is not None:
        command += ["--config", f"{TASK_CONFIGS}/{known.name}.yaml"]
        size, window = _configured_size(known.name), []
    command += ["--data.root", str(options.root), "--data.task", options.task]
    command += [*size_options(inspection, size), *window]
    notes = []
    if len(inspection.usable) < len(inspection.cases):
        notes.append(
            "It asks to mend the cases that cannot be used, or to take them off the list; with "
            "--data.on_error skip it goes on without them."
        )
    for options_of in (orientation_options, split_options):
        further, sentences = options_of(inspection)
        command += further
        notes += sentences
    lines = ["", f"Train on it: {printable(shlex.join(command))}", *notes]
    return "\n".join(lines)


def _configured_size(name: str) -> tuple[int, int]:
    """The size that a task's configuration sets."""
    import yaml  # noqa: PLC0415

    from tracking.store import project_dir  # noqa: PLC0415

    file = project_dir() / TASK_CONFIGS / f"{name}.yaml"
    height, width = yaml.safe_load(file.read_text(encoding="utf-8"))["data"]["size"]
    return int(height), int(width)


def _check(options: Namespace) -> None:
    if options.workers is not None and options.workers < 1:
        msg = f"--workers: found {options.workers}, expected 1 or more; raise it"
        raise InputError(msg)
    if not 0 <= options.pictures <= _MOST_PICTURES:
        msg = (
            f"--pictures: found {options.pictures}, expected 0 to {_MOST_PICTURES}; "
            "set a number in this range"
        )
        raise InputError(msg)


def _default_folder(task: str) -> Path:
    from datamodules.safe_name import safe_name  # noqa: PLC0415
    from tracking.store import runs_dir  # noqa: PLC0415

    return runs_dir() / "inspected" / safe_name(task)


def _prepared(folder: Path) -> Path:
    """Make the folder, and find out before anything is read whether it can be written."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    return folder


def _parser() -> CommandParser:
    parser = CommandParser(
        "inspect",
        "Show what a task's folder holds, before anybody trains on it: a table of its cases, what "
        "in them is wrong or suspicious and why, a summary with a command line to train, and a "
        f"sheet of pictures. {TABLE_FILE} has all numbers of all cases, {SHEET_FILE} the pictures.",
        "Exit status: 0 if all cases can be used for training, however suspicious they look, 1 if "
        "some cannot, 2 if an option is wrong or the folder holds no task.",
    )
    parser.add_argument(
        "--root",
        "--data.root",
        dest="root",
        type=Path,
        default=Path("data"),
        help="folder that holds the folders of tasks (default: %(default)s)",
    )
    parser.add_argument(
        "--task",
        "--data.task",
        dest="task",
        default="Task04_Hippocampus",
        help="name of the task's folder (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the files (default: inspected/<task> beside the store)",
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=16,
        help=f"cases in the sheet, the first by name, 0 to {_MOST_PICTURES} (default: %(default)s)",
    )
    parser.add_argument(
        "--all", action="store_true", help="show all cases in the terminal, not the first alone"
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that read volumes, each holding one at a time (default: one a core)",
    )
    return parser
