"""Makes attacks on each network of an experiment and counts them on all others (transfer)."""

from collections.abc import Sequence
from pathlib import Path

from commands.options import CommandParser
from errors import InputError


def main(arguments: Sequence[str]) -> int:
    """Transfer attacks between all networks of an experiment.

    Args:
        arguments: What stands after ``attack`` on the command line.

    Returns:
        Exit status 0.

    Raises:
        InputError: If an option, the experiment, its checkpoints or data are not as expected.
    """
    options = _parser().parse_args(arguments)
    if options.cases < 1:
        msg = f"--cases: found {options.cases}, expected 1 or more; raise it"
        raise InputError(msg)
    # Imported late, so that --help and wrong options answer at once.
    from commands.quiet import quiet_libraries  # noqa: PLC0415
    from commands.transfer import transfer  # noqa: PLC0415

    quiet_libraries()
    return transfer(
        options.experiment,
        options.split,
        config=options.config,
        cases=options.cases,
        seed=options.seed,
        root=options.root,
        device=options.device,
    )


def _parser() -> CommandParser:
    parser = CommandParser(
        "attack",
        "Make attacks on each network of an experiment and count them on all networks: transfer. "
        "The counts are stored with the run that they were counted on; compare shows them as a "
        "matrix, and the report cards are judged again with them. Taken is the newest run of each "
        "loss, seed and fold that was attacked on the split.",
        "The time grows with the number of runs for the attacks, and with its square for counting.",
    )
    parser.add_argument(
        "--experiment", required=True, help="name of the experiment: the task, as in the store"
    )
    parser.add_argument(
        "--split", default="test", choices=("val", "test"), help="which set (default: %(default)s)"
    )
    parser.add_argument(
        "--config",
        type=Path,
        help="YAML with robustness.attacks (default: conf/robustness/transfer.yaml)",
    )
    parser.add_argument(
        "--cases",
        type=int,
        default=8,
        help="of how many cases, the first by name (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the attacks (default: %(default)s)"
    )
    parser.add_argument(
        "--root", type=Path, help="folder of the tasks' folders, if not that of the training"
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: %(default)s)"
    )
    return parser
