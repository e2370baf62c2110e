"""The verdicts on saliency methods as tables with a run: which maps can be believed."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from robustness.trust import FEW, Evidence, Verdict

_NUMBERS = (
    "randomised",
    "randomised_ssim",
    "deletion_gain",
    "insertion_gain",
    "stable",
    "sensitivity",
)
# `slices` are those that tell; `failed` names the checks that a method fails, with a space between;
# `refused` says why a method could not work with the network at all, or could not be checked;
# `explained` and `checkpoint_sha256` are what the verdicts are about.
COLUMNS = ("method", "slices", *_NUMBERS, "failed", "refused", "explained", "checkpoint_sha256")
# What stands beside a picture of a method without a verdict.
UNCHECKED = "not checked"
CURVE_COLUMNS = ("method", "check", "at", "value", "by_chance")


def trust_frame(
    verdicts: Iterable[Verdict],
    refused: Mapping[str, str],
    *,
    explained: str = "",
    checkpoint_sha256: str = "",
) -> pd.DataFrame:
    """One row a method.

    Args:
        verdicts: On the methods that were checked.
        refused: Why other methods could not work with the network or be checked, by name.
        explained: What the maps explain, in words.
        checkpoint_sha256: Of the network's weights.

    Returns:
        Columns :data:`COLUMNS`, rows by method; numbers are NaN where a method was refused.
    """
    rows = [
        (
            verdict.method,
            verdict.slices,
            *(float(getattr(verdict, name)) for name in _NUMBERS),
            " ".join(verdict.failed),
            "",
        )
        for verdict in verdicts
    ]
    rows += [
        (method, 0, *(math.nan for _ in _NUMBERS), "", " ".join(reason.split()))
        for method, reason in refused.items()
    ]
    frame = pd.DataFrame(sorted(rows), columns=list(COLUMNS[:-2]))
    frame = frame.assign(explained=explained, checkpoint_sha256=checkpoint_sha256)
    return frame.astype(dict.fromkeys(_NUMBERS, float) | {"slices": "int64"})


def mark(row: Mapping[Any, object]) -> str:
    """What stands beside a method's picture: empty where it passes all checks.

    Args:
        row: Of :func:`trust_frame`.
    """
    if row["refused"]:
        return "refused"
    if not row["slices"]:
        return "the same everywhere"
    if row["failed"]:
        return f"fails {', '.join(str(row['failed']).split())}"
    return "" if int(str(row["slices"])) >= FEW else f"checked on {row['slices']} slices only"


def curves_frame(evidence: Iterable[Evidence]) -> pd.DataFrame:
    """What the verdicts rest on, medians over slices.

    Args:
        evidence: Of each method.

    Returns:
        Columns :data:`CURVE_COLUMNS`: for the check ``randomised`` a row for each layer, from the
        output down, with the rank correlation (``by_chance`` is NaN); for ``deletion`` and
        ``insertion`` a row for each share of flipped pixels, with the curve of the method's order
        and that of a random one.
    """
    rows = [(one.method, *row) for one in evidence for row in one.rows]
    frame = pd.DataFrame(rows, columns=list(CURVE_COLUMNS))
    return frame.astype({"value": float, "by_chance": float})


def write_trust(path: Path, frame: pd.DataFrame) -> None:
    """Write a table of verdicts or of curves as CSV."""
    frame.to_csv(path, index=False)


def read_trust(path: Path) -> pd.DataFrame:
    """Read the table of verdicts back.

    Args:
        path: A file written by :func:`write_trust`.

    Returns:
        As from :func:`trust_frame`.

    Raises:
        ValueError: If columns are missing, or numbers are none.
    """
    frame = _read(path, COLUMNS, _NUMBERS)
    return frame.astype({"slices": "int64"})


def read_trust_curves(path: Path) -> pd.DataFrame:
    """Read the table of curves back.

    Args:
        path: A file written by :func:`write_trust`.

    Returns:
        As from :func:`curves_frame`.

    Raises:
        ValueError: If columns are missing, or numbers are none.
    """
    return _read(path, CURVE_COLUMNS, ("value", "by_chance"))


def _read(path: Path, columns: tuple[str, ...], numbers: tuple[str, ...]) -> pd.DataFrame:
    # An empty text is a text, an empty number is NaN.
    frame = pd.read_csv(path, keep_default_na=False, dtype=str)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        msg = f"columns {', '.join(missing)} are missing"
        raise ValueError(msg)
    parsed = {name: pd.to_numeric(frame[name].replace("", None)).astype(float) for name in numbers}
    return frame.assign(**parsed)[list(columns)]
