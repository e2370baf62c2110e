"""Figures show the counts: lines, bands, controls, and the pictures of every loss there is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comparison.figures import (
    attack_curves,
    attack_names,
    axis_label,
    case_figures,
    file_stem,
    picture_cases,
    point_words,
)
from comparison.selection import choose_runs, select_runs
from comparison.table import curves_by_loss
from tests.comparison.conftest import HOSTILE, Report
from tests.comparison.made import (
    CASES,
    PIXELS,
    made_counts,
    made_frame,
    made_run,
    mean_dice,
    snapshots_of,
    store_run,
)
from tests.places import Place


def test_the_paper_s_attacks_come_first_and_controls_with_their_attack(report: Report) -> None:
    curves = curves_by_loss(report.selection)
    assert attack_names(curves) == ["top5_beyond_range", "topn_random", "top5_in_range_abs"]


@pytest.mark.parametrize(
    ("attack", "stem"),
    [
        ("top5_in_range", "figure2_top5_in_range"),
        ("topn_random", "figure6_topn_random"),
        ("fgsm", "curve_fgsm"),
    ],
)
def test_files_are_named_after_the_paper_s_figures(attack: str, stem: str) -> None:
    assert file_stem(attack) == stem


def test_curves_are_those_of_the_counts(report: Report) -> None:
    drawn = attack_curves(curves_by_loss(report.selection), "topn_random")
    assert [curve.label for curve in drawn] == ["bce", HOSTILE]
    for curve in drawn:
        dice = mean_dice(report.frames[curve.label])
        assert curve.points.tolist() == list(PIXELS)
        assert curve.dice == pytest.approx([dice["topn_random", point] for point in PIXELS])
        assert curve.control is not None
        control = [dice["topn_random_control", point] for point in PIXELS]
        assert curve.control == pytest.approx(control)
        assert curve.clean == pytest.approx(dice["clean", 0.0])
        assert curve.low is not None
        assert (curve.low <= curve.dice).all()
    several, one = drawn
    assert several.bar_low is not None
    assert not np.isnan(several.bar_low).any()
    assert one.bar_low is None


def test_an_attack_without_control_is_drawn_without_one(report: Report) -> None:
    drawn = attack_curves(curves_by_loss(report.selection), "top5_in_range_abs")
    assert [curve.control for curve in drawn] == [None, None]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("0.2", "0.2"), "level of the replaced pixels (image units, 0.2 = brightest)"),
        (("0.2", "1.0"), "level of the replaced pixels (image units)"),
        (("much", "much"), "level of the replaced pixels (image units)"),
    ],
)
def test_the_axis_names_the_brightest_level_that_all_runs_share(
    values: tuple[str, str], words: str
) -> None:
    losses = ("bce", "dice")
    found = [
        (made_run(2 - index, loss, max_pixel=value), made_counts())
        for index, (loss, value) in enumerate(zip(losses, values, strict=True))
    ]
    selection = choose_runs("trials", "test", found)
    curve = curves_by_loss(selection)["bce"]
    assert axis_label(selection, curve[curve["attack"] == "top5_beyond_range"]) == words


def test_pictures_show_the_first_seed_of_each_loss_and_name_what_is_missing(
    place: Place, tmp_path: Path
) -> None:
    frame = made_frame(0)
    runs = {
        ("bce", 1): snapshots_of(1, CASES[:2]),
        ("bce", 0): snapshots_of(0, CASES[:2]),
        ("dice", 0): snapshots_of(2, CASES[1:2]),
    }
    for (loss, seed), snapshots in runs.items():
        store_run(tmp_path, frame, {"loss": loss, "seed": str(seed)}, snapshots=snapshots)
    first, second = picture_cases(select_runs("Task90_Blob", "test"))
    assert (first.case, first.missing) == (CASES[0], ("dice",))
    assert (second.case, second.missing) == (CASES[1], ())
    assert [label for label, _ in second.rows] == ["bce", "dice"]
    np.testing.assert_array_equal(second.rows[0][1].probs, runs["bce", 0][1].probs)
    np.testing.assert_array_equal(second.rows[1][1].probs, runs["dice", 0][0].probs)


def test_runs_that_picture_different_attacks_have_a_figure_4_each() -> None:
    found = [(made_run(1, "bce"), made_counts()), (made_run(0, "dice"), made_counts())]
    selection = choose_runs("trials", "test", found)
    shown = snapshots_of(0)[0]
    other = replace(shown, attack="topn_at_max", unit="pixels per slice")
    rows = [("bce", shown), ("dice", other)]
    names = list(case_figures(selection, rows))
    assert names == [
        "figure1_saliency",
        "figure4_shrinking_top5_beyond_range",
        "figure4_shrinking_topn_at_max",
        "figure7_masks",
        "margins",
    ]


@pytest.mark.parametrize(
    ("axis", "point", "words"),
    [
        ("epsilon", 0.02, "epsilon 0.02 (image units)"),
        ("epsilon", 8 / 255, "epsilon 0.0314 (image units)"),
        ("level", 1.0, "level 1 (image units)"),
        ("pixels", 50.0, "50 pixels a slice"),
        ("severity", 5.0, "severity 5"),
    ],
)
def test_points_are_named_with_their_unit(axis: str, point: float, words: str) -> None:
    assert point_words(axis, point) == words


def test_epsilon_is_given_in_parts_of_the_range_too() -> None:
    selection = choose_runs("Task90_Blob", "test", [(made_run(1), made_counts())])
    curve = curves_by_loss(selection)["bce"]
    epsilons = curve.assign(axis="epsilon", point=curve["point"] * 0.016)
    longest = epsilons["point"].iloc[-1]
    assert axis_label(selection, epsilons) == (
        f"epsilon (image units; {longest:.3g} is {500 * longest:.3g} % of the range)"
    )
    assert axis_label(selection, curve.assign(axis="severity")) == "severity, 1 to 5"
