"""The first pairs of repeats are counted slice by slice, whatever else is made beside them."""

import numpy as np
import pytest

from robustness.attack import Attack
from robustness.corruptions import CorruptionAttack
from robustness.counts import counts_frame
from robustness.engine import evaluate
from robustness.minimum_norm import MinimumNormAttack
from robustness.pair_counts import PartialPairCounts
from robustness.pixel_attacks import CountAttack
from robustness.plan import further_plan, make_plan
from robustness.repeated_attack import FIRST_PAIRS, FIRST_REPEATS
from robustness.repeats import first_plan
from tests.robustness.toy import CPU, ConvNet, batches_of, class_names, make_slices

SLICES = make_slices(11, cases=3, classes=2)
NETWORK = ConvNet(classes=2, seed=3).eval()
DRAWN = CountAttack("drawn", (1, 64), repeats=20, half_width=0.01)
NOISE = CorruptionAttack("noise", "gaussian_noise", (5,), repeats=8, half_width=0.01)
ALL = CountAttack("all", (4,), repeats=7)
SHORTEST = MinimumNormAttack("shortest", (0.5,), high=1.0, steps=2)


def counted(*attacks: Attack, batch_size: int = 4) -> PartialPairCounts:
    plan = first_plan(attacks)
    found = evaluate(NETWORK, batches_of(SLICES, 5), plan, device=CPU, batch_size=batch_size)
    return found.pairs.partial()


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_sums_are_those_of_slices_evaluated_alone(batch_size: int) -> None:
    found = counted(DRAWN, ALL, NOISE, batch_size=batch_size)
    assert found.points == (("drawn", 0), ("drawn", 1), ("noise", 0))
    plan = make_plan([DRAWN, NOISE])
    expected, cases = [], []
    for one in SLICES:
        alone = evaluate(NETWORK, batches_of([one], 1), plan, device=CPU, batch_size=1)
        frame = counts_frame([alone.counts.partial()], plan.rows, class_names(2))
        first = frame[(frame["attack"] != "clean") & (frame["repeat"] < FIRST_REPEATS)]
        both = np.stack([first["tp"], first["tp"] + first["fp"]], axis=-1)
        of_pairs = both.reshape(3, FIRST_PAIRS, 2, 2, 2).sum(axis=2)
        if of_pairs.any():
            expected.append(of_pairs)
            cases.append(one.case)
    assert found.cases == tuple(cases)
    assert np.array_equal(found.sums, np.stack(expected, axis=2))


def test_slices_that_an_attack_holds_back_are_counted_once() -> None:
    alone, beside = counted(DRAWN), counted(SHORTEST, DRAWN)
    assert beside.cases == alone.cases
    assert np.array_equal(beside.sums, alone.sums)


def test_nothing_is_kept_where_no_attack_stops_by_itself() -> None:
    assert counted(ALL, SHORTEST).points == ()
    plan = further_plan([DRAWN], {"drawn": [range(FIRST_REPEATS, 8)] * 2})
    found = evaluate(NETWORK, batches_of(SLICES, 5), plan, device=CPU, batch_size=4).pairs.partial()
    assert (found.points, found.cases, found.sums.size) == ((), (), 0)


def test_a_process_without_slices_has_points_and_no_sums() -> None:
    found = evaluate(NETWORK, [], first_plan([DRAWN]), device=CPU, batch_size=4).pairs.partial()
    assert found.points == (("drawn", 0), ("drawn", 1))
    assert found.cases == ()
    assert found.sums.shape[:3] == (2, FIRST_PAIRS, 0)
