"""Entries by name, and what an unknown name is told."""

import pytest

from robustness.names import find_named

TABLE = {"linear": 1, "quadratic": 2}


def test_the_entry_of_a_name_is_found() -> None:
    assert [find_named("shape", name, TABLE) for name in TABLE] == [1, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("liner", "shape liner: unknown; did you mean linear? expected one of linear, quadratic"),
        ("?", "shape ?: unknown; expected one of linear, quadratic"),
    ],
)
def test_an_unknown_name_answers_with_the_nearest_and_with_all(name: str, message: str) -> None:
    with pytest.raises(ValueError, match="unknown") as caught:
        find_named("shape", name, TABLE)
    assert str(caught.value) == message
