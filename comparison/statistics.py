"""What the runs of one loss say together: curves and scores over cases and seeds, with intervals.

An interval over cases is conditional on the trained networks; claims about a loss rest on the
spread between seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from robustness.counts import CLEAN, Q20
from robustness.curves import area_under_curve, areas, case_dice, starts_clean

_POINT = ["attack", "axis", "point_index", "point"]
_LEVEL = 0.95
_ENDS = ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2)


@dataclass(frozen=True)
class Score:
    """A number of a loss with its 95 % t-intervals, NaN where there is one case or seed only.

    Attributes:
        value: Mean over seeds, cases and classes.
        low: Lower end over cases (of each case the mean over seeds and classes).
        high: Upper end over cases.
        seed_low: Lower end over the means of the seeds.
        seed_high: Upper end over the means of the seeds.
    """

    value: float
    low: float
    high: float
    seed_low: float
    seed_high: float


@dataclass(frozen=True)
class _Means:
    """Dice at each point, averaged over everything but what its table is by."""

    overall: pd.DataFrame
    by_case: pd.DataFrame
    by_seed: pd.DataFrame
    left_out: np.ndarray


def loss_curves(
    frames: Sequence[pd.DataFrame], scored: Sequence[pd.DataFrame] | None = None
) -> pd.DataFrame:
    """The curves of a loss from the counts of its runs, one for each seed.

    Args:
        frames: Tables of counts of the same cases and attacks.
        scored: Dice of their cases, where it is known already; see :func:`scored_curves`.

    Returns:
        One row a point, the clean one included, with columns ``attack, axis, point_index, point``,
        ``dice, low, high, seed_low, seed_high`` as in :class:`Score`, ``change`` (mean absolute
        change of a pixel, in image units), ``cases``, ``left_out`` (pairs of case and class that
        have no Dice under any seed) and ``seeds``.
    """
    curves = scored_curves(scored or [case_dice(frame) for frame in frames])
    curves["change"] = np.mean([_changes(frame) for frame in frames], axis=0)
    return curves


def scored_curves(scored: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The same from the Dice of each case, without ``change``.

    Args:
        scored: Tables as from :func:`robustness.curves.case_dice`, one for each seed.
    """
    means = _means(scored)
    curves = means.overall
    for prefix, values in (("", means.by_case), ("seed_", means.by_seed)):
        groups = values.groupby(_POINT, sort=False)["dice"]
        widths = np.array([half_width(group.to_numpy(float)) for _, group in groups])
        curves[f"{prefix}low"] = np.clip(curves["dice"] - widths, 0.0, 1.0)
        curves[f"{prefix}high"] = np.clip(curves["dice"] + widths, 0.0, 1.0)
    curves["cases"] = int(means.by_case["case"].nunique())
    curves["left_out"] = means.left_out
    curves["seeds"] = len(scored)
    return curves


def point_means(scored: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Dice at each point: the mean over trainings of each case, then over cases, then over classes.

    Args:
        scored: Tables as from :func:`robustness.curves.case_dice`, one for each training.

    Returns:
        Columns ``attack, axis, point_index, point, dice``.
    """
    return _mean(_mean(_mean(pd.concat(scored, ignore_index=True), "case", "class"), "class"))


def loss_areas(scored: Sequence[pd.DataFrame]) -> dict[str, Score]:
    """The area under each attack's curve, with intervals over the areas of cases and of seeds.

    Args:
        scored: Tables as from :func:`robustness.curves.case_dice`, one for each seed.

    Returns:
        Scores by attack.
    """
    means = _means(scored)
    by_case, by_seed = (
        values.pivot_table(
            index=unit, columns=["attack", "point_index"], values="dice", dropna=False
        )
        for values, unit in ((means.by_case, "case"), (means.by_seed, "seed"))
    )
    scores = {}
    for attack, value in areas(means.overall).items():
        weights = area_weights(means.overall, attack)
        over_cases, over_seeds = (
            half_width(found[list(weights)].to_numpy() @ list(weights.values()))
            for found in (by_case, by_seed)
        )
        ends = (value - over_cases, value + over_cases, value - over_seeds, value + over_seeds)
        scores[attack] = Score(value, *(float(np.clip(end, 0.0, 1.0)) for end in ends))
    return scores


def area_weights(points: pd.DataFrame, attack: str) -> dict[tuple[str, int], float]:
    """What Dice at each point adds to the area under a curve: an area is linear in Dice.

    Args:
        points: With columns ``attack, axis, point_index, point``; an attack's points rise.
        attack: Name of the attack.

    Returns:
        Weights by attack and index of the point, the clean one where the curve begins there;
        points without weight are left out, so that a case without Dice there has its area.
    """
    curve = points[points["attack"] == attack]
    levels = curve["point"].to_numpy(float)
    clean = 0.0 if starts_clean(str(curve["axis"].iloc[0])) else None
    weights = {
        (attack, int(index)): area_under_curve(levels, unit, clean=clean)
        for index, unit in zip(curve["point_index"], np.eye(len(levels)), strict=True)
    }
    if clean is not None:
        weights[CLEAN, 0] = area_under_curve(levels, 0 * levels, clean=1.0)
    return {key: weight for key, weight in weights.items() if weight}


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


def bootstrap_ends(values: np.ndarray, *, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """The 95 % bootstrap intervals of the means of several columns over cases.

    Cases are drawn with replacement, the same ones for all tables of as many cases, so that the
    differences between their means are paired. The ends never leave the range of the values.

    Args:
        values: Shape ``(cases, columns)``; NaN are left out.
        draws: How often cases are drawn.
        seed: Of the draws.

    Returns:
        Low and high ends, shape ``(2, columns)``; NaN for columns with fewer than two values.

    References:
        Efron and Tibshirani, An introduction to the bootstrap, 1993, section 13.3 (percentiles).
    """
    cases = len(values)
    if not cases:
        return np.full((2, values.shape[1]), np.nan)
    known = ~np.isnan(values)
    draw = np.random.default_rng(seed)
    weights = draw.multinomial(cases, np.full(cases, 1 / cases), draws).astype(float)
    counts = weights @ known
    # A draw without any defined case has no mean and is left out.
    means = (weights @ np.where(known, values, 0.0)) / np.where(counts > 0, counts, np.nan)
    ends = np.full((2, values.shape[1]), np.nan)
    several = known.sum(axis=0) > 1
    ends[:, several] = np.nanquantile(means[:, several], _ENDS, axis=0)
    return ends


def _changes(frame: pd.DataFrame) -> np.ndarray:
    """As ``change`` of :func:`robustness.curves.mean_curves`, without its Dice."""
    sums = frame.groupby(_POINT, sort=False, observed=True)[["change_q20", "slices_all"]].sum()
    changes: np.ndarray = (sums["change_q20"] / sums["slices_all"] / Q20).to_numpy()
    return changes


def _means(per_seed: Sequence[pd.DataFrame]) -> _Means:
    numbered = [found.assign(seed=index) for index, found in enumerate(per_seed)]
    scored = pd.concat(numbered, ignore_index=True)
    pairs = _mean(scored, "case", "class")
    return _Means(
        overall=_mean(_mean(pairs, "class")),
        by_case=_mean(pairs, "case"),
        by_seed=_mean(_mean(scored, "class", "seed"), "seed"),
        left_out=pairs["dice"]
        .isna()
        .groupby([pairs[key] for key in _POINT], sort=False)
        .sum()
        .to_numpy(),
    )


def _mean(scored: pd.DataFrame, *by: str) -> pd.DataFrame:
    return scored.groupby([*_POINT, *by], sort=False)["dice"].mean().reset_index()
