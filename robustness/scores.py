"""Scores of each attack, and of each of its points, derived from the table of counts.

What is undefined is NaN and is left out of means: Dice of a case and class where truth and
prediction are both empty, and a class without any such Dice. A ratio with nothing below the line
is NaN. Intervals are percentiles of the bootstrap over cases, NaN with fewer than two cases: cases
are drawn with replacement, the same ones for all attacks, points and networks that were counted on
as many cases under one seed, so that their differences are paired.

References:
    Efron and Tibshirani, An introduction to the bootstrap, 1993, section 13.3 (percentiles).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from robustness.counts import CLEAN, Q20
from robustness.curves import THRESHOLD, area_under_curve, case_dice, starts_clean
from robustness.keyed_random import text_key

DRAWS = 1000
# Mean number of valid pixels of a slice in 2**-20, among the metadata of counts.
VALID_PIXELS = "valid_pixels_q20"

POINT_COLUMNS = (
    *("attack", "axis", "point_index", "point"),
    *("dice", "dice_low", "dice_high", "drop", "drop_low", "drop_high", "change"),
    *("fp", "fn", "fp_rate", "fn_rate", "fp_empty", "fp_empty_share", "empty_slices"),
    "valid_share",
)
ATTACK_COLUMNS = (
    *("attack", "axis", "clean", "area", "area_low", "area_high"),
    *("relative_area", "relative_area_low", "relative_area_high"),
    *("half", "half_low", "half_high", "half_valid_share"),
)

_POINT = ["attack", "axis", "point_index", "point"]
_LEVEL = 0.95


def point_scores(
    frames: Sequence[pd.DataFrame],
    metadata: Mapping[str, str] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """What is left at each point, the clean one included, and what went wrong there.

    Args:
        frames: Tables of counts of the same cases and attacks, one for each training.
        metadata: Of the counts, for ``VALID_PIXELS``.
        draws: How often cases are drawn for the intervals.
        seed: Of the draws.

    Returns:
        One row a point in the order of the counts, with ``POINT_COLUMNS``:

        - ``dice``: the mean over repeats, then over trainings, cases and classes, with its interval
          ``dice_low, dice_high``.
        - ``drop``: 1 - dice / clean Dice, with its interval; NaN where clean Dice is 0.
        - ``change``: mean absolute change of a pixel, in image units.
        - ``fp, fn``: false positive and false negative pixels a slice and class, mean over
          repeats, then pooled over cases, classes and trainings, so that each training weighs
          alike. ``fp_rate, fn_rate`` the same as shares of the true area (the first may exceed 1).
        - ``fp_empty``: false positive pixels of a slice (and class) without truth, over such
          slices; ``empty_slices`` how many of them there are, and ``fp_empty_share`` which share
          of all false positives lies in them.
        - ``valid_share``: along pixels, how much of a slice's valid area may change; NaN along
          other axes, and where the metadata do not know the area.
    """
    points, dice = _resampled(frames, draws, seed)
    clean = _clean_row(points, dice)
    scored = points.assign(**_with_ends("dice", dice))
    scored = scored.assign(**_with_ends("drop", 1.0 - dice / np.where(clean > 0, clean, np.nan)))
    sums = pd.concat([_mean_repeat(frame) for frame in frames])
    sums = sums.groupby(level=_POINT, sort=False, observed=True).sum()
    fp, fn = sums["fp"].to_numpy(float), sums["fn"].to_numpy(float)
    slices, true = sums["slices_all"].to_numpy(float), sums["tp"].to_numpy(float) + fn
    empty = slices - sums["slices"].to_numpy(float)
    in_empty = sums["fp_empty"].to_numpy(float)
    scored["change"] = _ratio(sums["change_q20"].to_numpy(float), slices) / Q20
    scored["fp"], scored["fn"] = _ratio(fp, slices), _ratio(fn, slices)
    scored["fp_rate"], scored["fn_rate"] = _ratio(fp, true), _ratio(fn, true)
    scored["fp_empty"], scored["fp_empty_share"] = _ratio(in_empty, empty), _ratio(in_empty, fp)
    scored["empty_slices"] = (empty / len(frames)).round().astype(int)
    area = valid_pixels(metadata or {})
    scored["valid_share"] = np.where(scored["axis"] == "pixels", scored["point"] / area, np.nan)
    return scored[list(POINT_COLUMNS)]


def attack_scores(
    frames: Sequence[pd.DataFrame],
    metadata: Mapping[str, str] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """How much each attack leaves over its axis, and how far it goes until half is left.

    Args:
        frames: As for :func:`point_scores`.
        metadata: Likewise.
        draws: Likewise.
        seed: Likewise.

    Returns:
        One row an attack in the order of the counts, with ``ATTACK_COLUMNS``, each score with the
        ends of its interval:

        - ``area``: area under the curve of Dice, as in :func:`robustness.curves.areas`; NaN
          where a point of the curve is.
        - ``relative_area``: the same divided by clean Dice; NaN where that is 0. A network that
          the attack does nothing to has 1, however good it is.
        - ``half``: where half of the clean Dice is left, as in :func:`half_points`.
        - ``half_valid_share``: along pixels, that many as a share of a slice's valid area.

        Attacks along thresholds, which are no budget, have NaN for all of them.
    """
    points, dice = _resampled(frames, draws, seed)
    clean = _clean_row(points, dice)
    nonzero = np.where(clean > 0, clean, np.nan)
    valid = valid_pixels(metadata or {})
    rows = []
    for name, found in points[points["attack"] != CLEAN].groupby("attack", sort=False):
        axis, curve = str(found["axis"].iloc[0]), dice[found.index]
        area = half = np.full(dice.shape[1], np.nan)
        if axis != THRESHOLD:
            at = found["point"].to_numpy(float)
            area = _areas(at, curve, clean, axis)
            half = half_points(at, curve, clean, starts_clean=starts_clean(axis))
        row: dict[str, object] = {"attack": name, "axis": axis, "clean": float(clean[0])}
        row |= _single(_with_ends("area", area[None]))
        row |= _single(_with_ends("relative_area", (area / nonzero)[None]))
        row |= _single(_with_ends("half", half[None]))
        row["half_valid_share"] = float(half[0]) / valid if axis == "pixels" else np.nan
        rows.append(row)
    return pd.DataFrame(rows, columns=list(ATTACK_COLUMNS))


def half_points(
    points: np.ndarray, dice: np.ndarray, clean: np.ndarray, *, starts_clean: bool
) -> np.ndarray:
    """Where curves first come down to half of their clean Dice, along straight lines.

    Args:
        points: Rising values of the axis, shape ``(P,)``.
        dice: Dice at each of them, shape ``(P, D)`` for D curves; points where it is NaN are
            passed over.
        clean: Clean Dice of each curve, shape ``(D,)``.
        starts_clean: Whether the curves start at (0, clean). Where they do not, a curve that is at
            half or below from the beginning has its first point.

    Returns:
        Shape ``(D,)``: infinite where half is never reached, NaN where clean Dice is 0 or NaN.
    """
    found = np.full(len(clean), np.inf)
    at = np.full(len(clean), 0.0 if starts_clean else np.nan)
    above = clean if starts_clean else np.full(len(clean), np.nan)
    for point, value in zip(points, dice, strict=True):
        crosses = np.isinf(found) & (value <= clean / 2)
        # Where nothing lies before it, the point itself; the line is only used where it crosses.
        with np.errstate(invalid="ignore", divide="ignore"):
            crossing = at + (point - at) * (above - clean / 2) / (above - value)
        found = np.where(crosses, np.where(np.isnan(above), point, crossing), found)
        defined = ~np.isnan(value)
        at, above = np.where(defined, point, at), np.where(defined, value, above)
    return np.where(clean > 0, found, np.nan)


def valid_pixels_q20(calibration: pd.DataFrame, counts: pd.DataFrame) -> str:
    """What :func:`valid_pixels` reads back: 2**20 times the mean number of a slice's valid pixels.

    Args:
        calibration: From :func:`robustness.calibration.calibration_frame`.
        counts: Table of counts of the same evaluation.

    Returns:
        A whole number as text, for the metadata; empty where there are no slices.
    """
    first = counts["class"].iloc[0] if len(counts) else ""
    pixels, slices = (
        int(frame.loc[(frame["attack"] == CLEAN) & (frame["class"] == first), column].sum())
        for frame, column in ((calibration, "pixels"), (counts, "slices_all"))
    )
    return str(round(Q20 * pixels / slices)) if slices else ""


def valid_pixels(metadata: Mapping[str, str]) -> float:
    """Mean number of valid pixels of a slice, which budgets in pixels are shares of.

    Args:
        metadata: Of counts.

    Returns:
        A number of pixels; NaN where the metadata hold none.

    Raises:
        ValueError: If what they hold is no whole number above 0.
    """
    stored = metadata.get(VALID_PIXELS, "")
    if not stored:
        return float("nan")
    if not stored.isdecimal() or int(stored) == 0:
        msg = f"counts: {VALID_PIXELS} is {stored}, expected a whole number above 0"
        raise ValueError(msg)
    return int(stored) / Q20


def _mean_repeat(frame: pd.DataFrame) -> pd.DataFrame:
    """The counts of all cases and classes at each point, mean over its repeats."""
    points = frame.groupby(_POINT, sort=False, observed=True)
    return points.sum(numeric_only=True).div(points["repeat"].nunique(), axis=0)


def _resampled(
    frames: Sequence[pd.DataFrame], draws: int, seed: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """The points, and Dice at each for all cases and then for each draw: ``(P, 1 + draws)``."""
    keys = [*_POINT, "case", "class"]
    scored = pd.concat([case_dice(frame) for frame in frames], ignore_index=True)
    scored = scored.groupby(keys, sort=False, observed=True)["dice"].mean().reset_index()
    points = scored[_POINT].drop_duplicates(ignore_index=True)
    row = scored.groupby(_POINT, sort=False, observed=True).ngroup().to_numpy()
    kind, classes = pd.factorize(scored["class"])
    case, cases = pd.factorize(scored["case"], sort=True)
    cube = np.full((len(points), len(classes), len(cases)), np.nan)
    cube[row, kind, case] = scored["dice"]

    weights = _weights(len(cases), draws, seed).T
    total = np.nan_to_num(cube) @ weights
    by_class = _ratio(total, ~np.isnan(cube) @ weights)
    known = ~np.isnan(by_class)
    return points, _ratio(np.where(known, by_class, 0.0).sum(axis=1), known.sum(axis=1))


def _weights(cases: int, draws: int, seed: int) -> np.ndarray:
    """How often each case counts: once, then as it is drawn; shape ``(1 + draws, cases)``."""
    if cases < 2:  # noqa: PLR2004 (a spread needs two)
        return np.ones((1, cases))
    entropy = [number % 2**64 for number in (seed, text_key("bootstrap over cases"))]
    drawn = np.random.default_rng(entropy).multinomial(cases, np.full(cases, 1 / cases), draws)
    return np.concatenate([np.ones((1, cases)), drawn])


def _areas(points: np.ndarray, dice: np.ndarray, clean: np.ndarray, axis: str) -> np.ndarray:
    """The areas under several curves: they are linear in Dice, so that each point has a weight."""
    units = np.eye(len(points) + 1)
    from_clean = starts_clean(axis)
    weights = [
        area_under_curve(points, unit[1:], clean=unit[0] if from_clean else None) for unit in units
    ]
    area: np.ndarray = np.array(weights[1:]) @ dice
    # A curve with a point at 0 of its own has no use for clean Dice, be it NaN.
    return area + weights[0] * clean if weights[0] else area


def _clean_row(points: pd.DataFrame, dice: np.ndarray) -> np.ndarray:
    clean: np.ndarray = dice[(points["attack"] == CLEAN).to_numpy()]
    if not len(clean):
        msg = "the counts hold no clean row, so clean Dice is unknown"
        raise ValueError(msg)
    (found,) = clean
    return np.asarray(found)


def _with_ends(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """First column of the values, and the interval that the others give; shape ``(rows, draws)``.

    Ends are values that were drawn, so that they may be infinite.
    """
    drawn = np.sort(values[:, 1:], axis=1)  # NaN last
    known = (~np.isnan(drawn)).sum(axis=1)
    ends = {}
    for end, share in (("low", (1 - _LEVEL) / 2), ("high", (1 + _LEVEL) / 2)):
        rank = np.clip(np.ceil(share * known).astype(int) - 1, 0, None)
        ends[f"{name}_{end}"] = np.full(len(values), np.nan)
        if drawn.shape[1]:
            ends[f"{name}_{end}"] = np.take_along_axis(drawn, rank[:, None], axis=1)[:, 0]
    return {name: values[:, 0], **ends}


def _single(columns: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(values[0]) for name, values in columns.items()}


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio
