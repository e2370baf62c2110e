"""Scores and curves from counts, against plain loops, SciPy and areas known beforehand."""

import math
from itertools import product
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from robustness.counts import FIELDS, PartialCounts, Row, counts_frame
from robustness.curves import (
    area_under_curve,
    areas,
    case_dice,
    clean_dice,
    mean_curves,
    starts_clean,
)

ROWS = [
    Row("clean", "clean", 0, 0.0, 0),
    *(
        Row("counts", "pixels", point, 10.0 * point + 5, r)
        for point, r in product(range(2), range(3))
    ),
    Row("levels", "level", 0, 0.0, 0),
    Row("levels", "level", 1, 0.5, 0),
]
CASES, CLASSES = ("a", "b", "c"), ("left", "right")
POINTS = [("clean", 0), ("counts", 0), ("counts", 1), ("levels", 0), ("levels", 1)]
SHAPE = (len(ROWS), len(CASES), len(CLASSES), len(FIELDS))
SMALL = st.integers(0, 2)


def _frame(sums: np.ndarray) -> pd.DataFrame:
    return counts_frame([PartialCounts(CASES, sums)], ROWS, CLASSES)


def _one(tp: int, fp: int, fn: int, repeats: int = 1) -> pd.DataFrame:
    rows = [Row("clean", "clean", 0, 0.0, repeat) for repeat in range(repeats)]
    sums = np.zeros((repeats, 1, 1, len(FIELDS)), dtype=np.int64)
    sums[..., :3] = (tp, fp, fn)
    return counts_frame([PartialCounts(("a",), sums)], rows, ["one"])


def _numbers(draw: st.DrawFn) -> np.ndarray:
    """Few pixels, so that empty truth and empty prediction come often."""
    sums = np.zeros(SHAPE, dtype=np.int64)
    flat = draw(st.lists(SMALL, min_size=sums[..., :3].size, max_size=sums[..., :3].size))
    sums[..., :3] = np.array(flat).reshape(*SHAPE[:3], 3)
    return sums


frames = st.composite(_numbers)


@pytest.mark.parametrize(
    ("tp", "fp", "fn", "expected"),
    [(3, 0, 0, 1.0), (3, 2, 4, 0.5), (0, 5, 0, 0.0), (0, 0, 5, 0.0), (0, 0, 0, math.nan)],
    ids=["perfect", "half", "truth empty", "prediction empty", "both empty"],
)
def test_the_dice_of_a_volume(tp: int, fp: int, fn: int, expected: float) -> None:
    scored = case_dice(_one(tp, fp, fn))
    columns = ["attack", "axis", "point_index", "point", "case", "class", "dice"]
    assert list(scored.columns) == columns
    np.testing.assert_equal(scored["dice"].tolist(), [expected])


@settings(max_examples=30)
@given(frames())
def test_dice_is_the_mean_over_repeats_in_which_it_is_defined(sums: np.ndarray) -> None:
    scored = case_dice(_frame(sums))
    assert len(scored) == len(POINTS) * len(CASES) * len(CLASSES)
    keys = scored[["attack", "point_index", "case", "class"]].itertuples(index=False, name=None)
    found = dict(zip(keys, scored["dice"].tolist(), strict=True))
    for (attack, point), case, name in product(POINTS, range(3), range(2)):
        values = []
        for row, numbers in zip(ROWS, sums, strict=True):
            tp, fp, fn = numbers[case, name, :3].tolist()
            if (row.attack, row.point_index) == (attack, point) and tp + fp + fn > 0:
                values.append(2 * tp / (2 * tp + fp + fn))
        expected = fmean(values) if values else math.nan
        np.testing.assert_allclose(found[attack, point, CASES[case], CLASSES[name]], expected)


@settings(max_examples=15)
@given(frames())
def test_curves_are_means_over_cases_and_classes(sums: np.ndarray) -> None:
    curves = mean_curves(_frame(sums))
    assert list(zip(curves["attack"], curves["point_index"], strict=True)) == POINTS
    scored = case_dice(_frame(sums))
    for attack, point, dice, cases, left_out in curves[
        ["attack", "point_index", "dice", "cases", "left_out"]
    ].itertuples(index=False, name=None):
        chosen = (scored["attack"] == attack) & (scored["point_index"] == point)
        means, missing = [], 0
        for name in CLASSES:
            values = scored.loc[chosen & (scored["class"] == name), "dice"].tolist()
            defined = [value for value in values if not math.isnan(value)]
            means += [fmean(defined)] if defined else []
            missing += len(values) - len(defined)
        np.testing.assert_allclose(dice, fmean(means) if means else math.nan)
        assert cases == len(CASES)
        assert left_out == missing


def test_slice_dice_and_change_are_means_over_slices() -> None:
    draw = np.random.default_rng(0)
    sums = draw.integers(1, 50, SHAPE)
    sums[..., FIELDS.index("slices")] = draw.integers(0, 9, SHAPE[:3])
    curves = mean_curves(_frame(sums))
    for place, (attack, point) in enumerate(POINTS):
        rows = [(row.attack, row.point_index) == (attack, point) for row in ROWS]
        total = dict(zip(FIELDS, sums[rows].sum(axis=(0, 1, 2)).tolist(), strict=True))
        found = curves.iloc[place]
        assert found["slice_dice"] == pytest.approx(
            total["slice_dice_q20"] / 2**20 / total["slices"]
        )
        assert found["change"] == pytest.approx(total["change_q20"] / 2**20 / total["slices_all"])


