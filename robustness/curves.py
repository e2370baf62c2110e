"""Scores and curves derived from the table of counts."""

import numpy as np
import pandas as pd

from robustness.counts import CLEAN, Q20

THRESHOLD = "threshold"  # the axis of attacks of least length

_POINT = ["attack", "axis", "point_index", "point"]


def case_dice(frame: pd.DataFrame) -> pd.DataFrame:
    """Volume Dice of each case and class at each point: 2 tp / (2 tp + fp + fn).

    Args:
        frame: A table of counts.

    Returns:
        Columns ``attack, axis, point_index, point, case, class, dice``: the mean over the
        repeats in which it is defined. NaN where truth and prediction are both empty in all
        repeats; 0 where the truth alone is empty.
    """
    size = 2 * frame["tp"] + frame["fp"] + frame["fn"]
    dice = (2 * frame["tp"] / size.where(size > 0)).astype(float)
    scored = frame[[*_POINT, "case", "class"]].assign(dice=dice)
    keys = [*_POINT, "case", "class"]
    return scored.groupby(keys, sort=False, observed=True)["dice"].mean().reset_index()


def mean_curves(frame: pd.DataFrame) -> pd.DataFrame:
    """Each attack's curve: Dice at every point, with the disturbance that it took.

    Args:
        frame: A table of counts.

    Returns:
        Columns ``attack, axis, point_index, point, dice, slice_dice, change, cases, left_out``.
        ``dice`` is the mean over repeats, then over cases, then over classes; ``slice_dice`` the
        mean over slices with foreground; ``change`` the mean absolute change of a pixel, in image
        units, over all slices; ``cases`` the number of cases; ``left_out`` the number of
        (case, class) pairs without Dice.
    """
    scored = case_dice(frame)
    by_class = scored.groupby([*_POINT, "class"], sort=False, observed=True)["dice"].mean()
    curves = by_class.groupby(_POINT, sort=False).mean().reset_index()
    by_point = scored.groupby(_POINT, sort=False, observed=True)
    curves["cases"] = by_point["case"].nunique().to_numpy()
    curves["left_out"] = by_point["dice"].agg(lambda dice: int(dice.isna().sum())).to_numpy()
    fields = ["slice_dice_q20", "slices", "change_q20", "slices_all"]
    sums = frame.groupby(_POINT, sort=False, observed=True)[fields].sum().reset_index()
    curves["slice_dice"] = sums["slice_dice_q20"] / sums["slices"].where(sums["slices"] > 0) / Q20
    curves["change"] = sums["change_q20"] / sums["slices_all"] / Q20
    return curves


def clean_dice(curves: pd.DataFrame) -> float:
    """Dice of the undisturbed slices, from :func:`mean_curves`.

    Raises:
        ValueError: If the curves hold no clean point.
    """
    clean = curves.loc[curves["attack"] == CLEAN, "dice"]
    if clean.empty:
        msg = "the counts hold no clean row, so clean Dice is unknown"
        raise ValueError(msg)
    return float(clean.iloc[0])


def area_under_curve(points: np.ndarray, dice: np.ndarray, *, clean: float | None) -> float:
    """Area under a curve by trapezoids over the true axis, divided by the axis's range.

    Args:
        points: Rising values of the axis, shape ``(P,)``.
        dice: Dice at each of them, shape ``(P,)``.
        clean: Where the axis starts at no disturbance (numbers of pixels), the Dice there; the
            curve then starts at (0, clean), unless it has a point at 0 of its own. None where the
            first point is itself a disturbance (levels).

    Returns:
        A mean Dice over the axis, in [0, 1]. The Dice itself where there is one point only.

    Raises:
        ValueError: If the shapes differ or the points do not rise.
    """
    points, dice = np.asarray(points, float), np.asarray(dice, float)
    if points.shape != dice.shape or points.ndim != 1 or points.size == 0:
        msg = f"points of shape {points.shape} and Dice of shape {dice.shape}; expected equal (P,)"
        raise ValueError(msg)
    if clean is not None and points[0] < 0:
        msg = f"points {points.tolist()} begin below 0, where the image is clean"
        raise ValueError(msg)
    if clean is not None and points[0] > 0:
        points, dice = np.r_[0.0, points], np.r_[clean, dice]
    if not np.all(np.diff(points) > 0):
        msg = f"points {points.tolist()} do not rise"
        raise ValueError(msg)
    if points.size == 1:
        return float(dice[0])
    return float(np.trapezoid(dice, points) / (points[-1] - points[0]))


def areas(curves: pd.DataFrame) -> dict[str, float]:
    """The area under each attack's curve, from :func:`mean_curves`.

    Thresholds are no budget: attacks that go as far as a threshold asks have no area.
    """
    clean = clean_dice(curves)
    found: dict[str, float] = {}
    for attack, curve in curves[curves["attack"] != CLEAN].groupby("attack", sort=False):
        axis = curve["axis"].iloc[0]
        if axis == THRESHOLD:
            continue
        found[str(attack)] = area_under_curve(
            curve["point"].to_numpy(),
            curve["dice"].to_numpy(),
            clean=clean if starts_clean(axis) else None,
        )
    return found


def starts_clean(axis: str) -> bool:
    """Whether 0 on this axis is the undisturbed image: so for numbers of pixels, not for levels."""
    return axis != "level"
