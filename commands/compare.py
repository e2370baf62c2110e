"""Lays the runs of an experiment side by side: table, figures and report."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from commands.options import CommandParser
from errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Compare the runs of an experiment.

    Args:
        arguments: What stands after ``compare`` on the command line.

    Returns:
        Exit status 0.

    Raises:
        InputError: If an option, the experiment or its runs are not as expected, or the report
            cannot be written.
    """
    options = _parser().parse_args(arguments)
    # Imported late, so that --help and wrong options answer at once.
    from rich.console import Console  # noqa: PLC0415

    from comparison.report import FIGURES_FOLDER, REPORT_FILE, TABLE_FILE, write_report  # noqa: PLC0415
    from comparison.report_page import report_notes  # noqa: PLC0415
    from comparison.selection import select_runs  # noqa: PLC0415
    from comparison.table import terminal_table  # noqa: PLC0415
    from tracking.store import runs_dir, slug  # noqa: PLC0415

    console = Console(soft_wrap=True, markup=False, highlight=False)
    selection = select_runs(options.experiment, options.split)
    folder = options.output or runs_dir() / "reports" / slug(options.experiment) / options.split
    command = shlex.join(["python", "main.py", "compare", *arguments])
    with console.status("Drawing figures and the report"):
        try:
            table = write_report(selection, folder, command)
        except OSError as error:
            reason = error.strerror or str(error)
            msg = f"--output {folder}: cannot be written ({reason}); choose another folder"
            raise InputError(msg) from error
    console.print(terminal_table(table))
    for note in report_notes(selection):
        console.print(f"Note: {note}")
    for left in selection.left_out:
        console.print(f"Left out: {left.run.name} ({left.run.run_id[:8]}): {left.reason}")
    console.print(f"Report:  {folder / REPORT_FILE}")
    console.print(f"Table:   {folder / TABLE_FILE}")
    console.print(f"Figures: {folder / FIGURES_FOLDER}")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "compare",
        "Lay the runs of an experiment side by side: a line a loss with a 95 % band in the curves, "
        "a row a loss in the pictures, and a table, in one HTML file and as PNG and CSV. Compared "
        "is the newest run of each loss, seed and fold with the same data, split and attacks.",
    )
    parser.add_argument(
        "--experiment", required=True, help="name of the experiment: the task, as in the store"
    )
    parser.add_argument(
        "--split", default="test", choices=("val", "test"), help="which set (default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the files (default: reports/<experiment>/<split> beside the store)",
    )
    return parser
