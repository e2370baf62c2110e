"""Weights of cases in the training loss, from a table."""

import math
from collections.abc import Collection
from pathlib import Path

from datamodules.case_table import CaseRow, read_case_table
from datamodules.wrong_input import wrong_input


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
    rows = read_case_table(path, cases, option="--data.case_weights", column="weight")
    return {row.case: _weight(row) for row in rows}


def _weight(row: CaseRow) -> float:
    try:
        weight = float(row.text or "")
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise wrong_input(
            at=row.at,
            found=repr(row.text),
            expected="a finite number of at least 0",
            do="correct it",
        )
    return weight
