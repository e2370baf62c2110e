"""Settings of the attacks that make no sense are refused before anything is trained."""

from typing import Any

import pytest

from callbacks.robustness import RobustnessCallback
from errors import InputError
from robustness.attack import Attack
from robustness.pixel_attacks import LevelAttack
from tests.callbacks.toy import ATTACKS


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"every_n_epochs": -1}, ["--robustness.every_n_epochs", "-1"]),
        ({"batch_size": 1}, ["--robustness.batch_size", "1", "or more"]),
        ({"pictures": -1}, ["--robustness.pictures", "-1"]),
        (
            {"pictures": 1, "picture_attack": "top5"},
            ["--robustness.picture_attack", "top5", "top5_beyond_range, topn_random"],
        ),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as raised:
        RobustnessCallback(list(ATTACKS), **{"pictures": 0, **settings})
    message = str(raised.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("name", ["top5_beyond_range", "clean"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    twice: list[Attack] = [*ATTACKS, LevelAttack(name=name, levels=(0.5,))]
    with pytest.raises(InputError, match=rf"--robustness\.attacks.*{name}"):
        RobustnessCallback(twice)
