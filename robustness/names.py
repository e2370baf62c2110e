"""Finds an entry of a table by its name, and answers an unknown name with the nearest."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

Entry = TypeVar("Entry")


def find_named(kind: str, name: str, table: Mapping[str, Entry]) -> Entry:
    """The entry of a name.

    Args:
        kind: What the table holds, for the error.
        name: A key of the table.
        table: What there is.

    Returns:
        The entry.

    Raises:
        ValueError: If the name is unknown.
    """
    if name in table:
        return table[name]
    near = get_close_matches(name, table, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    msg = f"{kind} {name}: unknown; {hint}expected one of {', '.join(table)}"
    raise ValueError(msg)
