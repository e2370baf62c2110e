"""Intervals and tests of a mean difference: over cases of trained networks, and over seeds.

What is computed from cases is conditional on the trained networks; the unit of a claim about a
loss is the training, that is the seed.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

LEVEL = 0.95
DRAWS = 9999
_SEVERAL = 2  # a spread needs two
_ROUNDING = 1e-12


@dataclass(frozen=True)
class SeedTest:
    """A difference between two losses over their seeds.

    Attributes:
        difference: Mean difference; NaN where nothing can be tested.
        low: Lower end of its 95 % t-interval.
        high: Upper end.
        p: Two-sided p of the same t-test.
    """

    difference: float
    low: float
    high: float
    p: float


UNTESTED = SeedTest(*[float("nan")] * 4)


def bca_ends(
    values: np.ndarray, *, draws: int = DRAWS, seed: int = 0, expand: bool = True
) -> np.ndarray:
    """The 95 % BCa bootstrap intervals of the means of several columns over cases.

    Cases are drawn with replacement, the same ones for all columns of as many cases. The
    acceleration is that of the jackknife, which for a mean has a closed form.

    The means of draws of n cases vary less than means of n new cases, by sqrt((n - 1) / n), and a
    normal quantile knows nothing of a spread that is itself estimated. Expanded intervals ask for
    t(n - 1) * sqrt(n / (n - 1)) in its place: at 40 cases for 2.05 instead of 1.96.

    Args:
        values: Shape ``(cases, columns)``; NaN are left out.
        draws: How often cases are drawn.
        seed: Of the draws.
        expand: Whether to make up for few cases; without it, the interval is the textbook's.

    Returns:
        Low and high ends, shape ``(2, columns)``; NaN for columns with fewer than two values, the
        value itself where all are equal.

    References:
        Efron and Tibshirani, An introduction to the bootstrap, 1993, section 14.3; Hesterberg,
        What teachers should know about the bootstrap, Am. Stat. 69, 2015 (expanded percentiles).
    """
    ends = np.full((2, values.shape[1]), np.nan)
    known = ~np.isnan(values)
    # Columns that lack the same cases are drawn for together.
    for pattern in np.unique(known, axis=1).T:
        if pattern.sum() >= _SEVERAL:
            columns = np.all(known == pattern[:, None], axis=0)
            ends[:, columns] = _bca(values[pattern][:, columns], draws, seed, expand)
    return ends


def paired_seeds(differences: np.ndarray) -> SeedTest:
    """The t-test of differences between runs that share their seeds.

    Args:
        differences: One a seed.

    Returns:
        ``UNTESTED`` with fewer than two seeds, or where the differences do not vary at all.
    """
    count = len(differences)
    if count < _SEVERAL or _constant(differences):
        return UNTESTED
    error = float(np.std(differences, ddof=1)) / float(np.sqrt(count))
    return _t_test(float(np.mean(differences)), error, count - 1)


def welch_seeds(first: np.ndarray, second: np.ndarray) -> SeedTest:
    """Welch's t-test of two losses whose runs do not share their seeds.

    Args:
        first: Means of the seeds of one loss.
        second: Those of the other, which is subtracted.

    Returns:
        ``UNTESTED`` where either has fewer than two seeds, or neither varies.

    References:
        Welch, The generalization of Student's problem, Biometrika 34, 1947.
    """
    groups = (first, second)
    if min(map(len, groups)) < _SEVERAL or all(map(_constant, groups)):
        return UNTESTED
    parts = [float(np.var(group, ddof=1)) / len(group) for group in groups]
    total = sum(parts)
    freedom = total**2 / sum(
        part**2 / (len(group) - 1) for part, group in zip(parts, groups, strict=True)
    )
    return _t_test(float(np.mean(first) - np.mean(second)), float(np.sqrt(total)), freedom)


def wilcoxon_p(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; cases without a difference are left out.

    Args:
        differences: One a case, none NaN.

    Returns:
        1 where no case differs, NaN without cases.
    """
    if not len(differences):
        return float("nan")
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """P values adjusted for how many there are, so that one below 0.05 stands among all of them.

    Args:
        p_values: Shape ``(n,)``; NaN are no tests, and stay.

    Returns:
        Adjusted, in the same order.

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6, 1979.
    """
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: int(np.sum(~np.isnan(p_values)))]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


@lru_cache(maxsize=8)
def drawn_weights(count: int, draws: int, seed: int) -> np.ndarray:
    """How often each of some units is drawn, divided by their number, shape ``(draws, count)``."""
    drawn = np.random.default_rng(seed).integers(0, count, (draws, count))
    offsets = count * np.arange(draws)[:, None]
    counts = np.bincount((drawn + offsets).ravel(), minlength=draws * count)
    weights: np.ndarray = counts.reshape(draws, count) / count
    weights.setflags(write=False)
    return weights


def _bca(values: np.ndarray, draws: int, seed: int, expand: bool) -> np.ndarray:
    mean = values.mean(axis=0)
    # From the mean, lest values that are all equal seem to vary in their last digit.
    centred = values - mean
    drawn = drawn_weights(len(values), draws, seed) @ centred
    # A draw of every case once has the mean itself, but for the order in which it is added up.
    tie = _ROUNDING * np.maximum(1.0, np.abs(mean))
    below = (np.sum(drawn < -tie, axis=0) + np.sum(drawn <= tie, axis=0)) / (2 * draws)
    bias = stats.norm.ppf(below)
    # theta_(.) - theta_(i) of the jackknife is (x_i - mean) / (n - 1); the factor cancels out.
    squares = np.sum(centred**2, axis=0)
    varies = np.ptp(values, axis=0) > tie
    safe = np.where(varies, squares, 1.0)
    acceleration = np.sum(centred**3, axis=0) / (6 * safe**1.5)
    ends = np.empty((2, values.shape[1]))
    reach = _quantile(len(values), expand)
    for row, quantile in enumerate((-reach, reach)):
        moved = bias + quantile
        share = stats.norm.cdf(bias + moved / (1 - acceleration * moved))
        for column in np.flatnonzero(varies):
            ends[row, column] = np.quantile(drawn[:, column], share[column])
    found: np.ndarray = np.where(varies, ends, 0.0) + mean
    return found


def _quantile(count: int, expand: bool) -> float:
    """How many standard deviations an interval of a mean reaches to either side."""
    side = (1 + LEVEL) / 2
    if not expand:
        return float(stats.norm.ppf(side))
    return float(stats.t.ppf(side, count - 1)) * float(np.sqrt(count / (count - 1)))


def _t_test(difference: float, error: float, freedom: float) -> SeedTest:
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(difference) / error, freedom))
    return SeedTest(difference, difference - half, difference + half, p)


def _constant(values: np.ndarray) -> bool:
    """Whether values do not vary but for their last digits."""
    return bool(np.ptp(values) <= _ROUNDING * max(1.0, float(np.max(np.abs(values)))))
