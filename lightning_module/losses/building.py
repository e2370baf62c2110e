"""From the name of a loss term to the term."""

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeGuard

from torch import nn

from errors import InputError
from lightning_module.losses.entry import EITHER, Entry
from lightning_module.losses.expression import TermSpec
from lightning_module.losses.registry import TERMS

# A module of layers may have a hundred classes; the message stays one line.
_LISTED = 10

# Said by the network and not in an expression.
_GIVEN = "exclusive"


def build_term(spec: TermSpec, *, exclusive: bool = False) -> nn.Module:
    """The term that a spec names.

    Args:
        spec: Name in ``TERMS`` or ``package.module:Term``, with keyword arguments.
        exclusive: Whether the classes exclude each other (softmax) or not (a sigmoid each).

    Returns:
        The term, ``term(logits, target, valid, sample_weight=None) -> (B, K) or (1, K)``.

    Raises:
        InputError: If the name is unknown, cannot be imported or is no term, an argument does
            not fit, or the term is not for such classes.
    """
    entry = find_entry(spec.name)
    _check_outputs(spec.name, entry, spec.arguments, exclusive=exclusive)
    parameters = inspect.signature(entry.term).parameters
    _check_arguments(spec, [name for name in parameters if name != _GIVEN], entry.term)
    # A term of the user's own that does not ask for it knows what its logits are.
    given = {_GIVEN: exclusive} if _GIVEN in parameters else {}
    try:
        return entry.term(**spec.arguments, **given)
    except (TypeError, ValueError) as error:
        msg = f"loss term {spec.name!r}: {error}; change the argument in --model.loss"
        raise InputError(msg) from error


def find_entry(name: str) -> Entry:
    """What is known of a term.

    Args:
        name: Name in ``TERMS`` or ``package.module:Term``.

    Raises:
        InputError: If the name is unknown, cannot be imported or is no term.
    """
    return _imported(name) if ":" in name else _registered(name)


def _registered(name: str) -> Entry:
    if name not in TERMS:
        msg = (
            f"loss term: found {name!r}, expected {_choice(name, TERMS)}; "
            "correct it in --model.loss, where a term of your own is package.module:Term"
        )
        raise InputError(msg)
    return TERMS[name]


def _imported(name: str) -> Entry:
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever somebody's own module raises is theirs to mend
        reason = " ".join(str(error).split())
        msg = (
            f"loss term {name!r}: module {module_name!r} cannot be imported "
            f"({type(error).__name__}: {reason}); mend it, install it or put it beside main.py"
        )
        raise InputError(msg) from error
    found = getattr(module, class_name, None)
    if not _is_term(found):
        options = sorted(key for key, value in vars(module).items() if _is_term(value))
        msg = (
            f"loss term {name!r}: found no nn.Module class {class_name!r} in {module_name!r}, "
            f"expected {_choice(class_name, options, _LISTED)}; correct the name"
        )
        raise InputError(msg)
    try:
        inspect.signature(found.forward).bind("self", "logits", "target", "valid", "sample_weight")
    except TypeError as error:
        msg = (
            f"loss term {name!r}: {class_name}.forward {error}, "
            "expected forward(self, logits, target, valid, sample_weight=None); write it so"
        )
        raise InputError(msg) from error
    outputs, exempt = getattr(found, "outputs", EITHER), getattr(found, "exempt", {})
    if not set(outputs) <= set(EITHER) or not outputs or not isinstance(exempt, Mapping):
        msg = (
            f"loss term {name!r}: found outputs {outputs!r} and exempt {exempt!r}, expected such "
            'as ("sigmoid",) and {"minimum": "the reason"}; correct the class'
        )
        raise InputError(msg)
    doc = " ".join((inspect.getdoc(found) or "").split("\n\n")[0].split())
    return Entry(
        found,
        formula=doc,
        source=name,
        range="",
        empty="",
        outputs=tuple(outputs),
        exempt=dict(exempt),
    )


def _is_term(found: object) -> TypeGuard[type[nn.Module]]:
    return inspect.isclass(found) and issubclass(found, nn.Module)


def _check_outputs(
    name: str, entry: Entry, arguments: Mapping[str, object], *, exclusive: bool
) -> None:
    wanted = "softmax" if exclusive else "sigmoid"
    if "background" in arguments and not exclusive:
        msg = (
            f"loss term {name!r}: found the argument background, expected none, because the "
            "network has no background class; leave it out, or set --model.outputs softmax"
        )
        raise InputError(msg)
    if wanted not in entry.outputs:
        (other,) = entry.outputs
        msg = (
            f"loss term {name!r}: found --model.outputs {wanted}, expected {other}; "
            "change the loss or the outputs"
        )
        raise InputError(msg)


def _check_arguments(spec: TermSpec, known: Sequence[str], term: type[nn.Module]) -> None:
    parameters = inspect.signature(term).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    for key in spec.arguments:
        if key not in known:
            msg = (
                f"loss term {spec.name!r}: found argument {key!r}, "
                f"expected {_choice(key, known)}; correct it in --model.loss"
            )
            raise InputError(msg)


def _choice(name: str, options: Iterable[str], listed: int | None = None) -> str:
    """What could have stood in place of a name: the options, and which of them are near."""
    by_lower = {option.lower(): option for option in options}
    if not by_lower:
        return "none"
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    hint = f" (nearest: {', '.join(by_lower[key] for key in near)})" if near else ""
    more = ", ..." if listed is not None and len(by_lower) > listed else ""
    return f"one of {', '.join(islice(by_lower.values(), listed))}{more}{hint}"
