"""The worst case of each case over several attacks: what an attacker who may choose leaves.

A mean over cases of one attack hides that another attack does better on some of them. The lowest
Dice of each case over an ensemble is what a network holds against all of them at once. Repeats are
tries of the same attacker, who keeps the best: of each attack, too, the lowest counts and not the
mean. Controls attack nobody and have no place in an ensemble.

References:
    Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks, ICML 2020.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustness.curves import case_dice

_KEYS = ["attack", "axis", "point_index", "point", "case", "class"]
_CASE = ["point", "case", "class"]
# The field that holds an attack's points, the axis that it is one of, and the norm that it bounds.
_POINTS = {
    "epsilons": ("epsilon", "linf"),
    "counts": ("pixels", "l0"),
    "levels": ("level", "l0"),
}
_CONTROL_RANKINGS = {"random", "intensity_matched"}
_CONTROL_CLASSES = {"NoiseControl"}


class _Budget(NamedTuple):
    """What an attack may do at a point of its axis; attacks with the same one may be chosen from.

    Attributes:
        axis: What its points count.
        norm: The norm that they bound.
        low: Lower end of the values it may set, None where it has none.
        high: Upper end, likewise.
        valid_only: Whether padding is left alone.
        pixels: How many pixels it changes, where the points are levels.
        per_channel: Whether what it counts as pixels are entries of single channels.
    """

    axis: str
    norm: str
    low: float | None
    high: float | None
    valid_only: bool
    pixels: int | None
    per_channel: bool

    @property
    def words(self) -> str:
        """The budget as a reader sees it: ``linf epsilon in [0, 0.2]``."""
        is_plain = self.axis != "epsilon" and self.norm == "l0"
        words = self.axis if is_plain else f"{self.norm} {self.axis}"
        if self.pixels is not None:
            words += f" of {self.pixels} pixels"
        if self.low is not None and self.low == self.high:
            words += f" at {self.low:g}"
        elif self.low is not None or self.high is not None:
            ends = ("any" if end is None else f"{end:g}" for end in (self.low, self.high))
            words += f" in [{', '.join(ends)}]"
        words += ", of single channels" if self.per_channel else ""
        return words if self.valid_only else f"{words}, padding too"


def worst_case(frame: pd.DataFrame, attacks: Sequence[str]) -> pd.DataFrame:
    """The lowest Dice of each case and class over an ensemble of attacks, point by point.

    Args:
        frame: A table of counts.
        attacks: Names of the attacks, all of one axis. Points that not all of them have are left
            out, since the budget would differ.

    Returns:
        Columns ``axis, point, case, class, dice, attack``: the lowest over the repeats of all
        attacks and the attack that left it, the first named where several did. A repeat or attack
        under which Dice is undefined is passed over; where it is undefined under all, ``dice`` is
        NaN and ``attack`` empty. Attacks with more repeats have more tries: give equal ones.

    Raises:
        ValueError: If no attack is named, one is not in the table, or their axes differ.
    """
    names = list(dict.fromkeys(attacks))
    scored = lowest_dice(frame[frame["attack"].isin(names)])
    _check(names, scored)
    by_attack = {
        str(name): found.set_index(_CASE)["dice"]
        for name, found in scored.groupby("attack", sort=False)
    }
    shared = by_attack[names[0]].index
    for name in names[1:]:
        shared = shared[shared.isin(by_attack[name].index)]
    dice = np.stack([by_attack[name].reindex(shared).to_numpy(float) for name in names])
    which = np.where(np.isnan(dice), np.inf, dice).argmin(axis=0)
    worst = shared.to_frame(index=False)
    worst.insert(0, "axis", str(scored["axis"].iloc[0]))
    worst["dice"] = dice[which, np.arange(len(shared))]
    worst["attack"] = np.where(worst["dice"].isna(), "", np.array(names, dtype=object)[which])
    return worst


def lowest_dice(frame: pd.DataFrame) -> pd.DataFrame:
    """Dice of each case and class at each point in the repeat that leaves least of it.

    Args:
        frame: A table of counts.

    Returns:
        Columns as from :func:`robustness.curves.case_dice`, with the lowest over repeats in place
        of their mean; NaN where Dice is undefined in all of them.
    """
    of_repeats = [case_dice(found) for _, found in frame.groupby("repeat", sort=True)]
    if not of_repeats:
        return case_dice(frame)
    tried = pd.concat(of_repeats, ignore_index=True)
    lowest = tried.groupby(_KEYS, sort=False, observed=True)["dice"].min()
    rows = frame[_KEYS].drop_duplicates()
    return rows.merge(lowest.reset_index(), on=_KEYS, how="left").reset_index(drop=True)


def ensembles(settings: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Attacks that may be chosen from at equal budget, controls left out.

    Args:
        settings: :meth:`robustness.attack.Attack.settings` of each attack.

    Returns:
        Names of two or more attacks by the words of their budget: their axis, norm, range of
        values, and whether they leave padding alone. Attacks that have neither ``epsilons`` nor
        ``counts`` nor ``levels`` are in none: equal severities are no equal budget.
    """
    found: dict[_Budget, list[str]] = {}
    for attack in settings:
        budget = _budget(attack)
        if budget is not None and not is_control(attack):
            found.setdefault(budget, []).append(str(attack["name"]))
    return {budget.words: names for budget, names in found.items() if len(names) > 1}


def is_control(settings: Mapping[str, Any]) -> bool:
    """Whether an attack does not try to do harm, and is there to be compared with.

    Args:
        settings: Of the attack.
    """
    return settings.get("ranking") in _CONTROL_RANKINGS or settings.get("class") in _CONTROL_CLASSES


def _budget(settings: Mapping[str, Any]) -> _Budget | None:
    points = next((name for name in _POINTS if settings.get(name)), None)
    if points is None:
        return None
    axis, norm = _POINTS[points]
    given = str(settings.get("norm") or norm).lower()
    low, high = settings.get("low"), settings.get("high")
    value = settings.get("value")
    if isinstance(value, int | float):  # one value for all pixels, whatever range is set
        low = high = value
    return _Budget(
        axis=axis,
        norm=given if given.startswith("l") else f"l{given}",
        low=None if low is None else float(low),
        high=None if high is None else float(high),
        valid_only=bool(settings.get("valid_only", False)),
        pixels=settings.get("pixels") if axis == "level" else None,
        per_channel=bool(settings.get("per_channel", False)),
    )


def _check(names: Sequence[str], scored: pd.DataFrame) -> None:
    if not names:
        msg = "worst case: found no attack, expected one or more"
        raise ValueError(msg)
    measured = set(scored["attack"])
    missing = [name for name in names if name not in measured]
    if missing:
        msg = f"worst case: {', '.join(missing)} not among the counts, expected attacks that are"
        raise ValueError(msg)
    axes = [str(axis) for axis in scored["axis"].unique()]
    if len(axes) > 1:
        msg = f"worst case: found attacks along {', '.join(axes)}, expected one axis for all"
        raise ValueError(msg)
