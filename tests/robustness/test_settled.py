"""Slices whose outcome is known before an attack begins: they leave, and nothing else changes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from robustness.attack import AttackBatch
from robustness.counter import Attacker, Measured
from robustness.counts import counts_frame
from robustness.directed import Fgsm
from robustness.distances import distances_frame
from robustness.engine import evaluate, evaluate_many
from robustness.minimum_norm import MinimumNormAttack
from robustness.norms import NORMS, Norm
from robustness.plan import Plan, make_plan
from robustness.saliency import Forward
from tests.robustness.reference import Slice
from tests.robustness.shortest import broken_network, predicted_as_truth, scans
from tests.robustness.toy import CPU, CallCounter, ConvNet, batches_of

SIZE = 4


@dataclass(frozen=True)
class OnAll(MinimumNormAttack):
    """The same attack, made on every slice."""

    def settled(self, batch: AttackBatch) -> None:  # type: ignore[override]
        return None


def mixed(network: ConvNet, count: int = 11) -> list[Slice]:
    """Slices in turn right, without truth, and with a truth that the network misses."""
    right = predicted_as_truth(scans(count), network)
    return [
        (
            one,
            replace(one, mask=np.zeros_like(one.mask)),
            replace(one, mask=~one.mask),
        )[number % 3]
        for number, one in enumerate(right)
    ]


def frames(found: Measured, plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    counts = counts_frame([found.counts.partial()], plan.rows, ["a"])
    return counts, distances_frame([found.distances.partial()])


def attacked(
    network: Forward, slices: Sequence[Slice], plan: Plan, loader: int = 3
) -> tuple[pd.DataFrame, pd.DataFrame]:
    batches = batches_of(slices, loader)
    return frames(evaluate(network, batches, plan, device=CPU, batch_size=SIZE), plan)


@pytest.mark.parametrize("norm", NORMS)
def test_what_leaves_early_is_counted_as_if_it_had_been_attacked(norm: Norm) -> None:
    network = broken_network()
    slices = mixed(network)
    found, whole = (
        attacked(network, slices, make_plan([kind("a", (0.3, 0.6), norm, 8, 3)]))
        for kind in (MinimumNormAttack, OnAll)
    )
    pd.testing.assert_frame_equal(found[0], whole[0])
    pd.testing.assert_frame_equal(found[1], whole[1], rtol=1e-6)
    distance = found[1]["distance"]
    assert distance.isna().any()
    assert (distance == 0).any()
    assert np.isfinite(distance[distance > 0]).any()


def test_only_open_slices_take_the_attack_s_passes() -> None:
    network = broken_network()
    slices = mixed(network)
    attack = MinimumNormAttack("a", (0.3, 0.6), steps=5, tighten=2)
    plan = make_plan([attack, Fgsm("fgsm", (0.1,))])
    counter = CallCounter(network)
    attacked(counter, slices, plan)
    pieces, still_open = 3, 1
    # The engine: clean slices, the other attack's image and gradient; the attack: a look at all.
    shared = pieces * (1 + 1 + 1 + 1)
    taken = still_open * (attack.passes.forward - 1 + len(attack.thresholds))
    assert counter.forwards == shared + taken
    assert counter.backwards == pieces + still_open * attack.passes.backward
    assert counter.sizes == {SIZE}


def test_where_no_slice_leaves_the_plan_states_the_cost() -> None:
    bare = broken_network()
    network, slices = CallCounter(bare), predicted_as_truth(scans(8), bare)
    attacks = [MinimumNormAttack(norm, (0.5,), norm, steps=4, tighten=1) for norm in NORMS]
    plan = make_plan([*attacks, Fgsm("fgsm", (0.1,), objective="soft_dice")])
    attacked(network, slices, plan)
    assert (network.forwards, network.backwards) == tuple(2 * passes for passes in plan.cost)


@pytest.mark.parametrize("loader", [1, 4, 11])
def test_how_slices_are_dealt_out_changes_nothing(loader: int) -> None:
    network = broken_network()
    slices = mixed(network)
    plan = make_plan([MinimumNormAttack("a", (0.5,), steps=6, tighten=2)])
    expected = attacked(network, slices, plan)
    order = np.random.default_rng(loader).permutation(len(slices))
    found = attacked(network, [slices[place] for place in order], plan, loader)
    pd.testing.assert_frame_equal(found[0], expected[0])
    pd.testing.assert_frame_equal(found[1], expected[1])


def test_another_network_sees_the_slices_that_have_left_as_they_are() -> None:
    own, other = broken_network(), broken_network(seed=1)
    slices = [replace(one, mask=~one.mask) for one in predicted_as_truth(scans(5), own)]
    plan = make_plan([MinimumNormAttack("a", (0.5,), steps=4)])
    mine, theirs = evaluate_many(
        [own, other],
        batches_of(slices, 3),
        plan,
        Attacker(own),
        device=CPU,
        batch_size=SIZE,
    )
    counts, distances = frames(theirs, plan)
    numbers = ["case", "class", "tp", "fp", "fn", "change_q20"]
    clean, after = (
        counts.loc[counts["attack"] == name, numbers].reset_index(drop=True)
        for name in ("clean", "a")
    )
    pd.testing.assert_frame_equal(after, clean)
    assert distances.empty
    assert (frames(mine, plan)[1]["distance"] == 0).all()
