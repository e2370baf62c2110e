"""The worst case of each volume, and how often each attack was the worst, from known Dice."""

import json
from typing import Any

import pandas as pd
import pytest

from comparison.selection import Selection, choose_runs
from comparison.worst_cases import WorstCases, worst_case_figures, worst_cases
from robustness.counts import CLEAN_ROW, Row
from tests.comparison.made import frame_of, made_counts, made_run

BUDGET = {"epsilons": [0.01, 0.02], "norm": "linf", "low": 0.0, "high": 0.2, "valid_only": True}
SETTINGS = [
    {"class": "PGD", "name": "pgd", "objective": "bce", **BUDGET},
    {"class": "FGSM", "name": "fgsm", "objective": "bce", **BUDGET, "epsilons": [0.02]},
    {"class": "NoiseControl", "name": "noise", **BUDGET},
    {"class": "MinimumNorm", "name": "gone", "objective": "bce", **BUDGET},
]
NAME = "linf epsilon in [0, 0.2]"
NAN = float("nan")


def counts_of(pgd: list[float], fgsm: list[float]) -> pd.DataFrame:
    """Two volumes, one class: Dice at the point 0.02 that both attacks have."""
    return frame_of(
        {
            CLEAN_ROW: [0.9, 0.8],
            Row("pgd", "epsilon", 0, 0.01, 0): [0.7, 0.7],
            Row("pgd", "epsilon", 1, 0.02, 0): pgd,
            Row("fgsm", "epsilon", 0, 0.02, 0): fgsm,
            Row("noise", "epsilon", 0, 0.02, 0): [0.0, 0.0],
        }
    )


def selection_of(
    *runs: tuple[str, int, pd.DataFrame], settings: list[dict[str, Any]] | None = None
) -> Selection:
    stored = {} if settings is None else {"attack_settings": json.dumps(settings)}
    found = [
        (made_run(number, loss, seed), made_counts(frame, stored))
        for number, (loss, seed, frame) in enumerate(runs)
    ]
    return choose_runs("Task90_Blob", "test", found)


@pytest.fixture
def selection() -> Selection:
    return selection_of(
        ("bce", 0, counts_of([0.5, 0.2], [0.4, 0.6])),
        ("bce", 1, counts_of([0.1, 0.3], [0.2, 0.1])),
        ("dice", 0, counts_of([0.25, NAN], [0.25, NAN])),
        settings=SETTINGS,
    )


@pytest.fixture
def found(selection: Selection) -> WorstCases:
    cases = worst_cases(selection)
    assert cases is not None
    return cases


def test_attacks_of_equal_budget_that_were_counted_are_pooled(found: WorstCases) -> None:
    assert found.members == {NAME: ["pgd", "fgsm"]}


def test_the_table_has_each_point_that_all_attacks_have(found: WorstCases) -> None:
    table = found.table
    assert set(table["ensemble"]) == {NAME}
    assert set(table["point"]) == {0.02}
    keys = list(zip(table["loss"], table["attack"], strict=True))
    assert keys == [("bce", "pgd"), ("bce", "fgsm"), ("dice", "pgd"), ("dice", "fgsm")]


def test_dice_is_the_mean_of_the_lowest_of_each_volume_and_seed(found: WorstCases) -> None:
    rows = found.table.set_index(["loss", "attack"])
    # Of bce: 0.4 and 0.2 under seed 0, 0.1 and 0.1 under seed 1.
    assert rows.loc[("bce", "pgd"), "dice"] == pytest.approx(0.2)
    assert rows.loc[("bce", "pgd"), "attack_dice"] == pytest.approx((0.5 + 0.2 + 0.1 + 0.3) / 4)
    assert rows.loc[("bce", "fgsm"), "attack_dice"] == pytest.approx((0.4 + 0.6 + 0.2 + 0.1) / 4)
    assert rows.loc[("dice", "pgd"), "dice"] == pytest.approx(0.25)
    # Means of the seeds: 0.3 and 0.1; t = 12.706 for two of them, cut at 0 and 1.
    bce, dice = rows.loc["bce"], rows.loc["dice"]
    assert set(bce["seed_low"]) == {0.0}
    assert set(bce["seed_high"]) == {1.0}
    assert set(bce["seeds"]) == {2}
    assert dice["seed_low"].isna().all()


