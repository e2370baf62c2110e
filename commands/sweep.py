"""Runs a sweep: every combination of losses, seeds, tasks or any other option."""

import csv
import hashlib
import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from commands.options import CommandParser
from errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.grid import Sweep
    from sweeps.trial import Progress

_FAILED = 1
_INTERRUPTED = 130
_DAY_MINUTES = 24 * 60


def main(arguments: Sequence[str]) -> int:
    """Run a sweep, or show what it would run.

    Args:
        arguments: What stands after ``sweep`` on the command line.

    Returns:
        Exit status: 0, 1 where a trial is not finished, 130 after Ctrl-C.

    Raises:
        InputError: If the file or an option is wrong, or the store or a cluster does not answer.
    """
    own, more = _split(arguments)
    options = _parser().parse_args(own)
    # Imported late, so that --help and wrong options answer at once.
    from rich.console import Console  # noqa: PLC0415

    from sweeps.grid import read_sweep  # noqa: PLC0415
    from sweeps.progress import ProgressTable, advice, counted, progress_table  # noqa: PLC0415
    from sweeps.ray_environment import check_address, prepare_environment  # noqa: PLC0415
    from sweeps.trial import find_progress, jobs_of, log_folder  # noqa: PLC0415
    from tracking.store import project_dir  # noqa: PLC0415
    from tracking.trials import close_parent, open_parent  # noqa: PLC0415

    sweep = read_sweep(options.file, more, places=(Path.cwd(), project_dir()))
    progress = find_progress(sweep.trials)
    width = None if sys.stdout.isatty() else 200
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    if options.dry_run:
        console.print(progress_table(sweep.trials, progress))
        _print_commands(sweep, progress, console)
        return 0
    waiting = [trial for trial in sweep.trials if progress[trial.key].state != "finished"]
    jobs = jobs_of(sweep, waiting)
    console.print(
        f"Sweep {sweep.name}: {counted(len(sweep.trials), 'trial')}, "
        f"{len(sweep.trials) - len(waiting)} finished before; their output: {log_folder()}"
    )
    if options.engine == "slurm":
        from sweeps.slurm_engine import submit_to_slurm  # noqa: PLC0415

        folder = log_folder() / "slurm"
        ids = submit_to_slurm(
            jobs, sweep.resources, folder=folder, minutes=options.minutes, cluster=options.cluster
        )
        console.print(
            f"Submitted {counted(len(ids), 'job')} (the first is {ids[0]})"
            if ids
            else "Nothing to submit"
        )
        console.print("The same command with --dry-run shows how far they are.")
        return 0
    if options.address is not None:
        check_address(options.address)
    prepare_environment(local=options.address is None)
    from sweeps.ray_engine import run_on_ray  # noqa: PLC0415

    parent = open_parent(_parent_experiment(sweep), sweep.name, _sweep_key(sweep))
    with ProgressTable(sweep.trials, progress, console) as table:
        interrupted = False
        try:
            if jobs:
                run_on_ray(
                    jobs,
                    sweep.resources,
                    table.update,
                    address=options.address,
                    folder=log_folder(),
                )
        except KeyboardInterrupt:
            interrupted = True
        ended = find_progress(sweep.trials)
        table.settle(ended)
    for key, now in table.progress.items():
        if now.message and ended[key].state != "finished":
            ended[key] = now
    unfinished = [trial for trial in sweep.trials if ended[trial.key].state != "finished"]
    files = {"sweep.yaml": sweep.source, "trials.csv": _as_csv(sweep, ended)}
    close_parent(parent, table.counts(), files, ok=not unfinished)
    for trial in unfinished:
        now = ended[trial.key]
        words = ", ".join(filter(None, (now.state, now.message)))
        console.print(f"Not finished: {trial.label} ({trial.key}): {words}", soft_wrap=True)
    for line in advice([ended[trial.key].state for trial in unfinished], log_folder()):
        console.print(line, soft_wrap=True)
    return _INTERRUPTED if interrupted else _FAILED if unfinished else 0


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is the sweep's, and what stands after ``--`` for every trial."""
    given = list(arguments)
    if "--" not in given:
        return given, []
    at = given.index("--")
    return given[:at], given[at + 1 :]


def _print_commands(sweep: "Sweep", progress: "dict[str, Progress]", console: "Console") -> None:
    from sweeps.trial import command_line  # noqa: PLC0415

    for trial in sweep.trials:
        if progress[trial.key].state != "finished":
            command = command_line(trial, progress[trial.key])
            # By the console, which ends quietly where nobody reads on, as after | head.
            console.print(shlex.join(["python", "main.py", *command[2:]]), soft_wrap=True)


def _parent_experiment(sweep: "Sweep") -> str:
    tasks = {dict(trial.options).get("data.task") for trial in sweep.trials}
    (task,) = tasks if len(tasks) == 1 else (None,)
    return f"{task}-sweeps" if task else "sweeps"


def _sweep_key(sweep: "Sweep") -> str:
    keys = [sweep.name, *(trial.key for trial in sweep.trials)]
    return hashlib.sha256(" ".join(keys).encode()).hexdigest()[:12]


def _as_csv(sweep: "Sweep", progress: "dict[str, Progress]") -> str:
    file = io.StringIO()
    names = [name for name, _ in sweep.trials[0].chosen]
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["trial", "run", "state", "epoch", "val_dice", *names])
    for trial in sweep.trials:
        now = progress[trial.key]
        values = [value for _, value in trial.chosen]
        table.writerow([trial.key, now.run_id, now.state, now.epoch, f"{now.dice:.6f}", *values])
    return file.getvalue()


def _parser() -> CommandParser:
    parser = CommandParser(
        "sweep",
        "Train and attack every combination that a sweep's file lists, such as "
        "conf/sweep/paper.yaml: each as a process of its own, with the very command that you could "
        "type. What is finished is not run again, what was interrupted goes on from its last "
        "checkpoint.",
        "What stands after -- goes to every trial: main.py sweep conf/sweep/paper.yaml -- "
        "--data.root DIR",
    )
    parser.add_argument("file", type=Path, help="YAML file with options, grid and trial")
    parser.add_argument(
        "--dry-run", action="store_true", help="show the trials and their commands, run nothing"
    )
    parser.add_argument(
        "--engine",
        choices=("ray", "slurm"),
        default="ray",
        help="what runs the trials: ray here or on a cluster, slurm by an array of jobs "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        help="address of a Ray cluster, such as ray-head:6379 or auto; without it the cores and "
        "GPUs of this machine run the trials",
    )
    parser.add_argument(
        "--minutes",
        type=_minutes,
        default=_DAY_MINUTES,
        help="time limit of a trial under slurm (default: %(default)s)",
    )
    parser.add_argument(
        "--cluster",
        choices=("local",),
        help="with --engine slurm: local runs the jobs as processes here, to try things",
    )
    return parser


def _minutes(text: str) -> int:
    try:
        minutes = int(text)
    except ValueError:
        minutes = 0
    if minutes < 1:
        msg = f"--minutes: found {text}, expected a whole number of 1 or more; give minutes"
        raise InputError(msg)
    return minutes