def test_without_slices_with_foreground_there_is_no_slice_dice() -> None:
    frame = _one(0, 3, 0).assign(slices_all=4)
    assert math.isnan(mean_curves(frame)["slice_dice"].iloc[0])
    assert mean_curves(frame)["change"].iloc[0] == 0


def test_the_columns_of_the_curves() -> None:
    columns = ["attack", "axis", "point_index", "point", "dice", "cases", "left_out"]
    curves = mean_curves(_frame(np.ones(SHAPE, dtype=np.int64)))
    assert list(curves.columns) == [*columns, "slice_dice", "change"]
    assert curves["point"].tolist() == [0.0, 5.0, 15.0, 0.0, 0.5]
    assert curves["axis"].tolist() == ["clean", "pixels", "pixels", "level", "level"]


def test_clean_dice_is_the_clean_rows() -> None:
    assert clean_dice(mean_curves(_one(3, 2, 4))) == 0.5
    attacked = mean_curves(_one(3, 2, 4).assign(attack="other"))
    with pytest.raises(ValueError, match="no clean row"):
        clean_dice(attacked)


CURVE = st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 1)), min_size=2, max_size=12).map(
    lambda steps: (np.cumsum([step for step, _ in steps]), np.array([dice for _, dice in steps]))
)


@given(CURVE)
def test_an_area_is_scipys_divided_by_the_range(curve: tuple[np.ndarray, np.ndarray]) -> None:
    points, dice = curve
    expected = integrate.trapezoid(dice, points) / (points[-1] - points[0])
    assert area_under_curve(points, dice, clean=None) == pytest.approx(expected)
    assert -1e-9 <= expected <= 1 + 1e-9


@given(CURVE, st.floats(0, 1))
def test_a_clean_start_is_one_more_point_at_0(
    curve: tuple[np.ndarray, np.ndarray], clean: float
) -> None:
    points, dice = curve
    found = area_under_curve(points, dice, clean=clean)
    longer = np.concatenate([[0.0], points]), np.concatenate([[clean], dice])
    assert found == pytest.approx(integrate.trapezoid(longer[1], longer[0]) / points[-1])


@pytest.mark.parametrize(
    ("points", "dice", "clean", "expected"),
    [
        ([1.0, 2.0, 4.0], [0.7, 0.7, 0.7], None, 0.7),
        ([1.0, 2.0, 4.0], [0.7, 0.7, 0.7], 0.7, 0.7),
        ([0.0, 0.5, 1.0], [1.0, 0.5, 0.0], None, 0.5),
        ([1.0, 3.0], [1.0, 0.0], 1.0, 2 / 3),
        ([4.0], [0.2], None, 0.2),
        ([4.0], [0.2], 0.8, 0.5),
    ],
    ids=["flat", "flat from clean", "line", "unequal steps", "a point", "a point from clean"],
)
def test_areas_that_are_known(
    points: list[float], dice: list[float], clean: float | None, expected: float
) -> None:
    found = area_under_curve(np.array(points), np.array(dice), clean=clean)
    assert found == pytest.approx(expected)


def test_an_area_does_not_depend_on_the_unit_of_the_axis() -> None:
    points, dice = np.array([0.0, 1.0, 5.0]), np.array([0.9, 0.8, 0.1])
    assert area_under_curve(points, dice, clean=None) == pytest.approx(
        area_under_curve(points * 0.2, dice, clean=None)
    )


@pytest.mark.parametrize(
    ("points", "dice", "clean", "message"),
    [
        ([1.0, 2.0], [0.5], None, r"points of shape \(2,\) and Dice of shape \(1,\)"),
        ([], [], None, r"expected equal \(P,\)"),
        ([[1.0]], [[1.0]], None, r"expected equal \(P,\)"),
        ([2.0, 1.0], [0.5, 0.5], None, r"points \[2.0, 1.0\] do not rise"),
        ([1.0, 1.0], [0.5, 0.5], None, "do not rise"),
        ([-1.0, 1.0], [0.5, 0.5], 0.9, r"points \[-1.0, 1.0\] begin below 0"),
        ([0.0, math.nan], [0.5, 0.5], None, "do not rise"),
    ],
)
def test_points_without_an_area_are_refused(
    points: list[float], dice: list[float], clean: float | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        area_under_curve(np.array(points), np.array(dice), clean=clean)


def test_numbers_of_pixels_start_clean_and_levels_do_not() -> None:
    assert starts_clean("pixels")
    assert not starts_clean("level")


def test_each_attack_has_one_area() -> None:
    sums = np.zeros(SHAPE, dtype=np.int64)
    # Dice 1 clean, then 1/2 and 0 with pixels (in all repeats), 1/2 and 1 with levels.
    hits = {("clean", 0): (1, 0), ("counts", 0): (1, 2), ("counts", 1): (0, 1)}
    hits |= {("levels", 0): (1, 2), ("levels", 1): (1, 0)}
    for row, numbers in zip(ROWS, sums, strict=True):
        numbers[..., 0], numbers[..., 1] = hits[row.attack, row.point_index]
    found = areas(mean_curves(_frame(sums)))
    by_count = (5 * (1 + 0.5) / 2 + 10 * (0.5 + 0) / 2) / 15
    assert found == pytest.approx({"counts": by_count, "levels": 0.75})


def test_a_curve_that_has_a_point_at_0_keeps_it() -> None:
    points, dice = np.array([0.0, 0.1, 0.3]), np.array([0.9, 0.7, 0.1])
    expected = (0.8 * 0.1 + 0.4 * 0.2) / 0.3
    assert area_under_curve(points, dice, clean=0.9) == pytest.approx(expected)
