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
    from comparison.selection import Wanted, select_runs  # noqa: PLC0415
    from comparison.table import terminal_table  # noqa: PLC0415
    from tracking.report_artifact import log_report  # noqa: PLC0415
    from tracking.store import runs_dir, slug  # noqa: PLC0415

    console = Console(soft_wrap=True, markup=False, highlight=False)
    wanted = Wanted(tuple(options.loss), options.sweep, options.filter)
    selection = select_runs(options.experiment, options.split, wanted)
    folder = options.output or runs_dir() / "reports" / slug(options.experiment) / options.split
    command = shlex.join(["python", "main.py", "compare", *arguments])
    with console.status("Drawing figures and the report"):
        try:
            written = write_report(selection, folder, command)
        except OSError as error:
            reason = error.strerror or str(error)
            msg = f"--output {folder}: cannot be written ({reason}); choose another folder"
            raise InputError(msg) from error
    console.print(terminal_table(written.table))
    for question, answer in written.answers.items():
        console.print(f"{question}: {answer}")
    if written.answers:
        console.print(
            "Claims: 95 % t-intervals over seeds, one pair at a time; p adjusted (Holm) for all "
            "pairs of a question."
        )
    for note in report_notes(selection):
        console.print(f"Note: {note}")
    for left in selection.left_out:
        console.print(f"Left out: {left.run.name} ({left.run.run_id[:8]}): {left.reason}")
    console.print(f"Report:  {folder / REPORT_FILE}")
    console.print(f"Table:   {folder / TABLE_FILE}")
    console.print(f"Figures: {folder / FIGURES_FOLDER}")
    if not options.no_log:
        experiment, run_id = log_report(
            options.experiment,
            options.split,
            [compared.run.run_id for compared in selection.runs],
            written.files,
            {"segstress.command": command, "segstress.revision": written.revision},
        )
        console.print(f"MLflow:  run {run_id} of the experiment {experiment}")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "compare",
        "Lay the runs of an experiment side by side: a line a loss with a 95 % band in the curves, "
        "a row a loss in the pictures, a table, and what can be claimed about each pair of losses, "
        "in one HTML file and as CSV, PNG and PDF. Compared "
        "is the newest run of each loss, seed and fold with the same data, split and attacks.",
    )
    parser.add_argument(
        "--experiment", required=True, help="name of the experiment: the task, as in the store"
    )
    parser.add_argument(
        "--split", default="test", choices=("val", "test"), help="which set (default: %(default)s)"
    )
    parser.add_argument(
        "--loss", nargs="+", default=[], help="these losses alone, as their runs name them"
    )
    parser.add_argument(
        "--sweep", help="the runs of this sweep alone: those with it as tag or param sweep"
    )
    parser.add_argument(
        "--filter",
        help="the runs that this lets through, in MLflow's search syntax, such as "
        "\"params.epochs = '4'\"",
    )
    parser.add_argument(
        "--no-log", action="store_true", help="do not keep the report in the store of runs too"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the files (default: reports/<experiment>/<split> beside the store)",
    )
    return parser
