"""Delivers what runs wrote while their store was away."""

from collections.abc import Sequence

from commands.options import CommandParser


def main(arguments: Sequence[str]) -> int:
    """Deliver what waits beside the store.

    Args:
        arguments: What stands after ``sync`` on the command line.

    Returns:
        Exit status: 0, or 1 where something waits on.

    Raises:
        InputError: If an option is not as expected, or nothing was ever left for the run.
    """
    options = _parser().parse_args(arguments)
    # Imported late, so that --help answers at once.
    from tracking.sync import sync  # noqa: PLC0415

    status, found = 0, False
    for synced in sync(options.run):
        found = True
        if synced.trouble is None:
            print(f"run {synced.run_id}: delivered {synced.summary}", flush=True)
            continue
        status = 1
        print(
            f"run {synced.run_id}: delivered {synced.summary}; {synced.waiting} entries wait: "
            f"{synced.trouble}",
            flush=True,
        )
    if not found:
        of_run = "" if options.run is None else f" of run {options.run}"
        print(f"Nothing{of_run} waits to be delivered.")
    return status


def _parser() -> CommandParser:
    parser = CommandParser(
        "sync",
        "Deliver what runs wrote while their store (MLFLOW_TRACKING_URI, or mlruns/mlflow.db) was "
        "away. A run that goes on, or is resumed, delivers by itself.",
        "Exit status 1: something could not be delivered, and waits on.",
    )
    parser.add_argument(
        "--run", help="id of a run, or how it begins, to deliver to this store (default: all)"
    )
    return parser
