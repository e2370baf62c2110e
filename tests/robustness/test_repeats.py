"""Random attacks are repeated as often as their intervals need, and no count depends on how."""

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from robustness.attack import Attack, attacks_fingerprint
from robustness.calibration import calibration_frame
from robustness.corruptions import CorruptionAttack
from robustness.counts import counts_frame
from robustness.curves import mean_curves
from robustness.engine import evaluate
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.plan import Plan, make_plan
from robustness.repeated_attack import FIRST_REPEATS
from robustness.repeats import (
    Pass,
    enough_repeats,
    interval_of_a_pair,
    repeats_text,
)
from tests.robustness.reference import Slice
from tests.robustness.toy import CPU, ConvNet, batches_of, class_names, make_slices

SLICES = make_slices(12, cases=4, classes=2)
NETWORK = ConvNet(classes=2, seed=3).eval()
CLASSES = class_names(2)
ASKED = 0.002


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

    def __init__(self, count: int = 1, seed: int = 0) -> None:
        self.count = count
        self.seed = seed
        self.plans: list[Plan] = []

    def __call__(self, plan: Plan) -> Pass:
        self.plans.append(plan)
        shares: list[Sequence[Slice]] = [SLICES[rank :: self.count] for rank in range(self.count)]
        found = [
            evaluate(NETWORK, batches_of(share, 5), plan, device=CPU, seed=self.seed, batch_size=8)
            for share in shares
        ]
        return Pass(
            plan.rows,
            tuple(one.counts.partial() for one in found),
            tuple(one.calibration.partial() for one in found),
            tuple(one.contrasts.partial() for one in found),
        )


@pytest.mark.parametrize("processes", [1, 3])
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
        found.append(float(np.mean(of_class)))
    return float(np.mean(found))


def interval_by_hand(counts: NDArray[np.float64]) -> float:
    """Of a point: slopes by steps to both sides; shape (2, repeats, slices, classes)."""
    middle = counts.mean(axis=1)
    variances = []
    for index in range(len(SLICES)):
        apart = counts[:, :2, index].mean(axis=1) - counts[:, 2:, index].mean(axis=1)
        step = np.zeros_like(middle)
        step[:, index] = 1e-4 * apart
        slope = (mean_dice(middle + step) - mean_dice(middle - step)) / 2e-4
        variances.append(slope**2 / 2)
    freedom = sum(variances) ** 2 / sum(one**2 for one in variances)
    freedom *= 3.16 - 2.77 / np.sqrt(freedom)
    return float(stats.t.ppf(0.975, max(freedom, 1.0)) * np.sqrt(sum(variances)))


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


def test_easy_questions_take_one_pass_and_hard_ones_the_most_repeats() -> None:
    easy = Processes()
    _, repeated = enough_repeats(attacks(0.9), easy)
    assert len(easy.plans) == 1
    assert {one.repeats for one in repeated.values()} == {(4,) * 3, (4,), (4, 4)}
    assert all(one.reached for one in repeated.values())
    _, repeated = enough_repeats(attacks(1e-6, most=6), Processes())
    assert repeated["drawn"].repeats == (6, 6, 6)
    assert not repeated["drawn"].reached


def test_no_stopping_attack_means_one_pass_of_all() -> None:
    passes = Processes()
    found, repeated = enough_repeats([CountAttack("all", (4,), repeats=5)], passes)
    assert not repeated
    assert len(passes.plans) == 1
    assert [row.repeat for row in found.rows] == [0, 0, 1, 2, 3, 4]


Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]
# No interval that goes by variances holds the means of few very skewed numbers at its level.
KINDS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda draw, shape: draw.normal(size=shape), 0.935),
    "skewed": (lambda draw, shape: draw.exponential(size=shape) - 1, 0.90),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slices", [1, 3, 12, 40, 300])
def test_planned_intervals_hold_the_truth_as_often_as_they_say(slices: int, kind: str) -> None:
    """Simulated: slices of very different spread, means of 0."""
    draw, least = KINDS[kind]
    source = np.random.default_rng(0)
    spread = source.gamma(1.0, 0.02, slices)
    asked = 0.35 * float(np.sqrt((spread**2).sum()))
    hits, widths = [], []
    for _ in range(4000):
        first = spread * draw(source, (2, slices))
        alone = float(interval_of_a_pair(first[0] - first[1]))
        pairs = max(2, int(np.ceil((alone / asked) ** 2)))
        rest = spread * draw(source, (pairs - 2, slices))
        mean = np.concatenate([first, rest]).sum(axis=1).mean()
        widths.append(alone / np.sqrt(pairs))
        hits.append(abs(mean) <= widths[-1])
    assert max(widths) <= asked
    # Two standard errors of a share of 4,000 are 0.007.
    assert least - 0.007 <= np.mean(hits) <= 0.98


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
    assert interval_of_a_pair(np.zeros((2, 3))).tolist() == [0.0, 0.0]


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
