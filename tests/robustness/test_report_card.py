"""Each check of the card passes and fails at the numbers it says it does."""

import numpy as np
import pandas as pd
import pytest

from robustness.counts import CLEAN
from robustness.gradient_health import GradientHealth
from robustness.report_card import (
    APGD,
    APGD_DOUBLE,
    CHECKS,
    COLUMNS,
    FGSM,
    RANDOM,
    SQUARE,
    TOP,
    UNBOUNDED,
    report_card,
)

PIXELS = 10_000  # of truth in each case, so that Dice can be set to four digits
HEALTHY = GradientHealth(0, 1000, 0, 1000)
POINTS = (0.001, 0.004)
GOOD = {
    CLEAN: [0.9],
    FGSM: [0.85, 0.6],
    APGD: [0.8, 0.4],
    APGD_DOUBLE: [0.798, 0.395],
    UNBOUNDED: [0.0],
    SQUARE: [0.84, 0.7],
    TOP: [0.5],
    RANDOM: [0.8],
}


def counts(
    dice: dict[str, list[float]], *, cases: int = 6, repeats: dict[str, list[float]] | None = None
) -> pd.DataFrame:
    """Counts with a Dice at each point: cases lie around it, so that pairing matters."""
    rows = []
    for attack, means in dice.items():
        shifts = (repeats or {}).get(attack, [0.0])
        for repeat, shift in enumerate(shifts):
            for index, mean in enumerate(means):
                for case in range(cases):
                    spread = 0.0 if mean == 0 else 0.05 * (case - (cases - 1) / 2) / cases
                    tp = round((mean + shift + spread) * PIXELS)
                    # Dice = 2 tp / (2 tp + fp + fn) with fn = fp = PIXELS - tp.
                    row = (attack, index, repeat, f"case_{case}", tp, PIXELS - tp, PIXELS - tp)
                    rows.append(row)
    columns = ["attack", "point_index", "repeat", "case", "tp", "fp", "fn"]
    frame = pd.DataFrame(rows, columns=columns).assign(axis="epsilon", **{"class": "a"})
    return frame.assign(point=[POINTS[index % 2] for index in frame["point_index"]])


def status(frame: pd.DataFrame, check: str) -> str:
    (found,) = frame.loc[frame["check"] == check, "status"]
    return str(found)


def value(frame: pd.DataFrame, check: str) -> float:
    (found,) = frame.loc[frame["check"] == check, "value"]
    return float(found)


def test_a_sound_evaluation_passes_and_says_what_was_not_measured() -> None:
    card = report_card(counts(GOOD, repeats={APGD: [0.0, 0.002]}), HEALTHY)
    assert list(card.columns) == list(COLUMNS)
    assert list(card["check"]) == [check.name for check in CHECKS]
    assert set(card["status"]) == {"pass", "not applicable"}
    assert status(card, "transfer_does_not_beat_white_box") == "not applicable"
    assert (card["status"] == "pass").sum() == len(CHECKS) - 1
    assert value(card, "restarts_agree") == pytest.approx(0.002, abs=1e-4)


@pytest.mark.parametrize(
    ("check", "changed", "found"),
    [
        ("iterating_beats_one_step", {FGSM: [0.85, 0.38]}, 0.02),
        ("more_steps_change_nothing", {APGD_DOUBLE: [0.8, 0.37]}, 0.03),
        ("falls_with_budget", {APGD: [0.8, 0.85]}, 0.05),
        ("falls_with_budget", {APGD: [0.95, 0.4]}, 0.05),
        ("unbounded_reaches_zero", {UNBOUNDED: [0.2]}, 0.2),
        ("gradients_beat_random_search", {SQUARE: [0.7, 0.7]}, 0.1),
        ("top_pixels_beat_random_pixels", {RANDOM: [0.45]}, 0.05),
    ],
)
def test_a_check_fails_by_the_number_it_gives(
    check: str, changed: dict[str, list[float]], found: float
) -> None:
    card = report_card(counts({**GOOD, **changed}), HEALTHY)
    assert status(card, check) == "fail"
    assert value(card, check) == pytest.approx(found, abs=1e-4)


