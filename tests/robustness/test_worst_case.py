"""The worst case is the lowest Dice of each case, and only attacks of equal budget are pooled."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.counts import FIELDS, PartialCounts, Row, counts_frame
from robustness.curves import case_dice
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.worst_case import ensembles, is_control, lowest_dice, worst_case

CASES, CLASSES = ("a", "b"), ("left", "right")
# The first attack has repeats; the points 1 and 2 are those that all have.
POINTS = {"one": (1.0, 2.0), "two": (0.5, 1.0, 2.0), "three": (1.0, 2.0, 4.0)}
REPEATS = {"one": 2, "two": 1, "three": 1}
ROWS = [
    Row(name, "epsilon", index, point, repeat)
    for name, points in POINTS.items()
    for (index, point), repeat in product(enumerate(points), range(REPEATS[name]))
]
SHAPE = (len(ROWS), len(CASES), len(CLASSES), len(FIELDS))


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    """Few pixels, so that ties and undefined Dice come often."""
    sums = np.zeros(SHAPE, dtype=np.int64)
    size = sums[..., :3].size
    flat = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    sums[..., :3] = np.array(flat).reshape(*SHAPE[:3], 3)
    return counts_frame([PartialCounts(CASES, sums)], ROWS, CLASSES)


def dice_of(frame: pd.DataFrame, attack: str, point: float, case: str, name: str) -> float | None:
    """The lowest of the repeats in which Dice is defined, by plain loops."""
    tried = []
    for row in frame.to_dict("records"):
        if (row["attack"], row["point"], row["case"], row["class"]) == (attack, point, case, name):
            size = 2 * row["tp"] + row["fp"] + row["fn"]
            tried += [2 * row["tp"] / size] if size else []
    return min(tried, default=None)


@settings(max_examples=25)
@given(frames())
def test_each_case_has_its_lowest_dice_and_the_first_attack_that_left_it(
    frame: pd.DataFrame,
) -> None:
    found = worst_case(frame, list(POINTS))
    assert list(found.columns) == ["axis", "point", "case", "class", "dice", "attack"]
    assert set(found["axis"]) == {"epsilon"}
    keys = list(zip(found["point"], found["case"], found["class"], strict=True))
    assert keys == list(product((1.0, 2.0), CASES, CLASSES))
    for (point, case, name), row in zip(keys, found.to_dict("records"), strict=True):
        tried = {attack: dice_of(frame, attack, point, case, name) for attack in POINTS}
        defined = {attack: dice for attack, dice in tried.items() if dice is not None}
        if not defined:
            assert np.isnan(row["dice"])
            assert row["attack"] == ""
            continue
        assert row["dice"] == min(defined.values())
        assert row["attack"] == min(defined, key=lambda attack: defined[attack])


@settings(max_examples=25)
@given(frames(), st.permutations(list(POINTS)), st.integers(1, 3))
def test_it_is_never_above_a_member_and_falls_with_every_attack_that_joins(
    frame: pd.DataFrame, order: list[str], count: int
) -> None:
    keys = ["point", "case", "class"]
    found = worst_case(frame, order[:count]).set_index(keys)["dice"]
    for name in order[:count]:
        scored = lowest_dice(frame[frame["attack"] == name]).set_index(keys)["dice"]
        mean = case_dice(frame[frame["attack"] == name]).set_index(keys)["dice"]
        assert (scored[mean.notna()] <= mean[mean.notna()]).all()
        member = scored.reindex(found.index)
        assert (found.isna() <= member.isna()).all()
        assert (found[member.notna()] <= member[member.notna()]).all()
    joined = worst_case(frame, order).set_index(keys)["dice"].reindex(found.index).dropna()
    assert (joined <= found.reindex(joined.index).fillna(1.0)).all()


@settings(max_examples=25)
@given(frames())
def test_of_one_attack_it_is_that_attack(frame: pd.DataFrame) -> None:
    for name in POINTS:
        scored = lowest_dice(frame[frame["attack"] == name])
        found = worst_case(frame, [name, name])
        columns = ["axis", "point", "case", "class", "dice"]
        pd.testing.assert_frame_equal(found[columns], scored[columns])
        assert set(found["attack"]) <= {name, ""}


def test_an_attacker_keeps_the_best_try_of_each_case() -> None:
    rows = [Row("one", "epsilon", 0, 1.0, 0), Row("one", "epsilon", 0, 1.0, 1)]
    sums = np.zeros((2, 2, 1, len(FIELDS)), dtype=np.int64)
    sums[..., 0] = 1
    sums[0, 0, 0, 1] = sums[1, 1, 0, 2] = 2  # Dice 1/2: the first try on a, the second on b
    frame = counts_frame([PartialCounts(CASES, sums)], rows, ["left"])
    assert case_dice(frame)["dice"].tolist() == [0.75, 0.75]
    assert worst_case(frame, ["one"])["dice"].tolist() == [0.5, 0.5]


@settings(max_examples=10)
@given(frames())
def test_the_lowest_dice_has_the_rows_of_the_mean(frame: pd.DataFrame) -> None:
    columns = ["attack", "axis", "point_index", "point", "case", "class"]
    pd.testing.assert_frame_equal(lowest_dice(frame)[columns], case_dice(frame)[columns])
    alone = frame[frame["attack"] == "two"]
    pd.testing.assert_frame_equal(lowest_dice(alone), case_dice(alone))


def test_attacks_without_a_point_in_common_have_no_worst_case() -> None:
    rows = [Row("one", "pixels", 0, 1.0, 0), Row("two", "pixels", 0, 2.0, 0)]
    sums = np.ones((2, 1, 1, len(FIELDS)), dtype=np.int64)
    frame = counts_frame([PartialCounts(("a",), sums)], rows, ["one"])
    found = worst_case(frame, ["one", "two"])
    assert found.empty
    assert list(found.columns) == ["axis", "point", "case", "class", "dice", "attack"]


@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        ([], "found no attack"),
        (["one", "gone", "lost"], "gone, lost not among the counts"),
        (["one", "level"], "found attacks along epsilon, level, expected one axis"),
    ],
)
def test_what_cannot_be_pooled_is_refused(attacks: list[str], message: str) -> None:
    rows = [*ROWS, Row("level", "level", 0, 1.0, 0)]
    sums = np.ones((len(rows), 1, 1, len(FIELDS)), dtype=np.int64)
    frame = counts_frame([PartialCounts(("a",), sums)], rows, ["one"])
    with pytest.raises(ValueError, match=message):
        worst_case(frame, attacks)


def directed(name: str, **changed: object) -> dict[str, Any]:
    given = {
        "class": "PGD",
        "name": name,
        "epsilons": [0.01, 0.02],
        "norm": "linf",
        "low": 0.0,
        "high": 0.2,
        "valid_only": True,
        "objective": "bce",
    }
    return {key: value for key, value in (given | changed).items() if value is not None}


def test_attacks_of_equal_budget_are_pooled_whatever_else_they_do() -> None:
    found = ensembles(
        [
            directed("pgd"),
            directed("fgsm", **{"class": "FGSM"}, norm=None, epsilons=[0.02]),
            directed("cospgd", norm="inf", objective="margin", steps=40),
            directed("l2", norm="l2"),
            directed("bright", high=1.0),
            directed("padding", valid_only=False),
            directed("noise", **{"class": "NoiseControl"}),
            {"class": "Blur", "name": "blur", "severities": [1, 2]},
            {"class": "Noise", "name": "rician", "severities": [1, 2]},
        ]
    )
    assert found == {"linf epsilon in [0, 0.2]": ["pgd", "fgsm", "cospgd"]}


@pytest.mark.parametrize(
    ("changed", "pooled"),
    [
        ({}, True),
        ({"norm": "l2"}, False),
        ({"low": -0.1}, False),
        ({"high": 1.0}, False),
        ({"valid_only": False}, False),
        ({"per_channel": True}, False),
        ({"epsilons": None, "counts": [1, 2]}, False),
        ({"ranking": "random"}, False),
        ({"ranking": "intensity_matched"}, False),
        ({"ranking": "edge"}, True),
    ],
)
def test_each_part_of_the_budget_counts(changed: dict[str, Any], pooled: bool) -> None:
    assert bool(ensembles([directed("one"), directed("other", **changed)])) == pooled


def test_pixel_attacks_are_pooled_by_what_they_may_set() -> None:
    attacks = [
        CountAttack("at_max", counts=(1, 5), value=0.2),
        CountAttack("at_max_abs", counts=(1, 10), value=0.2, ranking="gradient_abs"),
        CountAttack("at_max_control", counts=(1, 5), value=0.2, ranking="random"),
        CountAttack("uniform", counts=(1, 5)),
        CountAttack("uniform_abs", counts=(1, 5), ranking="gradient_abs"),
        LevelAttack("five", levels=(0.0, 0.2)),
        LevelAttack("five_abs", levels=(0.2, 0.4), ranking="gradient_abs"),
        LevelAttack("six", levels=(0.0, 0.2), pixels=6),
    ]
    found = ensembles([attack.settings() for attack in attacks])
    assert found == {
        "pixels at 0.2, padding too": ["at_max", "at_max_abs"],
        "pixels in [0, 1], padding too": ["uniform", "uniform_abs"],
        "level of 5 pixels, padding too": ["five", "five_abs"],
    }


def test_controls_are_told_by_ranking_or_class() -> None:
    assert is_control({"class": "CountAttack", "ranking": "random"})
    assert is_control({"class": "NoiseControl"})
    assert not is_control({"class": "CountAttack", "ranking": "gradient"})
    assert not is_control({"class": "PGD"})
