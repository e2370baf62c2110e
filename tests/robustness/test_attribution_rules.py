"""A set of rules is complete or cannot be built."""

from typing import Any

import pytest

from robustness.attribution_rules import GuidedRules, RescaleRules, Rules

PARTS = ["has_rule", "is_plain", "apply", "advice"]


def _rules(parts: list[str]) -> type[Any]:
    return type("Some", (Rules,), {name: getattr(GuidedRules, name) for name in parts})


@pytest.mark.parametrize("missing", PARTS)
def test_rules_without_one_of_their_parts_cannot_be_built(missing: str) -> None:
    incomplete = _rules([name for name in PARTS if name != missing])
    with pytest.raises(TypeError, match=f"abstract class Some .*abstract method '?{missing}"):
        incomplete("method", [])


@pytest.mark.parametrize("complete", [_rules(PARTS), GuidedRules, RescaleRules])
def test_rules_with_all_their_parts_can_be_built(complete: type[Rules]) -> None:
    assert "choose" in complete("method", []).advice
