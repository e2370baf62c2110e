"""A report card is made where it is asked for, and of the cases it is asked for."""

import json

import pandas as pd
import pytest

from callbacks.report_card import HEALTH, verdict_line
from callbacks.robustness import RobustnessCallback
from callbacks.run_state import RunState
from errors import InputError
from robustness.card_attacks import card_attacks
from robustness.counts import CLEAN
from robustness.gradient_health import GradientHealth
from robustness.report_card import CHECKS, report_card
from tests.callbacks.toy import ATTACKS, ToyModule, slices, trainer, val_loader
from tests.places import NewLogger
from tracking.reading import StoredRun, fetch_card_counts, fetch_report_card, list_runs


def validated(new_logger: NewLogger, **settings: object) -> StoredRun:
    attacks = RobustnessCallback(
        list(ATTACKS[:1]),
        batch_size=16,
        pictures=0,
        **settings,  # type: ignore[arg-type]
    )
    logger = new_logger()
    trainer(attacks, RunState(), logger=logger).validate(ToyModule(), val_loader(), verbose=False)
    (run,) = [run for run in list_runs("trials") if run.run_id == logger.version]
    return run


def test_the_card_is_made_of_the_first_cases_by_name(
    new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    run = validated(new_logger, card_cases=2, card_steps=2)
    counts, card = fetch_card_counts(run, "val"), fetch_report_card(run, "val")
    assert counts is not None
    assert card is not None
    assert set(counts.frame["case"]) == {"v0", "v1"}
    names = {attack.name for attack in card_attacks(0.0, 0.2)}
    assert set(counts.frame["attack"]) == {CLEAN, *names}
    settings = {each["name"]: each for each in json.loads(counts.metadata["attack_settings"])}
    assert settings["card_apgd"]["steps"] == 2
    assert settings["card_apgd_double"]["steps"] == 4

    assert list(card["check"]) == [check.name for check in CHECKS]
    health = GradientHealth.from_text(counts.metadata[HEALTH])
    assert health.outputs == sum(sample["image"].numel() for sample in slices(["v0", "v1"]))
    again = report_card(counts.frame, health)
    pd.testing.assert_frame_equal(
        card.fillna({"note": ""}), again, check_dtype=False, check_exact=False
    )
    printed = capsys.readouterr().out
    assert verdict_line(again) in printed
    assert "7 attacks on 2 cases" in printed


def test_no_card_is_made_unless_asked_for(new_logger: NewLogger) -> None:
    run = validated(new_logger)
    assert fetch_card_counts(run, "val") is None
    assert fetch_report_card(run, "val") is None


def test_intensities_are_those_asked_for(new_logger: NewLogger) -> None:
    run = validated(new_logger, card_cases=1, card_steps=1, max_pixel=1.0)
    counts = fetch_card_counts(run, "val")
    assert counts is not None
    points = counts.frame.groupby("attack")["point"].unique()
    assert points["card_fgsm"].tolist() == [0.005, 0.02, 0.08]
    assert points["card_unbounded"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"card_cases": -1}, "--robustness.card_cases: found -1"),
        ({"card_steps": 0}, "--robustness.card_steps: found 0"),
        ({"max_pixel": 0.0}, "--data.max_pixel: found"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RobustnessCallback(list(ATTACKS), **settings)  # type: ignore[arg-type]


def test_the_line_of_a_card_names_what_failed() -> None:
    card = pd.DataFrame(
        {"check": ["a", "b", "c", "d"], "status": ["pass", "fail", "not applicable", "pass"]}
    )
    assert verdict_line(card) == ("Report card: 2 of 4 checks passed, 1 not applicable; failed: b")
