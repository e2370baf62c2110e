"""Scores are what plain loops over the counts give, and intervals hold what is known of them."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.counts import CLEAN_ROW, FIELDS, PartialCounts, Row, counts_frame
from robustness.curves import areas, mean_curves
from robustness.scores import (
    ATTACK_COLUMNS,
    POINT_COLUMNS,
    VALID_PIXELS,
    attack_scores,
    half_points,
    point_scores,
    valid_pixels,
)

CASES, CLASSES = ("a", "b", "c", "d"), ("left", "right")
PIXELS, LEVELS = (1.0, 4.0, 10.0), (0.0, 0.2)
ROWS = [
    CLEAN_ROW,
    *(Row("top", "pixels", i, n, r) for (i, n), r in product(enumerate(PIXELS), (0, 1))),
    *(Row("five", "level", i, level, 0) for i, level in enumerate(LEVELS)),
    Row("least", "threshold", 0, 0.5, 0),
]
NAN, INF = float("nan"), float("inf")
VALID = {VALID_PIXELS: str(200 * 2**20)}


def made(seed: int, cases: Sequence[str] = CASES) -> pd.DataFrame:
    """Random counts in which false positives of empty slices are some of all."""
    generator = np.random.default_rng(seed)
    sums = generator.integers(1, 500, (len(ROWS), len(cases), len(CLASSES), len(FIELDS)))
    index = {name: place for place, name in enumerate(FIELDS)}
    sums[..., index["fp_empty"]] = sums[..., index["fp"]] // 3
    sums[..., index["slices"]] = 6
    sums[..., index["slices_all"]] = 10
    return counts_frame([PartialCounts(tuple(cases), sums)], ROWS, CLASSES)


def frame_of(dice: Mapping[Row, Sequence[float]]) -> pd.DataFrame:
    """Counts of one class with this Dice of each case, to three decimals; NaN: nothing there."""
    sums = np.zeros((len(dice), len(next(iter(dice.values()))), 1, len(FIELDS)), np.int64)
    for row, values in zip(sums, dice.values(), strict=True):
        known = ~np.isnan(values)
        row[known, 0, 0] = np.round(1000 * np.array(values)[known])
        row[known, 0, 1] = row[known, 0, 2] = 1000 - row[known, 0, 0]
    sums[..., FIELDS.index("slices")] = sums[..., FIELDS.index("slices_all")] = 1
    return counts_frame([PartialCounts(CASES[: sums.shape[1]], sums)], list(dice), ["a"])


def test_a_training_weighs_alike_however_often_its_attacks_were_repeated() -> None:
    one, other = made(0), made(1)
    again = other[other["attack"] == "top"]
    often = pd.concat([other, *(again.assign(repeat=again["repeat"] + 2 * n) for n in range(1, 9))])
    expected = point_scores([one, other], VALID, draws=20)
    pd.testing.assert_frame_equal(point_scores([one, often], VALID, draws=20), expected)


def test_points_are_scored_as_by_hand() -> None:
    frames = [made(0), made(1)]
    found = point_scores(frames, VALID, draws=10)
    assert tuple(found.columns) == POINT_COLUMNS
    assert found["attack"].tolist() == ["clean", *["top"] * 3, *["five"] * 2, "least"]
    clean = NAN
    for row in found.to_dict("records"):
        means, sums = [], dict.fromkeys(FIELDS, 0)
        for name in CLASSES:
            of_cases = []
            for case, frame in product(CASES, frames):
                picked = frame[
                    (frame["attack"] == row["attack"])
                    & (frame["point"] == row["point"])
                    & (frame["case"] == case)
                    & (frame["class"] == name)
                ]
                tp, fp, fn = picked[["tp", "fp", "fn"]].to_numpy().T
                of_cases.append(np.mean(2 * tp / (2 * tp + fp + fn)))
                for field in FIELDS:
                    sums[field] += int(picked[field].sum())
            means.append(np.mean(of_cases))
        clean = float(np.mean(means)) if row["attack"] == "clean" else clean
        assert row["dice"] == pytest.approx(np.mean(means))
        assert row["drop"] == pytest.approx(1 - np.mean(means) / clean)
        true, slices = sums["tp"] + sums["fn"], sums["slices_all"]
        assert row["fp"] == pytest.approx(sums["fp"] / slices)
        assert row["fn"] == pytest.approx(sums["fn"] / slices)
        assert row["fp_rate"] == pytest.approx(sums["fp"] / true)
        assert row["fn_rate"] == pytest.approx(sums["fn"] / true)
        assert row["fp_empty"] == pytest.approx(sums["fp_empty"] / (slices - sums["slices"]))
        assert row["fp_empty_share"] == pytest.approx(sums["fp_empty"] / sums["fp"])
        assert row["empty_slices"] == 4 * len(CASES) * len(CLASSES)
        assert row["change"] == pytest.approx(sums["change_q20"] / slices / 2**20)
        share = row["point"] / 200 if row["attack"] == "top" else NAN
        assert row["valid_share"] == pytest.approx(share, nan_ok=True)


def test_areas_are_those_of_the_curves() -> None:
    frame = made(3)
    found = attack_scores([frame], VALID, draws=10).set_index("attack")
    assert tuple(found.reset_index().columns) == ATTACK_COLUMNS
    expected = areas(mean_curves(frame))
    assert found["area"].dropna().to_dict() == pytest.approx(expected)
    for name, area in expected.items():
        clean = float(found["clean"][name])
        assert found["relative_area"][name] == pytest.approx(area / clean)
    least = found.loc["least"].drop(["axis", "clean"])
    assert least.isna().all()


def test_a_network_that_nothing_happens_to_has_relative_area_one_and_no_half() -> None:
    rows = {CLEAN_ROW: [0.4, 0.6], Row("top", "pixels", 0, 5.0, 0): [0.4, 0.6]}
    found = attack_scores([frame_of(rows)]).iloc[0]
    assert found[["relative_area", "relative_area_low", "relative_area_high"]].tolist() == [1.0] * 3
    assert found[["half", "half_low", "half_high"]].tolist() == [INF] * 3
    assert found["area"] == pytest.approx(0.5)


def test_a_network_that_finds_nothing_has_no_relative_score() -> None:
    rows = {CLEAN_ROW: [0.0, 0.0], Row("top", "pixels", 0, 5.0, 0): [0.0, 0.0]}
    attack = attack_scores([frame_of(rows)]).iloc[0]
    assert attack["area"] == 0.0
    assert np.isnan([attack["relative_area"], attack["half"]]).all()
    assert point_scores([frame_of(rows)])["drop"].isna().all()


def test_no_empty_slice_no_truth_and_no_false_positive_are_no_division() -> None:
    rows = {CLEAN_ROW: [NAN, NAN], Row("top", "pixels", 0, 5.0, 0): [NAN, NAN]}
    found = point_scores([frame_of(rows)])
    names = ["dice", "dice_low", "drop", "fp_rate", "fn_rate", "fp_empty", "fp_empty_share"]
    assert found[names].isna().all(axis=None)
    assert found["fp"].tolist() == [0.0, 0.0]
    assert found["empty_slices"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("dice", "starts_clean", "expected"),
    [
        ([0.8, 0.6, 0.2], True, 7.0),  # half of 0.8, halfway between 4 and 10
        ([0.4, 0.2, 0.1], True, 1.0),
        ([0.2, 0.1, 0.0], True, 2 / 3),  # from (0, 0.8) to (1, 0.2)
        ([0.2, 0.1, 0.0], False, 1.0),
        ([0.8, 0.2, 0.9], True, 3.0),
        ([0.8, 0.7, 0.5], True, INF),
        ([0.8, NAN, 0.2], True, 7.0),  # from (1, 0.8) to (10, 0.2)
        ([NAN, NAN, 0.0], False, 10.0),
        ([NAN, NAN, NAN], True, INF),
    ],
)
def test_half_is_where_the_line_first_crosses_it(
    dice: list[float], starts_clean: bool, expected: float
) -> None:
    found = half_points(
        np.array(PIXELS), np.array(dice)[:, None], np.array([0.8]), starts_clean=starts_clean
    )
    assert found.tolist() == pytest.approx([expected])


def test_a_curve_with_its_own_point_at_zero_starts_there() -> None:
    curve = np.array([[0.8], [0.0]])
    found = half_points(np.array([0.0, 1.0]), curve, np.array([0.8]), starts_clean=True)
    assert found.tolist() == [0.5]


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0.01, 1), st.booleans())
def test_half_is_on_the_curve(dice: list[float], clean: float, starts_clean: bool) -> None:
    points = np.array(PIXELS)
    found = half_points(
        points, np.array(dice)[:, None], np.array([clean]), starts_clean=starts_clean
    )[0]
    ends = (np.r_[0.0, points], np.r_[clean, dice]) if starts_clean else (points, np.array(dice))
    if np.isinf(found):
        assert min(dice) > clean / 2
    elif found == points[0] and not starts_clean:
        assert dice[0] <= clean / 2
    else:
        assert np.interp(found, *ends) == pytest.approx(clean / 2, abs=1e-9)
        assert (ends[1][ends[0] < found - 1e-9] > clean / 2).all()


def test_the_interval_is_that_of_drawn_cases() -> None:
    """Dice of 0 or 1 of each case: the mean of draws is binomial."""
    many = 40
    names = tuple(f"case_{index:02d}" for index in range(many))
    sums = np.zeros((2, many, 1, len(FIELDS)), np.int64)
    sums[0, :, 0, 0] = sums[1, : many // 2, 0, 0] = 1
    sums[1, many // 2 :, 0, 2] = 1
    rows = [CLEAN_ROW, Row("top", "pixels", 0, 1.0, 0)]
    frame = counts_frame([PartialCounts(names, sums)], rows, ["a"])
    found = point_scores([frame], draws=4000).iloc[1]
    half = 1.96 * (0.25 / many) ** 0.5
    assert found["dice"] == 0.5
    assert found["dice_low"] == pytest.approx(0.5 - half, abs=0.03)
    assert found["dice_high"] == pytest.approx(0.5 + half, abs=0.03)
    area = attack_scores([frame], draws=4000).iloc[0]
    assert area["area"] == 0.75
    assert area["area_low"] == pytest.approx(0.5 + found["dice_low"] / 2)
    assert area["area_high"] == pytest.approx(0.5 + found["dice_high"] / 2)


def test_draws_are_the_same_for_all_networks_so_that_differences_are_paired() -> None:
    top = Row("top", "pixels", 0, 1.0, 0)
    one = frame_of({CLEAN_ROW: [1.0] * 4, top: [0.1, 0.3, 0.5, 0.7]})
    other = frame_of({CLEAN_ROW: [1.0] * 4, top: [0.2, 0.4, 0.6, 0.8]})
    first, second = (point_scores([frame], draws=50).iloc[1] for frame in (one, other))
    for name in ("dice", "dice_low", "dice_high"):
        assert second[name] - first[name] == pytest.approx(0.1)
    assert first["dice_low"] < first["dice"] < first["dice_high"]


def test_draws_follow_the_seed_and_not_the_order_of_rows() -> None:
    frame = made(7)
    again = point_scores([frame], draws=20, seed=1)
    assert point_scores([frame], draws=20, seed=1).equals(again)
    assert not point_scores([frame], draws=20, seed=2)["dice_low"].equals(again["dice_low"])
    shuffled = pd.concat([frame[frame["case"] == name] for name in reversed(CASES)])
    found = point_scores([shuffled.sort_values("attack", kind="stable")], draws=20, seed=1)
    names = ["attack", "point_index"]
    pd.testing.assert_frame_equal(
        found.sort_values(names, ignore_index=True), again.sort_values(names, ignore_index=True)
    )


def test_one_case_has_no_interval() -> None:
    found = point_scores([made(0, cases=("a",))])
    assert found["dice"].notna().all()
    assert found[["dice_low", "dice_high", "drop_low", "drop_high"]].isna().all(axis=None)


def test_without_a_clean_row_there_is_no_score() -> None:
    frame = made(0)
    with pytest.raises(ValueError, match="no clean row"):
        attack_scores([frame[frame["attack"] != "clean"]])


def test_budgets_are_shares_of_valid_pixels_where_these_are_known() -> None:
    rows = {CLEAN_ROW: [0.8, 0.8], Row("top", "pixels", 0, 20.0, 0): [0.0, 0.0]}
    frame = frame_of(rows)
    assert attack_scores([frame], VALID)["half_valid_share"].tolist() == pytest.approx([10 / 200])
    assert attack_scores([frame])["half_valid_share"].isna().all()
    assert np.isnan(valid_pixels({}))
    with pytest.raises(ValueError, match="valid_pixels_q20 is 0, expected a whole number above 0"):
        valid_pixels({VALID_PIXELS: "0"})
