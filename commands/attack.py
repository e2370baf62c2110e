"""Attacks runs, any network, or transfers attacks between all networks of an experiment."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from commands.options import CommandParser
from errors import InputError

_COMMANDS = {"val": "validate", "test": "test"}
_WHAT = ("experiment", "run", "ckpt_path", "network")
_ALONE = ("cases", "seed", "root", "device")  # options of a transfer alone


def main(arguments: Sequence[str]) -> int:
    """Attack a network, or transfer attacks between networks.

    Args:
        arguments: What stands after ``attack`` on the command line.

    Returns:
        Exit status 0.

    Raises:
        InputError: If an option, the experiment, a checkpoint or the data are not as expected.
    """
    options, further = _parser().parse_known_args(arguments)
    given = [name for name in _WHAT if getattr(options, name) is not None]
    if len(given) != 1:
        found = " and ".join(f"--{name}" for name in given) or "none of them"
        msg = (
            f"attack: found {found}, expected one of --run, --ckpt_path, --network, which are "
            "attacked, or --experiment, between whose networks attacks are transferred; "
            "python main.py attack --help tells more"
        )
        raise InputError(msg)
    return _transfer(options, further) if options.experiment else _attack(options, further)


def _transfer(options: Namespace, further: Sequence[str]) -> int:
    if further:
        msg = f"attack --experiment: unrecognized arguments: {' '.join(further)}; leave them out"
        raise InputError(msg)
    if len(options.config) > 1:
        msg = f"--config: found {len(options.config)} files, expected one; join their attacks"
        raise InputError(msg)
    cases = 8 if options.cases is None else options.cases
    if cases < 1:
        msg = f"--cases: found {cases}, expected 1 or more; raise it"
        raise InputError(msg)
    # Imported late, so that --help and wrong options answer at once.
    from commands.quiet import quiet_libraries  # noqa: PLC0415
    from commands.transfer import transfer  # noqa: PLC0415

    quiet_libraries()
    return transfer(
        options.experiment,
        options.split,
        config=options.config[0] if options.config else None,
        cases=cases,
        seed=options.seed or 0,
        root=options.root,
        device=options.device or "auto",
    )


def _attack(options: Namespace, further: Sequence[str]) -> int:
    for name in _ALONE:
        if getattr(options, name) is not None:
            msg = (
                f"--{name}: found it without --experiment, expected it for a transfer alone; use "
                "the options of test, such as --robustness.seed, --data.root, "
                "--trainer.accelerator or --trainer.limit_test_batches"
            )
            raise InputError(msg)
    from commands.learning import AttackCLI, SegStressCLI, run_cli  # noqa: PLC0415
    from commands.stored_networks import find_checkpoint, network_options  # noqa: PLC0415

    # A run may have been made without attacks on this split.
    arguments = [_COMMANDS[options.split], "--robustness.splits", f"[{options.split}]"]
    arguments += [part for file in options.config for part in ("--config", str(file))]
    if options.network is not None:
        return run_cli([*arguments, *network_options(options.network), *further], AttackCLI)
    path = options.ckpt_path or find_checkpoint(options.run)
    return run_cli([*arguments, "--ckpt_path", str(path), *further], SegStressCLI)


def _parser() -> CommandParser:
    parser = CommandParser(
        "attack",
        "Attack a finished run (--run, --ckpt_path) or any network of your own (--network) on a "
        "Decathlon folder, without training: counts, curves and pictures go to the run, a new one "
        "for a network of your own. Or transfer attacks between all networks of an experiment "
        "(--experiment): made on each, counted on all, stored with the run they were counted on, "
        "shown by compare as a matrix; report cards are judged again with them.",
        "Every option of test can be given beside --run, --ckpt_path and --network: "
        "--data.root DIR, --data.task TASK, --robustness.card_cases 8, "
        "--trainer.limit_test_batches 5, ...; python main.py test --help lists them. "
        "A transfer takes the newest run of each loss, seed and fold that was attacked on the "
        "split; its time grows with the number of runs, that of counting with its square.",
    )
    what = parser.add_argument_group("what is attacked, one of")
    what.add_argument("--run", help="id of a run, or its first letters")
    what.add_argument("--ckpt_path", type=Path, help="checkpoint of a run")
    what.add_argument(
        "--network",
        help="a class as package.module.Class, made from in_channels and num_classes; or a file: "
        "TorchScript, or an exported program (.pt2). It gives logits",
    )
    what.add_argument("--experiment", help="name of an experiment: the task, as in the store")
    parser.add_argument(
        "--split", default="test", choices=tuple(_COMMANDS), help="which set (default: %(default)s)"
    )
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        help="YAML with the attacks, such as conf/robustness/directed.yaml; can be given several "
        "times (default: conf/default.yaml, for a transfer conf/robustness/transfer.yaml)",
    )
    transfer = parser.add_argument_group("options of a transfer")
    transfer.add_argument(
        "--cases", type=int, help="of how many cases, the first by name (default: 8)"
    )
    transfer.add_argument("--seed", type=int, help="seed of the attacks (default: 0)")
    transfer.add_argument(
        "--root", type=Path, help="folder of the tasks' folders, if not that of the training"
    )
    transfer.add_argument("--device", help="auto, cpu, cuda or cuda:1 (default: auto)")
    return parser
