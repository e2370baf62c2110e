"""The short expressions that name a loss, such as ``0.5*bce+batch_dice+focal(gamma=3)``.

Grammar, in which nothing is ever evaluated::

    expression = item {"+" item}
    item       = [weight "*"] name ["(" [argument {"," argument}] ")"]
    name       = a name in the registry, or package.module:Term
    argument   = key "=" (number | "true" | "false" | word)
"""

import math
import re
from dataclasses import dataclass, field

from errors import InputError

Value = bool | int | float | str

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])"
    r"|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?::[A-Za-z_]\w*)?)"
    r"|(?P<symbol>[+*(),=]))",
    re.ASCII,
)
_INTEGER = re.compile(r"-?\d{1,15}", re.ASCII)
_EXAMPLE = "write it like 0.5*bce+focal(gamma=3)"
_WORDS: dict[str, bool] = {"true": True, "false": False}


@dataclass(frozen=True)
class TermSpec:
    """One term of an expression.

    Attributes:
        name: Name in the registry, or ``package.module:Term``.
        weight: Factor of the term, above 0.
        arguments: Keyword arguments of the term.
    """

    name: str
    weight: float = 1.0
    arguments: dict[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        """The term as it is written in an expression; parsing it gives an equal spec."""
        factor = "" if self.weight == 1 else f"{self.weight!r}*"
        pairs = (
            f"{key}={str(value).lower() if isinstance(value, bool) else value}"
            for key, value in self.arguments.items()
        )
        return f"{factor}{self.name}" + (f"({','.join(pairs)})" if self.arguments else "")


def parse_expression(text: str) -> tuple[TermSpec, ...]:
    """The terms of a loss expression, in order.

    Args:
        text: For example ``0.5*bce+focal(gamma=3)``; blanks are allowed between the parts.

    Returns:
        One spec a term; names are not looked up here.

    Raises:
        InputError: If the text does not follow the grammar, or a weight is not above 0 and finite.

    Example:
        >>> [str(spec) for spec in parse_expression("0.5*bce + focal(gamma=3)")]
        ['0.5*bce', 'focal(gamma=3)']
    """
    return _Parser(text).parse()


class _Parser:
    """Reads tokens from left to right; one method a rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokenize()
        self.position = 0

    def parse(self) -> tuple[TermSpec, ...]:
        specs = [self._item()]
        while self._peek() == ("symbol", "+"):
            self.position += 1
            specs.append(self._item())
        if self._peek()[0] != "end":
            msg = "'+' or the end"
            raise self._error(msg)
        return tuple(specs)

    def _item(self) -> TermSpec:
        weight = 1.0
        if self._peek()[0] == "number":
            weight = self._weight()
            self._take("symbol", "*", "'*' after a weight")
        name = self._take("name", None, "the name of a term")
        arguments: dict[str, Value] = {}
        if self._peek() == ("symbol", "("):
            self.position += 1
            while self._peek() != ("symbol", ")"):
                if arguments:
                    self._take("symbol", ",", "',' or ')'")
                self._argument(arguments)
            self.position += 1
        return TermSpec(name, weight, arguments)

    def _weight(self) -> float:
        weight = float(self._take("number", None, "a weight"))
        if not (math.isfinite(weight) and weight > 0):
            msg = (
                f"loss {self.text!r}: found weight {weight:g}, expected a finite number above 0; "
                "leave out a term that is not to count"
            )
            raise InputError(msg)
        return weight

    def _argument(self, arguments: dict[str, Value]) -> None:
        key = self._take("name", None, "the name of an argument")
        if key in arguments:
            msg = f"loss {self.text!r}: found argument {key!r} twice, expected it once; remove one"
            raise InputError(msg)
        self._take("symbol", "=", f"'=' after {key!r}")
        kind, word = self._peek()
        if kind == "number":
            arguments[key] = int(word) if _INTEGER.fullmatch(word) else float(word)
        elif kind == "name":
            arguments[key] = _WORDS.get(word.lower(), word)
        else:
            msg = f"a value for {key!r}"
            raise self._error(msg)
        self.position += 1

    def _take(self, kind: str, word: str | None, expected: str) -> str:
        found_kind, found = self._peek()
        if found_kind != kind or (word is not None and found != word):
            raise self._error(expected)
        self.position += 1
        return found

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.position]

    def _error(self, expected: str) -> InputError:
        kind, word = self._peek()
        found = "the end" if kind == "end" else repr(word)
        return InputError(f"loss {self.text!r}: found {found}, expected {expected}; {_EXAMPLE}")

    def _tokenize(self) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        text, position = self.text.rstrip(), 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                found = text[position:].lstrip()[0]
                msg = (
                    f"loss {self.text!r}: found {found!r} at position {position + 1}, "
                    f"expected a weight, a term, '+', '*' or arguments in brackets; {_EXAMPLE}"
                )
                raise InputError(msg)
            kind = match.lastgroup or ""
            tokens.append((kind, match.group(kind)))
            position = match.end()
        return [*tokens, ("end", "")]
