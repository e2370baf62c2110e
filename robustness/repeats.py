"""How many repeats a random attack needs, so that its mean Dice is known as well as asked for.

Two stages: the spread between the first pairs of repeats says how many each point of the attack
takes in all. An interval that is planned like this has the width and the confidence asked for,
which stopping as soon as one looks narrow has not. Random numbers of different slices are
independent, so that the variance of the mean Dice is the sum of what each slice has to it: many
degrees of freedom from few pairs. Where a single slice has nearly all of it, so that chance decides
how large that looks, the confidence is some percent less.

References:
    Stein, A two-sample test for a linear hypothesis whose power is independent of the variance,
    Annals of Mathematical Statistics 16, 1945. Satterthwaite, An approximate distribution of
    estimates of variance components, Biometrics Bulletin 2, 1946.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustness.attack import Attack
from robustness.counter import Measured
from robustness.counts import FIELDS, PartialCounts, Row, added_up
from robustness.pair_counts import PartialPairCounts
from robustness.plan import Plan, further_plan, make_plan
from robustness.repeated_attack import FIRST_PAIRS, FIRST_REPEATS, PAIR, RepeatedAttack

Floats = NDArray[np.float64]

_LEVEL = 0.95


@dataclass(frozen=True)
class Pass:
    """What all processes together have measured in one pass over the slices.

    Attributes:
        rows: The disturbances, in the order of the sums.
        counts: Of each process.
        bins: Of each process, from ``CalibrationTable.partial``.
        pairs: What the first pairs of repeats count, of each process.
    """

    rows: tuple[Row, ...]
    counts: tuple[PartialCounts, ...]
    bins: tuple[np.ndarray, ...]
    pairs: tuple[PartialPairCounts, ...]

    @classmethod
    def of(
        cls,
        plan: Plan,
        found: Measured,
        gather: Callable[[Any], Sequence[Any]] = lambda part: [part],
    ) -> "Pass":
        """What was measured by a plan.

        Args:
            plan: What was done to every slice.
            found: What this process has measured.
            gather: Gives the parts of all processes for that of this one; there is one by default.
        """
        return cls(
            plan.rows,
            tuple(gather(found.counts.partial())),
            tuple(gather(found.calibration.partial())),
            tuple(gather(found.pairs.partial())),
        )


@dataclass(frozen=True)
class Repeated:
    """How often a random attack was repeated.

    Attributes:
        repeats: How often at each point.
        half_widths: How wide the 95 % interval of the mean Dice over repeats is to either side, at
            each point, by the spread of the first pairs of repeats.
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
        ValueError: As in :func:`robustness.plan.make_plan`.
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
    of_a_pair = {name: _interval_of_a_pair(found, attack) for name, attack in stopping.items()}
    repeats = {name: _enough(of_a_pair[name], attack) for name, attack in stopping.items()}
    further = {
        name: [range(FIRST_REPEATS, count) for count in counts.tolist()]
        for name, counts in repeats.items()
        if counts.max() > FIRST_REPEATS
    }
    if further:
        in_all = {name: list(map(range, counts.tolist())) for name, counts in repeats.items()}
        second = one_pass(further_plan(attacks, further))
        found = _joined(found, second, make_plan(attacks, in_all).rows)
    return found, {
        name: Repeated(
            tuple(repeats[name].tolist()),
            tuple((of_a_pair[name] / np.sqrt(repeats[name] / PAIR)).tolist()),
            attack.half_width,
        )
        for name, attack in stopping.items()
    }


def repeats_text(repeated: Mapping[str, Repeated]) -> str:
    """How often each attack was repeated as JSON, for the metadata of its counts."""
    return json.dumps({name: asdict(found) for name, found in repeated.items()}, sort_keys=True)


def interval_of_a_pair(shares: Floats) -> Floats:
    """How wide the 95 % interval of the mean Dice of one pair of repeats is to either side.

    That of ``n`` pairs is narrower by the square root of ``n``.

    Args:
        shares: What each slice has to the mean Dice of some pairs, shape ``(..., pairs, slices)``;
            the mean Dice is the sum over slices, up to a constant.

    Returns:
        Shape ``(...)``.
    """
    freedom_of_a_slice = shares.shape[-2] - 1
    # In order, so that rounding is the same however slices are spread over processes.
    variances = np.sort(shares.var(axis=-2, ddof=1), axis=-1)
    total = variances.sum(axis=-1)
    squares = (variances**2).sum(axis=-1) / freedom_of_a_slice
    freedom = np.divide(
        total**2, squares, out=np.full_like(total, freedom_of_a_slice), where=squares > 0
    )
    quantile = stats.t.ppf((1 + _LEVEL) / 2, freedom)
    return np.asarray(quantile * np.sqrt(total), dtype=np.float64)


def _enough(of_a_pair: Floats, attack: RepeatedAttack) -> NDArray[np.int64]:
    """How many repeats each point takes, so that its interval is as narrow as asked for."""
    # Cut before it is squared: what is asked for may be as small as a number can be.
    ratio = np.minimum(of_a_pair / attack.half_width, attack.repeats)
    repeats = (PAIR * np.ceil(ratio**2)).clip(FIRST_REPEATS, attack.repeats)
    return np.asarray(repeats, dtype=np.int64)


def _interval_of_a_pair(first: Pass, attack: RepeatedAttack) -> Floats:
    """The interval of one pair at each point, by what the first ones count on each slice."""
    wanted = [(attack.name, point) for point in range(len(attack.points))]
    cases, rising, falling = _slopes(first, wanted)
    slots = {case: slot for slot, case in enumerate(cases)}
    shares = [np.zeros((len(wanted), FIRST_PAIRS, 0))]
    for part in first.pairs:
        if part.cases:
            places = [part.points.index(point) for point in wanted]
            of_slice = [slots[case] for case in part.cases]
            # Of an average repeat of a pair: points, pairs, slices, classes.
            true, predicted = np.moveaxis(part.sums[places] / PAIR, -1, 0)
            both = rising[:, None, of_slice] * true - falling[:, None, of_slice] * predicted
            shares.append(both.sum(axis=-1))
    return interval_of_a_pair(np.concatenate(shares, axis=-1))


def _slopes(first: Pass, wanted: Sequence[tuple[str, int]]) -> tuple[list[str], Floats, Floats]:
    """How the mean Dice rises with true positives and falls with predicted pixels.

    Dice is ``2 tp / (predicted + truth)``: these are its derivatives at the mean counts of the
    first repeats. The mean is that of :func:`robustness.curves.mean_curves`: over the cases that
    have a Dice in any repeat, then over the classes that any case has.

    Returns:
        The cases, and both slopes, shape ``(points, cases, K)``.
    """
    classes = max(part.sums.shape[2] for part in first.counts)
    cases, sums = added_up(first.counts, len(first.rows), classes)
    of_row = [(row.attack, row.point_index) for row in first.rows]
    of_point = np.stack([sums[[row == point for row in of_row]].mean(axis=0) for point in wanted])
    tp, fp, fn = (of_point[..., FIELDS.index(name)] for name in ("tp", "fp", "fn"))
    whole = 2 * tp + fp + fn
    known = whole > 0
    cases_known = known.sum(axis=1, keepdims=True)
    classes_known = (cases_known > 0).sum(axis=2, keepdims=True)
    share = known / np.maximum(cases_known * classes_known, 1) / np.where(known, whole, 1.0)
    return cases, 2 * share, share * np.divide(2 * tp, whole, out=np.zeros_like(tp), where=known)


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
    return Pass(rows, tuple(counts), tuple(bins), first.pairs)
