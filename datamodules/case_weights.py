"""Weights of cases in the training loss, from a table."""

import csv
import math
from collections.abc import Collection
from pathlib import Path

from datamodules.wrong_input import unknown_name, wrong_input

_COLUMNS = ("case", "weight")


def read_case_weights(path: Path, cases: Collection[str]) -> dict[str, float]:
    """Read a CSV table with the columns ``case`` and ``weight``.

    Args:
        path: The file.
        cases: Names of the task's cases.

    Returns:
        Weight of each case that the table names; others weigh 1.

    Raises:
        InputError: If the file cannot be read, names an unknown case or one twice, or a weight is
            negative or not finite.
    """
    option = f"--data.case_weights {path}"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            header, rows = tuple(table.fieldnames or ()), list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise wrong_input(
            at=option,
            found=f"a file that cannot be read ({error})",
            expected="a CSV table with the columns case and weight",
            do="correct the path or the file",
        ) from error
    if not set(_COLUMNS) <= set(header):
        raise wrong_input(
            at=option,
            found=f"the columns {', '.join(header) or 'none'}",
            expected="case and weight",
            do="name the columns in the first line",
        )
    weights: dict[str, float] = {}
    for line, row in enumerate(rows, start=2):
        case, text = row["case"], row["weight"]
        if case not in cases:
            raise unknown_name(option=option, kind="case", name=str(case), known=cases)
        if case in weights:
            raise wrong_input(
                at=option,
                found=f"{case} a second time in line {line}",
                expected="each case once",
                do="remove one of the lines",
            )
        weights[case] = _weight(text, at=f"{option}, line {line}")
    return weights


def _weight(text: str | None, *, at: str) -> float:
    try:
        weight = float(text or "")
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise wrong_input(
            at=at, found=repr(text), expected="a finite number of at least 0", do="correct it"
        )
    return weight