def test_within_the_tolerance_a_check_passes() -> None:
    card = report_card(counts({**GOOD, FGSM: [0.85, 0.395]}), HEALTHY)
    assert value(card, "iterating_beats_one_step") == pytest.approx(0.005, abs=1e-4)
    assert status(card, "iterating_beats_one_step") == "pass"


def test_restarts_that_differ_fail() -> None:
    card = report_card(counts(GOOD, repeats={APGD: [0.0, -0.05, 0.01]}), HEALTHY)
    assert status(card, "restarts_agree") == "fail"
    assert value(card, "restarts_agree") == pytest.approx(0.06, abs=1e-4)


@pytest.mark.parametrize(
    ("health", "check", "share"),
    [
        (GradientHealth(600, 1000, 0, 1000), "no_zero_gradients", 0.6),
        (GradientHealth(0, 1000, 900, 1000), "no_saturation", 0.9),
    ],
)
def test_masked_gradients_fail(health: GradientHealth, check: str, share: float) -> None:
    card = report_card(counts(GOOD), health)
    assert status(card, check) == "fail"
    assert value(card, check) == share


def test_transfer_fails_where_it_beats_the_white_box() -> None:
    card = report_card(
        counts(GOOD),
        HEALTHY,
        {"one": counts({CLEAN: [0.9], APGD: [0.85, 0.7]}), "two": counts({APGD: [0.7, 0.5]})},
    )
    assert status(card, "transfer_does_not_beat_white_box") == "fail"
    assert value(card, "transfer_does_not_beat_white_box") == pytest.approx(0.1, abs=1e-4)
    harmless = report_card(counts(GOOD), HEALTHY, {"one": counts({APGD: [0.85, 0.7]}, cases=8)})
    assert status(harmless, "transfer_does_not_beat_white_box") == "pass"


def test_too_few_cases_say_nothing() -> None:
    card = report_card(counts(GOOD, cases=4), HEALTHY)
    lines = card.set_index("check")
    assert set(lines.loc[lines["least_cases"] > 4, "status"]) == {"not applicable"}
    assert lines.loc["falls_with_budget", "note"] == "fewer than 5 cases with truth"
    assert lines.loc["no_saturation", "status"] == "pass"


def test_cases_without_truth_are_left_out() -> None:
    frame = counts(GOOD)
    empty = frame[frame["case"] == "case_0"].assign(case="empty", tp=0, fn=0, fp=7)
    with_empty = report_card(pd.concat([frame, empty]), HEALTHY)
    pd.testing.assert_frame_equal(with_empty, report_card(frame, HEALTHY))


def test_numbers_are_paired_over_cases_and_meant_over_repeats() -> None:
    frame = counts(GOOD, repeats={APGD: [-0.01, 0.01]})
    lines = report_card(frame, HEALTHY).set_index("check")
    assert lines.loc["gradients_beat_random_search", "value"] == pytest.approx(-0.04, abs=1e-4)
    assert np.isfinite(lines["value"].drop("transfer_does_not_beat_white_box")).all()


@pytest.mark.parametrize("check", ["more_steps_change_nothing", "restarts_agree"])
def test_changes_of_single_cases_do_not_make_up_for_each_other(check: str) -> None:
    """Half of the cases gain 0.2, half lose 0.2: the means are the same, the attack is not."""
    frame = counts(GOOD, repeats={APGD: [0.0, 0.0]})
    odd = frame["case"].isin(["case_1", "case_3", "case_5"])
    if check == "restarts_agree":
        at = (frame["attack"] == APGD) & (frame["repeat"] == 1)
    else:
        at = frame["attack"] == APGD_DOUBLE
    shift = np.where(odd, 1, -1) * round(0.2 * PIXELS)
    for name, sign in (("tp", 1), ("fp", -1), ("fn", -1)):
        frame[name] = np.where(at, frame[name] + sign * shift, frame[name])
    card = report_card(frame, HEALTHY)
    assert status(card, check) == "fail"
    assert value(card, check) == pytest.approx(0.2, abs=0.01)
