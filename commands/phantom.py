"""Writes the phantom: a made-up, synthetic task on which everything can be tried without data."""

from collections.abc import Sequence
from pathlib import Path

from commands.options import CommandParser


def main(argv: Sequence[str]) -> int:
    """Write a phantom, or keep the one of these settings that is there.

    Args:
        argv: What stands after ``phantom`` on the command line.

    Returns:
        Exit status 0.

    Raises:
        InputError: If an option is wrong or another folder is in the way.
    """
    options = _parser().parse_args(argv)
    # Imported late, so that --help answers at once.
    from datamodules.phantom import write_phantom  # noqa: PLC0415

    folder = write_phantom(
        options.root,
        cases=options.cases,
        classes=options.classes,
        seed=options.seed,
        name=options.name,
        force=options.force,
    )
    print(
        f"{folder}: {options.cases} synthetic volumes, {options.classes} labels, seed "
        f"{options.seed}. They are made up: no patient, nothing clinical.\n"
        f"Train on them: python main.py fit --data.root {options.root} --data.task {options.name}"
    )
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(
        "phantom",
        "Write a made-up task in the format of the Medical Segmentation Decathlon, to "
        "try everything without data. Its volumes have the size of hippocampus volumes and hold a "
        "bent tube in touching parts, beside neighbours of like intensity. The same options write "
        "the same volumes; what is there already with the same options is kept.",
        "The volumes are synthetic: a loss that wins on them need not win on patients.",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("data"),
        help="folder that holds the folders of tasks, made if missing (default: %(default)s)",
    )
    parser.add_argument(
        "--cases",
        type=int,
        default=24,
        help="number of volumes; five or more can be split (default: %(default)s)",
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=2,
        help="number of labels, the parts of the tube along its length (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all that is random (default: %(default)s)"
    )
    parser.add_argument(
        "--name",
        default="Task00_Phantom",
        help="name of the task's folder, for --data.task (default: %(default)s)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace a phantom that is there; any other folder is never replaced",
    )
    return parser
