"""Random attacks are repeated as often as their intervals need, and no count depends on how."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torch.nn import functional

from robustness.attack import Attack, attacks_fingerprint
from robustness.calibration import calibration_frame
from robustness.corruptions import CorruptionAttack
from robustness.counts import counts_frame
from robustness.curves import mean_curves
from robustness.engine import evaluate
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.plan import Plan, make_plan
from robustness.repeated_attack import FIRST_PAIRS, FIRST_REPEATS
from robustness.repeats import (
    Pass,
    enough_repeats,
    interval_of_a_pair,
    repeats_text,
)
from robustness.saliency import Forward
from tests.robustness.reference import Slice
from tests.robustness.toy import CPU, ConvNet, batches_of, class_names, make_slices

SLICES = make_slices(12, cases=4, classes=2)
NETWORK = ConvNet(classes=2, seed=3).eval()
CLASSES = class_names(2)
ASKED = 0.0012


def attacks(asked: float, most: int = 40) -> list[Attack]:
    return [
        LevelAttack("fixed", (0.0, 1.0), pixels=3),
        CountAttack("drawn", (1, 8, 64), repeats=most, half_width=asked),
        LevelAttack("control", (1.0,), pixels=9, ranking="random", repeats=most, half_width=asked),
        CorruptionAttack("noise", "gaussian_noise", (1, 5), repeats=most, half_width=asked),
        CountAttack("all", (4,), repeats=5),
    ]


class Processes:
    """Goes through the slices as several processes do, each with its share; keeps the plans."""

    def __init__(
        self,
        count: int = 1,
        *,
        seed: int = 0,
        slices: Sequence[Slice] = SLICES,
        network: Forward = NETWORK,
    ) -> None:
        self.count = count
        self.seed = seed
        self.slices = slices
        self.network = network
        self.plans: list[Plan] = []

    def __call__(self, plan: Plan) -> Pass:
        self.plans.append(plan)
        shares: list[Sequence[Slice]] = [
            self.slices[rank :: self.count] for rank in range(self.count)
        ]
        found = [
            evaluate(
                self.network, batches_of(share, 5), plan, device=CPU, seed=self.seed, batch_size=8
            )
            for share in shares
        ]
        return Pass(
            plan.rows,
            tuple(one.counts.partial() for one in found),
            tuple(one.calibration.partial() for one in found),
            tuple(one.pairs.partial() for one in found),
        )


@pytest.mark.parametrize("processes", [1, 3, len(SLICES) + 1])
def test_two_passes_count_what_one_with_all_repeats_counts(processes: int) -> None:
    passes = Processes(processes)
    found, repeated = enough_repeats(attacks(ASKED), passes)
    assert len(passes.plans) == 2
    assert set(repeated) == {"drawn", "control", "noise"}
    assert len({count for one in repeated.values() for count in one.repeats}) > 2
    in_all = {name: [range(count) for count in one.repeats] for name, one in repeated.items()}
    alone = Processes()(make_plan(attacks(ASKED), in_all))
    assert found.rows == alone.rows
    expected = counts_frame(alone.counts, alone.rows, CLASSES)
    assert counts_frame(found.counts, found.rows, CLASSES).equals(expected)
    bins = calibration_frame(alone.bins, alone.rows, CLASSES)
    assert calibration_frame(found.bins, found.rows, CLASSES).equals(bins)


def test_repeats_are_those_of_an_attack_that_makes_all_of_them() -> None:
    found, repeated = enough_repeats(attacks(2 * ASKED), Processes())
    every = [CountAttack("drawn", (1, 8, 64), repeats=40, half_width=2 * ASKED)]
    plain = Processes()(make_plan(every))
    frame = counts_frame(plain.counts, plain.rows, CLASSES)
    made = [range(count) for count in repeated["drawn"].repeats]
    pairs = zip(frame["point_index"], frame["repeat"], strict=True)
    kept = frame[[repeat in made[point] for point, repeat in pairs]]
    own = counts_frame(found.counts, found.rows, CLASSES)
    own = own[own["attack"] == "drawn"].reset_index(drop=True)
    assert own.equals(kept[kept["attack"] == "drawn"].reset_index(drop=True))


def slice_by_slice(attack: Attack) -> NDArray[np.float64]:
    """True positives and predicted pixels in the first repeats, each slice evaluated alone.

    Shape (2, points, repeats, slices, classes).
    """
    counted = []
    for one in SLICES:
        plan = make_plan([attack])
        found = evaluate(NETWORK, batches_of([one], 1), plan, device=CPU, batch_size=1)
        frame = counts_frame([found.counts.partial()], plan.rows, CLASSES)
        frame = frame[(frame["attack"] == attack.name) & (frame["repeat"] < FIRST_REPEATS)]
        both = np.stack([frame["tp"], frame["tp"] + frame["fp"]])
        counted.append(both.reshape(2, len(attack.points), FIRST_REPEATS, len(CLASSES)))
    return np.stack(counted, axis=3).astype(float)


def mean_dice(counts: NDArray[np.float64]) -> float:
    """The mean Dice of counts of shape (2, slices, classes) over cases and classes."""
    found = []
    for number in range(len(CLASSES)):
        of_class = []
        for case in sorted({one.case for one in SLICES}):
            here = [index for index, one in enumerate(SLICES) if one.case == case]
            truth = sum(int(SLICES[index].mask[number].sum()) for index in here)
            tp, predicted = counts[:, here, number].sum(axis=1)
            if truth + predicted:
                of_class.append(2 * tp / (truth + predicted))
        if of_class:
            found.append(float(np.mean(of_class)))
    return float(np.mean(found))


def interval_by_hand(counts: NDArray[np.float64]) -> float:
    """Of a point: slopes by steps to both sides; shape (2, repeats, slices, classes)."""
    middle = counts.mean(axis=1)
    variances = []
    for index in range(len(SLICES)):
        of_pairs = []
        for first in range(0, FIRST_REPEATS, 2):
            step = np.zeros_like(middle)
            of_pair = counts[:, first : first + 2, index].mean(axis=1)
            step[:, index] = 1e-4 * (of_pair - middle[:, index])
            of_pairs.append((mean_dice(middle + step) - mean_dice(middle - step)) / 2e-4)
        variances.append(float(np.var(of_pairs, ddof=1)))
    freedom = sum(variances) ** 2 / sum(one**2 / 2 for one in variances)
    return float(stats.t.ppf(0.975, freedom) * np.sqrt(sum(variances)))


def test_the_number_of_repeats_is_that_of_the_formula_by_hand() -> None:
    for processes in (1, 3):
        _, repeated = enough_repeats(attacks(ASKED), Processes(processes))
        for attack in attacks(ASKED):
            if attack.name not in repeated:
                continue
            one, counted = repeated[attack.name], slice_by_slice(attack)
            for point, (count, width) in enumerate(zip(one.repeats, one.half_widths, strict=True)):
                alone = interval_by_hand(counted[:, point])
                wanted = 2 * int(np.ceil((alone / ASKED) ** 2))
                assert count == min(max(FIRST_REPEATS, wanted), 40)
                assert width == pytest.approx(alone / np.sqrt(count / 2), rel=1e-5)
            assert one.reached == (max(one.half_widths) <= ASKED)


def test_classes_that_no_case_has_change_nothing() -> None:
    """The mean Dice is over the classes that are there, and so is its interval."""
    absent = np.zeros((2, *SLICES[0].mask.shape[1:]), dtype=bool)
    more = [replace(one, mask=np.concatenate([one.mask, absent])) for one in SLICES]

    def network(image: Tensor) -> Tensor:
        return functional.pad(NETWORK(image), (0, 0, 0, 0, 0, 2), value=-9.0)

    _, expected = enough_repeats(attacks(ASKED), Processes())
    _, found = enough_repeats(attacks(ASKED), Processes(slices=more, network=network))
    for name, one in expected.items():
        assert found[name].repeats == one.repeats
        assert found[name].half_widths == pytest.approx(one.half_widths, rel=1e-9)


def test_a_case_without_truth_counts_as_one_with_a_dice_of_0_where_it_is_predicted() -> None:
    """So it does in the mean: the interval of the others gets narrower by the number of cases."""
    (drawn,) = [one for one in attacks(ASKED) if one.name == "drawn"]
    (name,) = {one.case for one in SLICES[:1]}
    emptied = [replace(one, mask=one.mask & (one.case != name), image=one.image) for one in SLICES]
    rest = [one for one in emptied if one.case != name]
    cases = len({one.case for one in SLICES})
    _, all_cases = enough_repeats([drawn], Processes(slices=emptied))
    _, others = enough_repeats([drawn], Processes(slices=rest))
    pairs = zip(all_cases["drawn"].half_widths, others["drawn"].half_widths, strict=True)
    counts = zip(all_cases["drawn"].repeats, others["drawn"].repeats, strict=True)
    for (wide, narrow), (many, few) in zip(pairs, counts, strict=True):
        assert wide * np.sqrt(many) * cases == pytest.approx(narrow * np.sqrt(few) * (cases - 1))


def test_easy_questions_take_one_pass_and_hard_ones_the_most_repeats() -> None:
    easy = Processes()
    _, repeated = enough_repeats(attacks(0.9), easy)
    assert len(easy.plans) == 1
    assert {one.repeats for one in repeated.values()} == {(6,) * 3, (6,), (6, 6)}
    assert all(one.reached for one in repeated.values())
    _, repeated = enough_repeats(attacks(1e-6, most=8), Processes())
    assert repeated["drawn"].repeats == (8, 8, 8)
    assert not repeated["drawn"].reached


def test_no_stopping_attack_means_one_pass_of_all() -> None:
    passes = Processes()
    found, repeated = enough_repeats([CountAttack("all", (4,), repeats=5)], passes)
    assert not repeated
    assert len(passes.plans) == 1
    assert [row.repeat for row in found.rows] == [0, 0, 1, 2, 3, 4]


Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
# Means of pairs, and how much less often their interval may hold the truth: none that goes by
# variances holds the mean of few skewed numbers at its level.
KINDS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda draw, shape: draw.normal(size=shape), 0.0),
    "skewed": (lambda draw, shape: draw.gamma(2.0, size=shape) - 2.0, 0.035),
}
# Spread of each slice, and how often the truth is held.
SPREADS: dict[str, tuple[Callable[[np.random.Generator], NDArray[np.float64]], float]] = {
    "one": (lambda draw: np.ones(1), 0.95),
    "equal": (lambda draw: np.ones(40), 0.95),
    "few": (lambda draw: draw.gamma(1.0, size=5), 0.95),
    "many": (lambda draw: draw.gamma(0.3, size=300), 0.95),
    "dominated": (lambda draw: np.array([20.0, *np.ones(100)]), 0.92),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", SPREADS)
def test_planned_intervals_hold_the_truth_as_often_as_they_say(spread: str, kind: str) -> None:
    """Simulated: slices of very different spread, means of 0."""
    (draw, less), (spreads_of, level) = KINDS[kind], SPREADS[spread]
    hits = []
    for seed in range(4):
        source = np.random.default_rng(seed)
        spreads = spreads_of(source)
        asked = 0.35 * float(np.sqrt((spreads**2).sum()))
        for _ in range(1000):
            first = spreads * draw(source, (FIRST_PAIRS, len(spreads)))
            alone = float(interval_of_a_pair(first))
            pairs = max(FIRST_PAIRS, int(np.ceil((alone / asked) ** 2)))
            rest = spreads * draw(source, (pairs - FIRST_PAIRS, len(spreads)))
            mean = np.concatenate([first, rest]).sum(axis=1).mean()
            width = alone / np.sqrt(pairs)
            assert width <= asked
            hits.append(abs(mean) <= width)
    # Two standard errors of a share of 4,000 are 0.007.
    assert level - less - 0.007 <= np.mean(hits) <= 0.985


def test_intervals_hold_the_mean_of_very_many_repeats() -> None:
    """Studies that differ in their seed alone, against 1,000 repeats."""

    def drawn(most: int) -> list[Attack]:
        return [CountAttack("drawn", (4, 16, 48), repeats=most, half_width=0.006)]

    def curve(found: Pass) -> NDArray[np.float64]:
        curves = mean_curves(counts_frame(found.counts, found.rows, CLASSES))
        return curves.loc[curves["attack"] == "drawn", "dice"].to_numpy()

    truth = curve(Processes(seed=1000)(make_plan(drawn(1000))))
    hits = []
    for seed in range(100):
        found, repeated = enough_repeats(drawn(100), Processes(seed=seed))
        assert repeated["drawn"].reached
        hits.append(np.abs(curve(found) - truth) <= repeated["drawn"].half_widths)
    assert 0.91 <= np.mean(hits) <= 0.99


def test_constant_dice_has_an_interval_of_no_width() -> None:
    assert interval_of_a_pair(np.full((2, 3, 5), 0.25)).tolist() == [0.0, 0.0]


def test_what_was_done_is_kept_as_text() -> None:
    _, repeated = enough_repeats(attacks(ASKED), Processes())
    kept = json.loads(repeats_text(repeated))
    assert kept["drawn"]["repeats"] == list(repeated["drawn"].repeats)
    assert kept["drawn"]["asked"] == ASKED


def test_an_interval_that_is_not_asked_for_leaves_fingerprints_alone() -> None:
    plain = CountAttack("a", (1,), repeats=8)
    assert "half_width" not in plain.settings()
    asked = CountAttack("a", (1,), repeats=8, half_width=0.01)
    assert asked.settings()["half_width"] == 0.01
    assert attacks_fingerprint([plain], 0) != attacks_fingerprint([asked], 0)