def test_more_repeats_of_an_attack_that_stops_by_itself_are_no_more_tries() -> None:
    """The lowest of nine tries would be compared with the lowest of six."""
    settings = [{**one, "half_width": 0.005} for one in SETTINGS[:2]]

    def repeated(more: int) -> pd.DataFrame:
        dice = [0.5, 0.6, 0.4, 0.7, 0.8, 0.9, *(0.1,) * more]
        rows = {CLEAN_ROW: [0.9, 0.8]}
        rows |= {Row("pgd", "epsilon", 0, 0.02, r): [one, one] for r, one in enumerate(dice)}
        rows |= {Row("fgsm", "epsilon", 0, 0.02, r): [0.6, 0.6] for r in range(6)}
        return frame_of(rows)

    few, many = (
        worst_cases(selection_of(("bce", 0, repeated(more)), settings=settings)) for more in (0, 3)
    )
    assert few is not None
    assert many is not None
    pd.testing.assert_frame_equal(few.table, many.table)
    assert few.table["dice"].tolist() == pytest.approx([0.4, 0.4])


def test_shares_say_how_often_each_attack_was_the_worst(found: WorstCases) -> None:
    shares = found.table.set_index(["loss", "attack"])["worst_share"].to_dict()
    # FGSM is worse on the first volume of seed 0 and the second of seed 1; a tie is the first's,
    # and a volume without Dice is nobody's.
    assert shares == {
        ("bce", "pgd"): 0.5,
        ("bce", "fgsm"): 0.5,
        ("dice", "pgd"): 1.0,
        ("dice", "fgsm"): 0.0,
    }


def test_curves_have_the_clean_point_beside_the_worst_case(found: WorstCases) -> None:
    for loss, clean in (("bce", 0.85), ("dice", 0.85)):
        curve = found.curves[loss].set_index("attack")
        assert list(curve.index) == ["clean", NAME]
        assert curve.loc["clean", "dice"] == pytest.approx(clean)
    assert found.curves["bce"].set_index("attack").loc[NAME, "dice"] == pytest.approx(0.2)


def test_of_repeats_the_lowest_counts_alone_and_in_an_ensemble() -> None:
    frame = counts_of([0.5, 0.2], [0.4, 0.6])
    again = counts_of([0.1, 0.4], [0.4, 0.6])
    again = again[again["attack"] == "pgd"].assign(repeat=1)
    selection = selection_of(("bce", 0, pd.concat([frame, again])), settings=SETTINGS)
    found = worst_cases(selection)
    assert found is not None
    rows = found.table.set_index("attack")
    assert rows["dice"].tolist() == pytest.approx([0.15, 0.15])
    assert rows["attack_dice"].to_dict() == pytest.approx({"pgd": 0.15, "fgsm": 0.5})


def test_a_figure_an_ensemble(selection: Selection, found: WorstCases) -> None:
    figures = worst_case_figures(selection, found)
    assert list(figures) == ["worst_case_linf_epsilon_in_0_0.2"]
    assert figures["worst_case_linf_epsilon_in_0_0.2"].startswith(b"\x89PNG")


def test_the_mean_over_classes_is_taken_last() -> None:
    frame = frame_of(
        {
            CLEAN_ROW: [0.9, 0.9, 0.9, 0.9],
            Row("pgd", "epsilon", 0, 0.02, 0): [0.1, 0.6, 0.3, NAN],
            Row("fgsm", "epsilon", 0, 0.02, 0): [0.5, 0.4, 0.5, NAN],
        },
        classes=("left", "right"),
    )
    found = worst_cases(selection_of(("bce", 0, frame), settings=SETTINGS))
    assert found is not None
    # Left: 0.1 and 0.3; right: 0.4 in the one volume that has it.
    assert found.table["dice"].tolist() == pytest.approx([0.3, 0.3])
    assert found.table["worst_share"].tolist() == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize("settings", [None, [], SETTINGS[:1], [SETTINGS[0], SETTINGS[3]]])
def test_without_two_attacks_of_known_budget_there_is_none(
    settings: list[dict[str, Any]] | None,
) -> None:
    frame = counts_of([0.5, 0.2], [0.4, 0.6])
    assert worst_cases(selection_of(("bce", 0, frame), settings=settings)) is None


def test_attacks_without_a_point_in_common_have_none() -> None:
    frame = counts_of([0.5, 0.2], [0.4, 0.6])
    frame.loc[frame["attack"] == "fgsm", "point"] = 0.03
    assert worst_cases(selection_of(("bce", 0, frame), settings=SETTINGS)) is None


def test_an_attack_that_lacks_the_point_of_most_is_left_out() -> None:
    frame = counts_of([0.5, 0.2], [0.4, 0.6])
    far = frame[frame["attack"] == "fgsm"].assign(attack="far", point=0.2)
    settings = [*SETTINGS, {"class": "PGD", "name": "far", **BUDGET, "epsilons": [0.2]}]
    selection = selection_of(("bce", 0, pd.concat([frame, far])), settings=settings)
    found = worst_cases(selection)
    assert found is not None
    assert found.members == {NAME: ["pgd", "fgsm"]}
