"""Attacks that stop by themselves are repeated as often as they need, and the run says so."""

import json

import pytest
from torch import Tensor
from torch.nn import functional

from callbacks.robustness import RobustnessCallback
from callbacks.run_state import RunState
from robustness.attack import Attack
from robustness.counts import CLEAN, CountsFile
from robustness.minimum_norm import MinimumNormAttack
from robustness.pixel_attacks import CountAttack
from robustness.repeated_attack import FIRST_REPEATS
from tests.callbacks.toy import ToyModule, trainer, val_loader
from tests.places import NewLogger
from tracking.reading import fetch_counts, list_runs


class Blurred(ToyModule):
    """Finds what is bright on the whole: random pixels move its mask."""

    def forward(self, image: Tensor) -> Tensor:
        return 20 * (functional.avg_pool2d(image, 5, stride=1, padding=2) - 0.4)


def evaluated(new_logger: NewLogger, *attacks: Attack) -> CountsFile:
    logger = new_logger()
    callback = RobustnessCallback(list(attacks), pictures=0)
    runner = trainer(callback, RunState(), logger=logger)
    runner.validate(Blurred(), val_loader(), verbose=False)
    (run,) = [found for found in list_runs("trials") if found.run_id == logger.version]
    counts = fetch_counts(run, "val")
    assert counts is not None
    return counts


def test_each_point_has_as_many_repeats_as_were_said(
    new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(
        new_logger,
        CountAttack("drawn", (1, 60), repeats=30, half_width=0.002),
        CountAttack("narrow", (60,), repeats=8, half_width=1e-6),
        CountAttack("all", (60,), repeats=3),
    )
    kept = json.loads(found.metadata["repeats"])
    assert set(kept) == {"drawn", "narrow"}
    frame = found.frame
    made = {
        str(name): rows.groupby("point_index")["repeat"].nunique().tolist()
        for name, rows in frame.groupby("attack")
    }
    assert made["drawn"] == kept["drawn"]["repeats"]
    assert max(made["drawn"]) > FIRST_REPEATS
    assert made["narrow"] == [8]
    assert made["all"] == [3]
    # Both passes together have each slice once.
    slices = frame.groupby(["attack", "point_index", "repeat"])["slices_all"].sum()
    assert set(slices) == {frame.loc[frame["attack"] == CLEAN, "slices_all"].sum()}
    said = capsys.readouterr().out
    least, most = min(kept["drawn"]["repeats"]), max(kept["drawn"]["repeats"])
    assert f"drawn {least} to {most}, narrow 8" in said
    assert "further repeats of 2 attacks" in said
    assert "the mean Dice of narrow is known within +-0." in said


def test_a_second_pass_leaves_what_the_first_measured_alone(new_logger: NewLogger) -> None:
    shortest = MinimumNormAttack("shortest", (0.5,), high=1.0, steps=2)
    drawn = CountAttack("drawn", (60,), repeats=8, half_width=1e-6)
    alone, both = evaluated(new_logger, shortest), evaluated(new_logger, shortest, drawn)
    rows = both.frame[both.frame["attack"] != "drawn"].reset_index(drop=True)
    assert rows.equals(alone.frame)
