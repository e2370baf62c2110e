"""Lists the losses, tells all about one, and holds a term of one's own against the laws."""

import inspect
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from commands.options import CommandParser
from errors import InputError

if TYPE_CHECKING:
    from lightning_module.losses.entry import Entry

_INDENT = 4
_WIDTH = 100


def main(arguments: Sequence[str]) -> int:
    """List losses, or check one.

    Args:
        arguments: What stands after ``losses`` on the command line.

    Returns:
        Exit status 0, or 1 where a checked term breaks a law.

    Raises:
        InputError: If an option is wrong or a name is unknown.
    """
    options = _parser().parse_args(arguments)
    # Imported late, so that --help and wrong options answer at once.
    from lightning_module.losses.building import find_entry  # noqa: PLC0415
    from lightning_module.losses.registry import TERMS  # noqa: PLC0415

    if options.check is not None:
        return _check(options.check)
    if options.name is not None:
        print("\n".join(_all_about(options.name, find_entry(options.name))))
    elif options.markdown:
        print(markdown_table(TERMS))
    else:
        print(
            f"{len(TERMS)} loss terms; --model.loss takes one or a sum, as 0.5*bce+dice(smooth=1)"
        )
        for name, entry in TERMS.items():
            print("\n" + "\n".join(_about(name, entry)))
    return 0


def markdown_table(terms: "dict[str, Entry]") -> str:
    """The table of the documentation: a row a term.

    Args:
        terms: Terms by name.
    """
    lines = [
        "| name | formula | outputs | range | on an empty mask | smoothing | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in terms.items():
        cells = [
            f"`{name}{_signature(entry)}`",
            entry.formula,
            ", ".join(entry.outputs),
            entry.range,
            entry.empty,
            entry.smooth,
            entry.source,
        ]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def _about(name: str, entry: "Entry") -> list[str]:
    facts = [
        entry.formula,
        f"{' or '.join(entry.outputs)}; range {entry.range}; smoothing {entry.smooth}",
        f"on an empty mask: {entry.empty}",
        entry.source,
    ]
    return [f"{name}{_signature(entry)}", *(line for fact in facts for line in _wrapped(fact))]


def _all_about(name: str, entry: "Entry") -> list[str]:
    lines = _about(name, entry) if entry.range else [f"{name}{_signature(entry)}"]
    for fact in (
        f"at the perfect prediction: {entry.minimum:g}" if "minimum" not in entry.exempt else "",
        f"computed here: {entry.why_own}" if entry.why_own else "",
        *(f"exempt from the law {law}: {reason}" for law, reason in entry.exempt.items()),
    ):
        lines += _wrapped(fact)
    return [*lines, "", inspect.getdoc(entry.term) or ""]


def _check(name: str) -> int:
    """Hold a term against every law and print how it did."""
    from lightning_module.losses.building import build_term, find_entry  # noqa: PLC0415
    from lightning_module.losses.expression import parse_expression  # noqa: PLC0415
    from lightning_module.losses.laws import LAWS, broken_law  # noqa: PLC0415

    spec, *more = parse_expression(name)
    if more:
        msg = f"--check: found a sum, {name}, expected one term; check them one by one"
        raise InputError(msg)
    entry = find_entry(spec.name)
    failed = 0
    for outputs in entry.outputs:
        print(f"{spec}, {outputs}")
        exclusive = outputs == "softmax"
        for law_name, law in LAWS.items():
            if law_name in entry.exempt:
                print(f"  exempt  {law_name:<9} {law.statement}: {entry.exempt[law_name]}")
                continue
            term = build_term(spec, exclusive=exclusive)
            broken = broken_law(law, term, exclusive=exclusive, minimum=entry.minimum)
            failed += broken is not None
            said = f": {broken}" if broken else ""
            print(f"  {'FAIL' if broken else 'pass':<7} {law_name:<9} {law.statement}{said}")
    print(f"{failed} broken" if failed else "all laws hold")
    return 1 if failed else 0


def _signature(entry: "Entry") -> str:
    """The arguments that an expression can give, with their defaults."""
    parameters = [
        f"{parameter.name}={_value(parameter.default)}"
        for parameter in inspect.signature(entry.term).parameters.values()
        if parameter.name != "exclusive" and parameter.default is not parameter.empty
    ]
    return f"({', '.join(parameters)})" if parameters else ""


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _wrapped(text: str) -> list[str]:
    indent = " " * _INDENT
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)


def _parser() -> CommandParser:
    parser = CommandParser(
        "losses",
        "List the loss terms that --model.loss knows, with formula, source, range, what each does "
        "on a mask without foreground, and its smoothing constant.",
        "A term of your own is package.module:Term, an nn.Module whose forward(logits, target, "
        "valid, sample_weight=None) reduces pixels to (B, K); docs/losses.md has the contract.",
    )
    parser.add_argument("name", nargs="?", help="tell all about one term")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/losses.md")
    parser.add_argument(
        "--check",
        metavar="TERM",
        help="hold a term against the laws of losses: a name, or package.module:Term(key=value) of "
        "your own; exit status 1 if it breaks one",
    )
    return parser
