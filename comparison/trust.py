"""Which saliency methods can be believed on the runs of each loss."""

from dataclasses import dataclass

import pandas as pd

from comparison.agreement import in_order
from comparison.saliency_files import Stored
from robustness.trust_table import COLUMNS as VERDICT_COLUMNS
from robustness.trust_table import mark

UNCHECKED = "not checked"


@dataclass(frozen=True)
class Verdicts:
    """What the checks say of one method on the runs of one loss.

    Attributes:
        marks: What stands beside its picture, run by run; empty where it passes.
        ranges: Least and largest number over the runs, by check; none where it was refused.
        reasons: Why it was refused.
    """

    marks: tuple[str, ...]
    ranges: dict[str, tuple[float, float]]
    reasons: tuple[str, ...]

    @property
    def words(self) -> str:
        """``pass``, or what is wrong with it and in how many runs, if not in all."""
        wrong = [found for found in self.marks if found]
        if not wrong:
            return "pass"
        words = "; ".join(dict.fromkeys(wrong))
        of = f" ({len(wrong)} of {len(self.marks)} runs)" if len(wrong) < len(self.marks) else ""
        return words + of


def trust_table(stored: Stored[pd.DataFrame]) -> pd.DataFrame:
    """The verdicts of all runs: ``loss, seed, fold, run`` and those of ``trust_frame``.

    Args:
        stored: The verdicts of each run.
    """
    heads = ["loss", "seed", "fold", "run"]
    parts = []
    for compared, found in stored.runs:
        values = (compared.loss, compared.seed, compared.fold, compared.run.run_id)
        parts.append(found.assign(**dict(zip(heads, values, strict=True))))
    columns = [*heads, *VERDICT_COLUMNS]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def verdicts(table: pd.DataFrame) -> dict[str, dict[str, Verdicts]]:
    """By method and loss, what its runs say.

    Args:
        table: From :func:`trust_table`.
    """
    return {
        method: {
            str(loss): _verdicts(found)
            for loss, found in table[table["method"] == method].groupby("loss", sort=False)
        }
        for method in in_order(table["method"])
    }


def run_marks(stored: Stored[pd.DataFrame]) -> dict[str, dict[str, str]]:
    """What must stand beside the pictures of a run, by its id and the method.

    Args:
        stored: The verdicts of each run.
    """
    return {
        compared.run.run_id: {
            str(row["method"]): mark({str(key): value for key, value in row.items()})
            for row in found.to_dict("records")
        }
        for compared, found in stored.runs
    }


def _verdicts(found: pd.DataFrame) -> Verdicts:
    rows = [{str(key): value for key, value in row.items()} for row in found.to_dict("records")]
    checks = [name for name in VERDICT_COLUMNS if name not in {"method", "failed", "refused"}]
    known = {name: found[name].dropna() for name in checks}
    return Verdicts(
        tuple(mark(row) for row in rows),
        {
            name: (float(values.min()), float(values.max()))
            for name, values in known.items()
            if len(values)
        },
        tuple(dict.fromkeys(str(row["refused"]) for row in rows if row["refused"])),
    )
