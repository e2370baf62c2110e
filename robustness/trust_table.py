"""The verdicts on saliency methods as a table with a run: which maps can be believed."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from robustness.trust import Verdict

_NUMBERS = (
    "randomised",
    "randomised_ssim",
    "deletion_gain",
    "insertion_gain",
    "stable",
    "sensitivity",
)
# `failed` names the checks that a method fails, with a space between; `refused` says why a method
# could not work with the network at all.
COLUMNS = ("method", *_NUMBERS, "failed", "refused")


def trust_frame(verdicts: Iterable[Verdict], refused: Mapping[str, str]) -> pd.DataFrame:
    """One row a method.

    Args:
        verdicts: On the methods that were checked.
        refused: Why other methods could not work with the network, by name.

    Returns:
        Columns :data:`COLUMNS`, rows by method; numbers are NaN where a method was refused.
    """
    rows = [
        (
            verdict.method,
            *(getattr(verdict, name) for name in _NUMBERS),
            " ".join(verdict.failed),
            "",
        )
        for verdict in verdicts
    ]
    rows += [
        (method, *(math.nan for _ in _NUMBERS), "", " ".join(reason.split()))
        for method, reason in refused.items()
    ]
    return pd.DataFrame(sorted(rows), columns=list(COLUMNS))


def mark(row: Mapping[Any, object]) -> str:
    """What stands beside a method's picture: empty where it passes all checks.

    Args:
        row: Of :func:`trust_frame`.
    """
    if row["refused"]:
        return "refused"
    return f"fails {', '.join(str(row['failed']).split())}" if row["failed"] else ""


def write_trust(path: Path, frame: pd.DataFrame) -> None:
    """Write the table as CSV."""
    frame.to_csv(path, index=False)


def read_trust(path: Path) -> pd.DataFrame:
    """Read the table back.

    Args:
        path: A file written by :func:`write_trust`.

    Returns:
        As from :func:`trust_frame`.

    Raises:
        ValueError: If columns are missing, or numbers are none.
    """
    # An empty text is a text, an empty number is NaN.
    frame = pd.read_csv(path, keep_default_na=False, dtype=str)
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        msg = f"columns {', '.join(missing)} are missing"
        raise ValueError(msg)
    # An empty text in a column of numbers is NaN; anything else that is no number is an error.
    numbers = {name: pd.to_numeric(frame[name].replace("", None)) for name in _NUMBERS}
    return frame.assign(**numbers)[list(COLUMNS)]
