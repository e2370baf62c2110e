"""Groups of cases that no split may part, such as several scans of one patient, from a table."""

from collections.abc import Collection
from pathlib import Path

from datamodules.case_table import CaseRow, read_case_table
from datamodules.wrong_input import wrong_input


def read_case_groups(path: Path, cases: Collection[str]) -> dict[str, str]:
    """Read a CSV table with the columns ``case`` and ``group``.

    Blanks around the name of a group are none of it: one patient written in two ways would be
    trained on and tested on.

    Args:
        path: The file.
        cases: Names of the task's cases.

    Returns:
        Group of each case that the table names; each other case is a group of its own.

    Raises:
        InputError: If the file cannot be read, names an unknown case or one twice, or the name of
            a group is empty.
    """
    rows = read_case_table(path, cases, option="--data.groups", column="group")
    return {row.case: _group(row) for row in rows}


def _group(row: CaseRow) -> str:
    group = (row.text or "").strip()
    if not group:
        raise wrong_input(
            at=row.at,
            found=repr(row.text),
            expected="the name of a group",
            do="name it, or remove the line of a case that is on its own",
        )
    return group
