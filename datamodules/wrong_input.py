"""How a wrong file or option is worded: where, found, expected, what to do, in one line."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from datamodules.printable import printable
from errors import InputError

_MOST_LISTED = 12


def wrong_input(*, at: object, found: object, expected: str, do: str) -> InputError:
    """Word an error that the user can mend, in one line whatever the parts hold.

    Line breaks become spaces, those of a path and all else that is not printable escapes.

    Args:
        at: The file or the option.
        found: What is there.
        expected: What should be there.
        do: What the user can do about it.
    """
    where = printable(str(at)) if isinstance(at, Path) else at
    message = f"{where}: found {found}, expected {expected}; {do}"
    return InputError(printable(" ".join(message.split())))


def unknown_name(*, option: str, kind: str, name: str, known: Iterable[str]) -> InputError:
    """Word an error for a name that is none of the known ones, with the nearest of them.

    Args:
        option: The option that has the name.
        kind: What it names.
        name: The name.
        known: The names there are.
    """
    names = list(known)
    by_lower = {candidate.lower(): candidate for candidate in names}
    near = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower)]
    nearest = f" (nearest: {listed(near)})" if near else ""
    return wrong_input(
        at=option,
        found=f"unknown {kind} {name!r}{nearest}",
        expected=f"one of {listed(names)}",
        do="set one of these names",
    )


def listed(names: Iterable[str], most: int = _MOST_LISTED) -> str:
    """Join names with commas, the first few of many."""
    names = list(names)
    rest = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def counted(count: int, thing: str) -> str:
    """Write a number of things, such as ``1 voxel`` or ``2 voxels``."""
    return f"{count} {thing}{'s' * (count != 1)}"
