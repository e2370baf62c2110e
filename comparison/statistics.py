"""Curves of a loss over cases and seeds, with the intervals that belong to each."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from robustness.curves import case_dice, mean_curves

_POINT = ["attack", "axis", "point_index", "point"]
_LEVEL = 0.95


def loss_curves(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The curves of a loss from the counts of its runs, one for each seed.

    Args:
        frames: Tables of counts of the same cases and attacks.

    Returns:
        One row a point, the clean one included, with columns ``attack, axis, point_index, point,
        dice`` (mean over seeds, cases and classes), ``low, high`` (95 % t-interval over cases:
        of each case the mean over classes and seeds; conditional on the trained networks),
        ``seed_low, seed_high`` (95 % t-interval over the seeds' means; NaN with one seed),
        ``change`` (mean absolute change of a pixel), ``cases`` and ``seeds``.
    """
    per_seed = [case_dice(frame).assign(seed=index) for index, frame in enumerate(frames)]
    scored = pd.concat(per_seed, ignore_index=True)
    pairs = scored.groupby([*_POINT, "case", "class"], sort=False)["dice"].mean().reset_index()
    by_case = pairs.groupby([*_POINT, "case"], sort=False)["dice"].mean().reset_index()
    by_seed = scored.groupby([*_POINT, "seed"], sort=False)["dice"].mean().reset_index()
    curves = pairs.groupby(_POINT, sort=False)["dice"].mean().reset_index()
    over_cases = _intervals(by_case)
    over_seeds = _intervals(by_seed)
    curves["low"] = np.clip(curves["dice"] - over_cases, 0.0, 1.0)
    curves["high"] = np.clip(curves["dice"] + over_cases, 0.0, 1.0)
    curves["seed_low"] = np.clip(curves["dice"] - over_seeds, 0.0, 1.0)
    curves["seed_high"] = np.clip(curves["dice"] + over_seeds, 0.0, 1.0)
    changes = [mean_curves(frame)["change"].to_numpy() for frame in frames]
    curves["change"] = np.mean(changes, axis=0)
    curves["cases"] = int(scored["case"].nunique())
    curves["seeds"] = len(frames)
    return curves


def half_width(values: np.ndarray) -> float:
    """Half the width of the 95 % t-interval of a mean.

    Args:
        values: Independent values; NaN are left out.

    Returns:
        t * s / sqrt(n); NaN with fewer than two values.
    """
    values = values[~np.isnan(values)]
    count = len(values)
    if count < 2:  # noqa: PLR2004 (a spread needs two)
        return float("nan")
    quantile = float(stats.t.ppf(0.5 + _LEVEL / 2, count - 1))
    return quantile * float(np.std(values, ddof=1)) / float(np.sqrt(count))


def _intervals(scored: pd.DataFrame) -> np.ndarray:
    """Half widths in the order in which the points stand in the table."""
    groups = scored.groupby(_POINT, sort=False)["dice"]
    return np.array([half_width(group.to_numpy(float)) for _, group in groups])
