"""How many repeats a random attack needs, so that its mean Dice is known as well as asked for.

Two stages: the spread over a few repeats says how many each point of the attack takes in all. An
interval that is planned like this has the width and the confidence asked for, which stopping as
soon as one looks narrow has not. Random numbers of different cases are independent, so that the
variance of the mean Dice is the sum of what each case has to it: many degrees of freedom from few
repeats.

References:
    Stein, A two-sample test for a linear hypothesis whose power is independent of the variance,
    Annals of Mathematical Statistics 16, 1945. Satterthwaite, An approximate distribution of
    estimates of variance components, Biometrics Bulletin 2, 1946.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustness.attack import Attack
from robustness.counts import FIELDS, PartialCounts, Row
from robustness.plan import Plan, further_plan, make_plan
from robustness.repeated_attack import FIRST_REPEATS, RepeatedAttack

_LEVEL = 0.95


@dataclass(frozen=True)
class Pass:
    """What all processes together have measured in one pass over the slices.

    Attributes:
        rows: The disturbances, in the order of the sums.
        counts: Of each process.
        bins: Of each process, from ``CalibrationTable.partial``.
    """

    rows: tuple[Row, ...]
    counts: tuple[PartialCounts, ...]
    bins: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Repeated:
    """How often a random attack was repeated.

    Attributes:
        repeats: How often at each point.
        half_widths: How wide the 95 % interval of the mean Dice over repeats is to either side, at
            each point.
        asked: How wide it may be.
    """

    repeats: tuple[int, ...]
    half_widths: tuple[float, ...]
    asked: float

    @property
    def reached(self) -> bool:
        """Whether the interval is as narrow as asked for at all points."""
        return max(self.half_widths) <= self.asked


def first_plan(attacks: Sequence[Attack]) -> Plan:
    """The plan of the first stage: of attacks that stop by themselves only the first repeats.

    Raises:
        ValueError: As in :func:`robustness.engine.make_plan`.
    """
    stopping = _stopping(attacks)
    return make_plan(attacks, {name: _first(attack) for name, attack in stopping.items()})


def enough_repeats(
    attacks: Sequence[Attack], one_pass: Callable[[Plan], Pass]
) -> tuple[Pass, dict[str, Repeated]]:
    """Make as many repeats as the attacks ask for, in one pass over the slices or in two.

    Args:
        attacks: The attacks.
        one_pass: Goes through all slices by a plan and gives what all processes measured, the same
            on each of them: they decide alike.

    Returns:
        What both passes measured, rows in the order of a plan with all repeats; and for each attack
        that stops by itself, how often it was repeated.
    """
    stopping = _stopping(attacks)
    found = one_pass(first_plan(attacks))
    alone = {name: _interval_of_one(found, attack) for name, attack in stopping.items()}
    needed = {
        name: np.ceil((alone[name] / attack.half_width) ** 2) for name, attack in stopping.items()
    }
    repeats = {
        name: needed[name].clip(FIRST_REPEATS, attack.repeats).astype(int).tolist()
        for name, attack in stopping.items()
    }
    further = {
        name: [range(FIRST_REPEATS, count) for count in counts]
        for name, counts in repeats.items()
        if max(counts) > FIRST_REPEATS
    }
    if further:
        in_all = {name: [range(count) for count in counts] for name, counts in repeats.items()}
        second = one_pass(further_plan(attacks, further))
        found = _joined(found, second, make_plan(attacks, in_all).rows)
    return found, {
        name: Repeated(
            tuple(repeats[name]),
            tuple(_half_widths(found, attack, alone[name], needed[name])),
            attack.half_width,
        )
        for name, attack in stopping.items()
    }


def repeats_text(repeated: Mapping[str, Repeated]) -> str:
    """How often each attack was repeated as JSON, for the metadata of its counts."""
    return json.dumps({name: asdict(found) for name, found in repeated.items()}, sort_keys=True)


def interval_of_one(dice: NDArray[np.float64]) -> NDArray[np.float64]:
    """How wide the 95 % interval of the mean Dice of a single repeat is to either side.

    That of ``n`` repeats is narrower by the square root of ``n``.

    Args:
        dice: What each case has to the mean Dice in some repeats, shape ``(repeats, cases)``, or
            with further axes in front, such as points; the mean Dice is its sum over cases.

    Returns:
        Shape of the axes in front.
    """
    repeats = dice.shape[-2]
    variances = dice.var(axis=-2, ddof=1)
    total = variances.sum(axis=-1)
    squares = (variances**2).sum(axis=-1) / (repeats - 1)
    freedom = np.divide(total**2, squares, out=np.full_like(total, repeats - 1), where=squares > 0)
    quantile = stats.t.ppf((1 + _LEVEL) / 2, freedom)
    return np.asarray(quantile * np.sqrt(total), dtype=np.float64)


def _interval_of_one(first: Pass, attack: RepeatedAttack) -> NDArray[np.float64]:
    """The interval of a single repeat at each point, by the spread over the first repeats."""
    points = range(len(attack.points))
    shares = [_shares(first, attack.name, point, FIRST_REPEATS) for point in points]
    return interval_of_one(np.stack(shares))


def _half_widths(
    found: Pass,
    attack: RepeatedAttack,
    alone: NDArray[np.float64],
    needed: NDArray[np.float64],
) -> list[float]:
    """The interval of the mean at each point.

    It is the planned one, by the spread over the first repeats. Where more would have been needed
    than there may be, their number was not planned: there it is that of all repeats.
    """
    widths = []
    for point, (planned, count) in enumerate(zip(alone.tolist(), needed.tolist(), strict=True)):
        if count > attack.repeats:
            every = _shares(found, attack.name, point, attack.repeats)
            widths.append(float(interval_of_one(every)) / math.sqrt(attack.repeats))
        else:
            widths.append(planned / math.sqrt(max(count, FIRST_REPEATS)))
    return widths


def _shares(found: Pass, attack: str, point: int, repeats: int) -> NDArray[np.float64]:
    """What each case has to the mean Dice of the first so many repeats: repeats by cases.

    The mean is over the cases that have a Dice in each of them, then over classes.
    """
    place = {
        row.repeat: at
        for at, row in enumerate(found.rows)
        if (row.attack, row.point_index) == (attack, point)
    }
    rows = [place[repeat] for repeat in range(repeats)]
    cases = sorted({case for part in found.counts for case in part.cases})
    classes = max(part.sums.shape[2] for part in found.counts)
    sums = np.zeros((repeats, len(cases), classes, len(FIELDS)), np.int64)
    for part in found.counts:
        if part.cases:
            sums[:, [cases.index(case) for case in part.cases]] += part.sums[rows]
    tp, fp, fn = (sums[..., FIELDS.index(name)] for name in ("tp", "fp", "fn"))
    whole = 2 * tp + fp + fn
    known = (whole > 0).all(axis=0, keepdims=True)
    dice = np.where(known, 2 * tp / np.maximum(whole, 1), 0.0)
    per_class = dice / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.asarray(per_class.mean(axis=2))


def _first(attack: RepeatedAttack) -> list[range]:
    return [range(FIRST_REPEATS)] * len(attack.points)


def _stopping(attacks: Sequence[Attack]) -> dict[str, RepeatedAttack]:
    return {
        attack.name: attack
        for attack in attacks
        if isinstance(attack, RepeatedAttack) and attack.half_width
    }


def _joined(first: Pass, second: Pass, rows: tuple[Row, ...]) -> Pass:
    """Both passes' sums in the order of the rows."""
    met = {row: place for place, row in enumerate((*first.rows, *second.rows))}
    order = [met[row] for row in rows]
    counts = []
    for one, other in zip(first.counts, second.counts, strict=True):
        places = [other.cases.index(case) for case in one.cases]
        sums = np.concatenate([one.sums, other.sums[:, places]])
        counts.append(PartialCounts(one.cases, sums[order]))
    bins = [
        np.concatenate([one, other])[order]
        for one, other in zip(first.bins, second.bins, strict=True)
    ]
    return Pass(rows, tuple(counts), tuple(bins))
