"""Curves, areas and intervals agree with plain loops and with scipy's one-sample t-test."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from comparison.statistics import (
    bootstrap_ends,
    half_width,
    loss_areas,
    loss_curves,
    point_means,
)
from robustness.curves import areas, case_dice, mean_curves
from tests.comparison.made import CASES, area_by_hand, case_scores, made_frame, mean_dice

VALUES = ["dice", "low", "high", "seed_low", "seed_high"]


def at(curves: pd.DataFrame, attack: str, point: float) -> pd.Series:
    found = curves[(curves["attack"] == attack) & (curves["point"] == point)]
    assert len(found) == 1
    return found.iloc[0]


def scipy_interval(values: list[float]) -> tuple[float, float]:
    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_dice_is_the_mean_over_seeds_of_each_case_then_over_cases(seeds: int) -> None:
    frames = [made_frame(seed, empty=True) for seed in range(seeds)]
    curves = loss_curves(frames)
    expected = mean_dice(frames)
    assert len(curves) == len(expected)
    for (attack, point), dice in expected.items():
        assert at(curves, attack, point)["dice"] == pytest.approx(dice, abs=1e-12)
    assert set(curves["seeds"]) == {seeds}
    assert set(curves["cases"]) == {4}
    assert set(curves["left_out"]) == {1}


def test_dice_is_the_mean_over_cases_for_each_class_then_over_classes() -> None:
    frames = [made_frame(seed, classes=("front", "back")) for seed in range(2)]
    for frame in frames:
        nothing = (frame["class"] == "back") & frame["case"].isin(CASES[:3])
        frame.loc[nothing, ["tp", "fp", "fn"]] = 0
    curves = loss_curves(frames)
    classes = {
        name: [frame[frame["class"] == name] for frame in frames] for name in ("front", "back")
    }
    for (attack, point), front in mean_dice(classes["front"]).items():
        scores = case_scores(classes["back"])[attack, point]
        (case,) = [case for case, seeds in scores.items() if seeds]
        assert case == CASES[3]
        back = float(np.mean(list(scores[case].values())))
        row = at(curves, attack, point)
        assert row["dice"] == pytest.approx((front + back) / 2, abs=1e-12)
        assert row["left_out"] == 3
        # The interval is that of what each case says: of its classes those that it has.
        cases = case_scores(classes["front"])[attack, point]
        means = [float(np.mean(list(cases[name].values()))) for name in CASES]
        means[3] = (means[3] + back) / 2
        half = float(stats.t(3).isf(0.025) * stats.sem(means))
        ends = (max(row["dice"] - half, 0), min(row["dice"] + half, 1))
        assert (row["low"], row["high"]) == pytest.approx(ends)


def test_the_interval_over_cases_is_the_t_interval_of_the_means_of_cases() -> None:
    frames = [made_frame(seed) for seed in range(3)]
    curves = loss_curves(frames)
    for (attack, point), cases in case_scores(frames).items():
        row = at(curves, attack, point)
        means = [float(np.mean(list(seeds.values()))) for seeds in cases.values()]
        low, high = scipy_interval(means)
        assert (row["low"], row["high"]) == pytest.approx((max(low, 0), min(high, 1)))


def test_the_interval_over_seeds_is_the_t_interval_of_the_means_of_seeds() -> None:
    frames = [made_frame(seed) for seed in range(4)]
    curves = loss_curves(frames)
    for (attack, point), cases in case_scores(frames).items():
        row = at(curves, attack, point)
        means = [float(np.mean([seeds[seed] for seeds in cases.values()])) for seed in range(4)]
        low, high = scipy_interval(means)
        assert (row["seed_low"], row["seed_high"]) == pytest.approx((max(low, 0), min(high, 1)))


def test_one_seed_has_the_curve_of_its_run_and_no_spread() -> None:
    frame = made_frame(5, classes=("front", "back"), empty=True)
    curves = loss_curves([frame])
    pd.testing.assert_frame_equal(
        curves[["attack", "axis", "point_index", "point", "dice", "change", "left_out"]],
        mean_curves(frame)[
            ["attack", "axis", "point_index", "point", "dice", "change", "left_out"]
        ],
        check_dtype=False,
    )
    assert curves["seed_low"].isna().all()
    assert curves["seed_high"].isna().all()


def test_the_order_of_seeds_changes_nothing() -> None:
    frames = [made_frame(seed) for seed in range(3)]
    pd.testing.assert_frame_equal(loss_curves(frames)[VALUES], loss_curves(frames[::-1])[VALUES])


def test_areas_are_trapezoids_over_the_true_axis() -> None:
    frames = [made_frame(seed) for seed in range(2)]
    expected = mean_dice(frames)
    found = loss_areas([case_dice(frame) for frame in frames])
    assert set(found) == {attack for attack, _ in expected if attack != "clean"}
    for attack, score in found.items():
        assert score.value == pytest.approx(area_by_hand(expected, attack), abs=1e-12)


def test_intervals_of_areas_are_those_of_the_areas_of_cases_and_seeds() -> None:
    frames = [made_frame(seed) for seed in range(3)]
    scores = case_scores(frames)
    for attack, score in loss_areas([case_dice(frame) for frame in frames]).items():
        by_case = [
            area_by_hand(
                {p: float(np.mean(list(c[case].values()))) for p, c in scores.items()}, attack
            )
            for case in scores["clean", 0.0]
        ]
        by_seed = [area_by_hand(mean_dice([frame]), attack) for frame in frames]
        low, high = scipy_interval(by_case)
        assert (score.low, score.high) == pytest.approx((max(low, 0), min(high, 1)))
        low, high = scipy_interval(by_seed)
        assert (score.seed_low, score.seed_high) == pytest.approx((max(low, 0), min(high, 1)))
        assert by_seed[0] == pytest.approx(areas(mean_curves(frames[0]))[attack])


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.integers(0, 3))
def test_half_width_leaves_out_what_is_undefined(values: list[float], undefined: int) -> None:
    found = half_width(np.array(values + [float("nan")] * undefined))
    standard_error = stats.sem(values)
    assert found == pytest.approx(stats.t(len(values) - 1).isf(0.025) * standard_error)


@pytest.mark.parametrize("values", [[], [0.5], [float("nan"), 0.5]])
def test_fewer_than_two_values_have_no_interval(values: list[float]) -> None:
    assert np.isnan(half_width(np.array(values)))


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(0.8, 0.1, (4000, 5))
    covered = [abs(sample.mean() - 0.8) <= half_width(sample) for sample in samples]
    # Four standard errors of a share of 0.95 among 4000.
    assert np.mean(covered) == pytest.approx(0.95, abs=0.014)


@pytest.mark.parametrize("trainings", [1, 3])
def test_point_means_are_the_means_over_trainings_and_cases(trainings: int) -> None:
    frames = [made_frame(seed, empty=True) for seed in range(trainings)]
    found = point_means([case_dice(frame) for frame in frames])
    shown = dict(zip(zip(found["attack"], found["point"], strict=True), found["dice"], strict=True))
    assert shown == pytest.approx(mean_dice(frames))


def test_a_bootstrap_of_means_is_scipy_s() -> None:
    values = np.random.default_rng(3).lognormal(size=(40, 2))
    found = bootstrap_ends(values, draws=20_000)
    for column in range(2):
        expected = stats.bootstrap(
            (values[:, column],), np.mean, n_resamples=20_000, method="percentile", rng=5
        ).confidence_interval
        width = expected.high - expected.low
        assert found[:, column] == pytest.approx([*expected], abs=0.03 * width)


def test_a_bootstrap_leaves_out_what_is_undefined_and_needs_two() -> None:
    nan = float("nan")
    found = bootstrap_ends(np.array([[1.0, nan, 5.0], [1.0, 2.0, nan], [1.0, nan, 7.0]]))
    assert found[:, 0].tolist() == [1.0, 1.0]
    assert np.isnan(found[:, 1]).all()
    assert found[:, 2].tolist() == [5.0, 7.0]
    assert np.isnan(bootstrap_ends(np.empty((0, 2)))).all()


def test_cases_are_drawn_alike_for_all_columns() -> None:
    values = np.random.default_rng(0).normal(size=(6, 1))
    low, high = bootstrap_ends(np.hstack([values, values + 3]))
    assert [low[1] - low[0], high[1] - high[0]] == pytest.approx([3.0, 3.0])
