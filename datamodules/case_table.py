"""Tables that say something of cases: a CSV file with a column of names and one of values."""

import csv
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from datamodules.wrong_input import unknown_name, wrong_input

_CASE = "case"


@dataclass(frozen=True)
class CaseRow:
    """What a table says of one case.

    Attributes:
        case: Its name.
        text: What stands in the column asked for; None where the line ends before it.
        at: Option, file and line, for errors.
    """

    case: str
    text: str | None
    at: str


def read_case_table(
    path: Path, cases: Collection[str], *, option: str, column: str
) -> list[CaseRow]:
    """Read a CSV table with the column ``case`` and one more; others are passed over.

    Args:
        path: The file.
        cases: Names of the task's cases.
        option: Option that names the file, such as --data.case_weights.
        column: Name of the other column.

    Returns:
        A row for each case that the table names, in the order of the file.

    Raises:
        InputError: If the file cannot be read, lacks a column, or names an unknown case or one
            twice.
    """
    at = f"{option} {path}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            header = tuple(table.fieldnames or ())
            rows = [(table.line_num, row) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise wrong_input(
            at=at,
            found=f"a file that cannot be read ({error})",
            expected=f"a CSV table with the columns {_CASE} and {column}",
            do="correct the path or the file",
        ) from error
    if not {_CASE, column} <= set(header):
        raise wrong_input(
            at=at,
            found=f"the columns {', '.join(header) or 'none'}",
            expected=f"{_CASE} and {column}",
            do="name the columns in the first line",
        )
    known = frozenset(cases)
    named: dict[str, CaseRow] = {}
    for line, row in rows:
        case = row[_CASE]
        if case not in known:
            raise unknown_name(option=at, kind="case", name=str(case), known=cases)
        if case in named:
            raise wrong_input(
                at=at,
                found=f"{case} a second time in line {line}",
                expected="each case once",
                do="remove one of the lines",
            )
        named[case] = CaseRow(case, row[column], f"{at}, line {line}")
    return list(named.values())
