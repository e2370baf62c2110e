"""Losses two by two, case by case: how much they differ, and what stands of it over seeds."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from comparison.case_scores import CaseScores, RunKey
from comparison.intervals import UNTESTED, bca_ends, holm, paired_seeds, welch_seeds, wilcoxon_p

PAIRED, WELCH, ONE_SEED, UNVARIED = "paired", "welch", "one seed", "seeds agree"
COLUMNS = (
    *("measure", "loss", "other", "difference", "cases", "cases_left_out", "low", "high"),
    *("p_cases", "p_cases_holm", "design", "seeds", "seeds_other", "seed_low", "seed_high"),
    *("p_seeds", "p_seeds_holm"),
)


def pair_table(scores: CaseScores) -> pd.DataFrame:
    """All pairs of losses for one question.

    The runs of a pair are those of the seeds that both losses have, where these are two or more
    (``paired``), else all runs of both (``welch``, or ``one seed`` where either has one only, which
    says nothing about the loss). A case counts where all these runs have a score of it.

    Args:
        scores: Of one question.

    Returns:
        One row a pair with ``COLUMNS``. ``difference`` is the mean of ``loss`` minus ``other``.
        ``low`` and ``high`` are its BCa interval over cases and ``p_cases`` the paired Wilcoxon
        test, both conditional on the trained networks; ``seed_low``, ``seed_high`` and ``p_seeds``
        those of the t-test over seeds, NaN where none can be made. ``_holm`` is adjusted over all
        pairs of the question.
    """
    rows = [_pair(scores, loss, other) for loss, other in combinations(scores.values, 2)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("p_cases", "p_seeds"):
        table[f"{name}_holm"] = holm(table[name].to_numpy(float))
    return table


def _pair(scores: CaseScores, loss: str, other: str) -> dict[str, object]:
    first, second = scores.values[loss], scores.values[other]
    common = [key for key in first if key in second]
    is_paired = len(common) > 1
    if is_paired:
        first, second = ({key: runs[key] for key in common} for runs in (first, second))
    ours, theirs = _stacked(first), _stacked(second)
    known = ~np.isnan(np.vstack([ours, theirs])).any(axis=0)
    ours, theirs = ours[:, known], theirs[:, known]
    of_cases = ours.mean(axis=0) - theirs.mean(axis=0)
    row: dict[str, object] = {
        "measure": scores.question.measure,
        "loss": loss,
        "other": other,
        "difference": float(of_cases.mean()) if of_cases.size else float("nan"),
        "cases": int(known.sum()),
        "cases_left_out": int(np.sum(~known)),
        "p_cases": wilcoxon_p(of_cases),
        "seeds": len(first),
        "seeds_other": len(second),
    }
    row["low"], row["high"] = bca_ends(of_cases[:, None])[:, 0].tolist()
    design = PAIRED if is_paired else WELCH
    tested = UNTESTED
    if min(len(first), len(second)) == 1:
        design = ONE_SEED
    elif known.any():
        means = ours.mean(axis=1), theirs.mean(axis=1)
        tested = paired_seeds(means[0] - means[1]) if is_paired else welch_seeds(*means)
        if tested is UNTESTED:
            design = UNVARIED
    row |= {"design": design, "seed_low": tested.low, "seed_high": tested.high}
    row["p_seeds"] = tested.p
    return row


def _stacked(runs: Mapping[RunKey, np.ndarray]) -> np.ndarray:
    return np.stack(list(runs.values()))
