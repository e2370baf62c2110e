"""SegStress: what a training loss costs when the input of a segmentation network is disturbed."""

import importlib
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NamedTuple

from commands.freed_memory import keep_freed_memory
from errors import InputError


class Command(NamedTuple):
    """A command: the module whose ``main(arguments)`` runs it, and a line of help."""

    module: str
    help: str


COMMANDS = {
    "fit": Command("commands.learning", "train a network under a loss, then attack it"),
    "validate": Command("commands.learning", "score and attack a checkpoint on the validation set"),
    "test": Command("commands.learning", "score and attack a checkpoint on the test set"),
    "predict": Command("commands.learning", "write the masks of the test cases as NIfTI"),
    "sweep": Command("commands.sweep", "train and attack every combination of options"),
    "compare": Command("commands.compare", "lay all runs of an experiment side by side"),
    "attack": Command("commands.attack", "attack a run or your own network, or transfer attacks"),
    "explain": Command("commands.explain", "write what a network looks at as volumes"),
    "losses": Command("commands.losses", "list the losses, or check one of your own"),
    "download": Command("commands.download", "download tasks of the Decathlon"),
    "inspect": Command("commands.inspect", "show what a task's folder holds before you train"),
    "phantom": Command("commands.phantom", "write a made-up task, to try things without data"),
    "sync": Command("commands.sync", "deliver what runs wrote while their store was away"),
    "ui": Command("commands.ui", "open the store of runs in the browser"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: What stands after ``main.py`` on the command line.

    Returns:
        Exit status: 0, or after one line on standard error 2 where the input was wrong, 130 where
        Ctrl-C came before a command could deal with it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    keep_freed_memory()
    try:
        if not given or given[0] in {"-h", "--help"}:
            print(help_text())
            return 0
        # Imported late: the packages behind a command take seconds to import.
        module = importlib.import_module(_find(given[0]).module)
        status: int = module.main(given if module.__name__ == "commands.learning" else given[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as ended:
        # Lightning ends a training on SIGTERM with an exit of its own that carries no status.
        if type(ended) is not SystemExit:
            return 143
        raise
    return status


def help_text() -> str:
    """All commands with a line each."""
    lines = [f"  {name:<10} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python main.py COMMAND [OPTIONS]",
            "",
            (__doc__ or "").strip(),
            "",
            "commands:",
            *lines,
            "",
            "python main.py COMMAND --help lists the options of a command.",
        ]
    )


def _find(name: str) -> Command:
    if name in COMMANDS:
        return COMMANDS[name]
    near = get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    msg = f"command {name}: unknown; {hint}expected one of {', '.join(COMMANDS)}"
    raise InputError(msg)


if __name__ == "__main__":
    sys.exit(main())
