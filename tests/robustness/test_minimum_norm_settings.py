"""Settings of minimum-norm attacks: which are refused, and what the configuration has."""

import math
from typing import Any

import pytest

from robustness.minimum_norm import MinimumNormAttack
from robustness.objectives import OBJECTIVES
from tests.robustness.shortest import (
    batch_of,
    broken_network,
    scans,
)
from tests.robustness.toy import (
    CONF,
    attack_specs,
    build,
)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thresholds": ()}, "thresholds is"),
        ({"thresholds": (0.0,)}, "values of Dice in"),
        ({"thresholds": (1.1,)}, "values of Dice in"),
        ({"thresholds": (math.nan,)}, "values of Dice in"),
        ({"thresholds": (0.5, 0.5)}, "rising numbers, each once"),
        ({"norm": "l_inf"}, "norm is l_inf, expected one of linf, l2 .did you mean linf"),
        ({"steps": 0}, "steps is 0, expected 1 or more"),
        ({"tighten": -1}, "tighten is -1, expected 0 or more"),
        ({"share": 1.0}, "share is 1.0, expected a number between 0 and 1"),
        ({"low": 0.2}, "low and high is .*finite numbers, low below high"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"attack wrong: .*{message}"):
        MinimumNormAttack("wrong", **settings)


def test_an_unknown_objective_is_refused() -> None:
    attack = MinimumNormAttack("a", objective="dicey")
    with pytest.raises(ValueError, match="objective dicey: unknown"):
        next(attack.disturb(batch_of(scans(1), broken_network()), 0))


def test_the_configuration_has_both_norms() -> None:
    attacks = [build(spec) for spec in attack_specs(CONF / "robustness/add/minimum_norm.yaml")]
    assert [attack.settings()["norm"] for attack in attacks] == ["linf", "l2"]
    for attack in attacks:
        assert attack.settings()["objective"] in OBJECTIVES
        assert (attack.axis, attack.unit, attack.points) == ("threshold", "slice Dice", (0.5,))
