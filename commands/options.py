"""The parser of the commands that are not Lightning's."""

import argparse
from typing import NoReturn

from errors import InputError


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line, without the usage text.

    Args:
        command: The command, such as ``compare``.
        description: What it does.
        epilog: What else its user should know.
    """

    def __init__(self, command: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"main.py {command}", description=description, epilog=epilog, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as an InputError."""
        command = self.prog.removeprefix("main.py ")
        msg = (
            f"{command}: {' '.join(message.split())}; "
            f"python main.py {command} --help lists the options"
        )
        raise InputError(msg)
