"""Whatever a parser says becomes one line that names option, found and expected."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ArgumentParser

from commands.messages import parser_message


class SaidError(Exception):
    """Carries what a parser wanted to print."""


class Parser(ArgumentParser):
    """Hands its message on instead of printing it."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        raise SaidError(message) from ex


def message_of(arguments: list[str]) -> str:
    parser = Parser(allow_abbrev=False)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--limit", type=int | float | None, default=None)
    parser.add_argument("--weights", type=list[float] | Literal["even", "rare"] | None)
    parser.add_argument("--on", type=bool, default=False)
    parser.add_argument("--window", type=tuple[float, float] | None)
    parser.add_argument("--kernel", type=tuple[int, int, int] | float | None)
    parser.add_argument("--pair", type=tuple[str, int] | None)
    parser.add_argument("--size", type=tuple[int, int], default=(64, 64))
    with pytest.raises(SaidError) as raised:
        parser.parse_args(arguments)
    return parser_message(str(raised.value), ["--epochs", "--rate", "--limit", "--on"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs", "many"], ["--epochs", "many", "a whole number"]),
        (["--epochs", "1.5"], ["--epochs", "1.5", "a whole number"]),
        (["--rate", "fast"], ["--rate", "fast", "a number"]),
        (["--on", "perhaps"], ["--on", "perhaps", "true or false"]),
        (["--limit", "few"], ["--limit", "few", "a whole number or a number or null"]),
        (
            ["--weights", "rarest"],
            ["--weights", "rarest", "a list, each a number or one of 'even', 'rare' or null"],
        ),
        (
            ["--window", "1.0"],
            ["--window: found 1.0, expected two numbers such as [1.0,2.0], or null"],
        ),
        (["--window", "[1,1,1]"], ["found [1, 1, 1], expected two numbers such as [1.0,2.0], or"]),
        (
            ["--kernel", "[3]"],
            ["expected three whole numbers such as [1,2,3], or a number, or null"],
        ),
        (["--pair", "one"], ["found one, expected [a text, a whole number] or null"]),
        (["--size", "64"], ["--size: found 64, expected values in brackets, such as [64,64]"]),
        (["--size", "[8,8,8]"], ["--size: found [8, 8, 8], expected 2 values"]),
        (["--size", "[a,8]"], ["--size: found a, expected a whole number"]),
        (["--epoch", "3"], ["--epoch", "did you mean --epochs?"]),
        (["--wholly_else", "3"], ["--wholly_else", "unknown option"]),
    ],
)
def test_the_messages_of_the_pinned_parser_are_understood(
    arguments: list[str], words: list[str]
) -> None:
    message = message_of(arguments)
    assert "\n" not in message
    assert all(word in message for word in words), message
    assert "Parser key" not in message


@given(st.text(max_size=2_000))
def test_any_message_becomes_one_line_of_bounded_length(text: str) -> None:
    line = parser_message(text, ["--epochs"], ["package.module.Class"])
    assert len(line) <= 400
    assert len(line.splitlines()) <= 1


def test_a_message_it_does_not_know_is_kept() -> None:
    assert parser_message("first\n  second") == "first second"
