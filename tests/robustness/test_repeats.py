"""Random attacks are repeated as often as their intervals need, and no count depends on how."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from robustness.attack import Attack, attacks_fingerprint
from robustness.calibration import calibration_frame
from robustness.corruptions import CorruptionAttack
from robustness.counts import counts_frame
from robustness.curves import case_dice
from robustness.engine import evaluate
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.plan import Plan, make_plan
from robustness.repeated_attack import FIRST_REPEATS
from robustness.repeats import (
    Pass,
    enough_repeats,
    interval_of_one,
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

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self.plans: list[Plan] = []

    def __call__(self, plan: Plan) -> Pass:
        self.plans.append(plan)
        shares: list[Sequence[Slice]] = [SLICES[rank :: self.count] for rank in range(self.count)]
        found = [
            evaluate(NETWORK, batches_of(share, 5), plan, device=CPU, batch_size=8)
            for share in shares
        ]
        return Pass(
            plan.rows,
            tuple(one.counts.partial() for one in found),
            tuple(one.calibration.partial() for one in found),
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
    every = [CountAttack("drawn", (1, 8, 64), repeats=40)]
    plain = Processes()(make_plan(every))
    frame = counts_frame(plain.counts, plain.rows, CLASSES)
    made = [range(count) for count in repeated["drawn"].repeats]
    pairs = zip(frame["point_index"], frame["repeat"], strict=True)
    kept = frame[[repeat in made[point] for point, repeat in pairs]]
    own = counts_frame(found.counts, found.rows, CLASSES)
    own = own[own["attack"] == "drawn"].reset_index(drop=True)
    assert own.equals(kept[kept["attack"] == "drawn"].reset_index(drop=True))


def interval_by_hand(of_point: pd.DataFrame) -> float:
    shares = []
    for _, of_repeat in of_point.groupby("repeat"):
        dice = case_dice(of_repeat).pivot(index="case", columns="class", values="dice")
        shares.append(dice.mean(axis=1).to_numpy() / len(dice))
    variances = np.var(shares, axis=0, ddof=1)
    freedom = variances.sum() ** 2 / (variances**2 / (len(shares) - 1)).sum()
    return float(stats.t.ppf(0.975, freedom) * np.sqrt(variances.sum()))


def test_the_number_of_repeats_is_that_of_the_formula_by_hand() -> None:
    passes = Processes()
    found, repeated = enough_repeats(attacks(ASKED), passes)
    frame = counts_frame(found.counts, found.rows, CLASSES)
    for name, one in repeated.items():
        for point, (count, width) in enumerate(zip(one.repeats, one.half_widths, strict=True)):
            of_point = frame[(frame["attack"] == name) & (frame["point_index"] == point)]
            alone = interval_by_hand(of_point[of_point["repeat"] < FIRST_REPEATS])
            wanted = max(FIRST_REPEATS, int(np.ceil((alone / ASKED) ** 2)))
            assert count == min(wanted, 40)
            # Where fewer than wanted were allowed, what is said is what all of them say.
            spoken = interval_by_hand(of_point) if wanted > 40 else alone
            assert width == pytest.approx(spoken / np.sqrt(count))
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


@pytest.mark.parametrize("cases", [3, 8, 40])
def test_planned_intervals_hold_the_truth_as_often_as_they_say(cases: int) -> None:
    """Simulated: cases of very different spread, means of 0; 4,000 studies."""
    draw = np.random.default_rng(0)
    spread = draw.gamma(1.0, 0.02, cases)
    asked, trials = 0.25 * float(np.sqrt((spread**2).sum())) / cases, 4000
    hits, widths = 0, []
    for _ in range(trials):
        first: NDArray[np.float64] = draw.normal(0, spread, (FIRST_REPEATS, cases)) / cases
        alone = float(interval_of_one(first))
        count = max(FIRST_REPEATS, int(np.ceil((alone / asked) ** 2)))
        rest = draw.normal(0, spread, (count - FIRST_REPEATS, cases)) / cases
        mean = np.concatenate([first, rest]).sum(axis=1).mean()
        width = alone / np.sqrt(count)
        hits += abs(mean) <= width
        widths.append(width)
    assert max(widths) <= asked
    assert 0.94 <= hits / trials <= 0.98


def test_constant_dice_has_an_interval_of_no_width() -> None:
    assert interval_of_one(np.full((2, 4, 3), 0.1)).tolist() == [0.0, 0.0]


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
