"""How many repeats a random attack needs, so that its mean Dice is known as well as asked for.

Two stages: the spread between the first pairs of repeats says how many each point of the attack
takes in all. An interval that is planned like this has the width and the confidence asked for,
which stopping as soon as one looks narrow has not. Random numbers of different slices are
independent, so that the variance of the mean Dice is the sum of what each slice has to it: many
degrees of freedom from two pairs.

References:
    Stein, A two-sample test for a linear hypothesis whose power is independent of the variance,
    Annals of Mathematical Statistics 16, 1945. Satterthwaite, An approximate distribution of
    estimates of variance components, Biometrics Bulletin 2, 1946. Johnson, Rust, Population
    inferences and variance estimation for NAEP data, Journal of Educational Statistics 17, 1992.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustness.attack import Attack
from robustness.contrasts import PartialContrasts
from robustness.counts import FIELDS, PartialCounts, Row
from robustness.plan import Plan, further_plan, make_plan
from robustness.repeated_attack import FIRST_REPEATS, PAIR, RepeatedAttack

Floats = NDArray[np.float64]

_LEVEL = 0.95


@dataclass(frozen=True)
class Pass:
    """What all processes together have measured in one pass over the slices.

    Attributes:
        rows: The disturbances, in the order of the sums.
        counts: Of each process.
        bins: Of each process, from ``CalibrationTable.partial``.
        contrasts: Of each process.
    """

    rows: tuple[Row, ...]
    counts: tuple[PartialCounts, ...]
    bins: tuple[np.ndarray, ...]
    contrasts: tuple[PartialContrasts, ...]


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


def interval_of_a_pair(differences: Floats) -> Floats:
    """How wide the 95 % interval of the mean Dice of one pair of repeats is to either side.

    That of ``n`` pairs is narrower by the square root of ``n``.

    Args:
        differences: Between the means of two pairs, of what each slice has to the mean Dice, which
            is the sum over slices: shape ``(..., slices)``.

    Returns:
        Shape ``(...)``.
    """
    # In order, so that rounding is the same however slices are spread over processes.
    variances = np.sort(differences**2 / 2, axis=-1)
    total = variances.sum(axis=-1)
    squares = (variances**2).sum(axis=-1)
    freedom = np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0)
    # For many variances of one degree of freedom each Satterthwaite's number is a third of what it
    # should be: the square of such a one is three times too large on average. Johnson and Rust's
    # factor mends that; with his number in place of that of the slices it is careful with few.
    freedom = np.maximum(freedom * (3.16 - 2.77 / np.sqrt(freedom)), 1.0)
    quantile = stats.t.ppf((1 + _LEVEL) / 2, freedom)
    return np.asarray(quantile * np.sqrt(total), dtype=np.float64)


def _enough(of_a_pair: Floats, attack: RepeatedAttack) -> NDArray[np.int64]:
    """How many repeats each point takes, so that its interval is as narrow as asked for."""
    pairs = np.ceil((of_a_pair / attack.half_width) ** 2)
    return (PAIR * pairs).clip(FIRST_REPEATS, attack.repeats).astype(np.int64)


def _interval_of_a_pair(first: Pass, attack: RepeatedAttack) -> Floats:
    """The interval of one pair at each point, by what the first two differ in on each slice."""
    wanted = [(attack.name, point) for point in range(len(attack.points))]
    weights = [_weights(first, *point) for point in wanted]
    parts = []
    for part in first.contrasts:
        if not part.cases:
            continue
        places = [part.points.index(point) for point in wanted]
        # Sums over a pair: points, slices, classes.
        true, predicted = np.moveaxis(part.differences[places] / PAIR, -1, 0)
        rising = np.stack([[each[case][0] for case in part.cases] for each in weights])
        falling = np.stack([[each[case][1] for case in part.cases] for each in weights])
        parts.append((rising * true - falling * predicted).sum(axis=-1))
    return interval_of_a_pair(np.concatenate(parts, axis=-1))


def _weights(first: Pass, attack: str, point: int) -> dict[str, tuple[Floats, Floats]]:
    """How the mean Dice changes with true positives and with predicted pixels, by case and class.

    Dice is ``2 tp / (predicted + truth)``; these are its derivatives, the second one with its sign
    turned, at the mean counts of the first repeats. The mean is over the cases that have a Dice in
    each of them, then over classes.
    """
    rows = [
        place
        for place, row in enumerate(first.rows)
        if (row.attack, row.point_index) == (attack, point)
    ]
    cases = sorted({case for part in first.counts for case in part.cases})
    classes = max(part.sums.shape[2] for part in first.counts)
    sums = np.zeros((len(rows), len(cases), classes, len(FIELDS)), np.int64)
    for part in first.counts:
        if part.cases:
            sums[:, [cases.index(case) for case in part.cases]] += part.sums[rows]
    tp, fp, fn = (sums[..., FIELDS.index(name)] for name in ("tp", "fp", "fn"))
    whole = 2 * tp + fp + fn
    known = (whole > 0).all(axis=0)
    share = known / (np.maximum(known.sum(axis=0), 1) * classes)
    whole_mean = np.where(known, whole.mean(axis=0), 1.0)
    dice = 2 * tp.mean(axis=0) / whole_mean
    rising, falling = share * 2 / whole_mean, share * dice / whole_mean
    return {case: (rising[slot], falling[slot]) for slot, case in enumerate(cases)}


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
    return Pass(rows, tuple(counts), tuple(bins), first.contrasts)
