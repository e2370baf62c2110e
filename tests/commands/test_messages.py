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
