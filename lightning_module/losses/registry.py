"""The loss terms that have a name, and how a name becomes a term."""

import difflib
import importlib
import inspect
from collections.abc import Iterable
from itertools import islice
from typing import TypeGuard

from torch import nn

from errors import InputError
from lightning_module.losses.expression import TermSpec
from lightning_module.losses.terms import BatchDice, BinaryCrossEntropy, Dice, Focal

TERMS: dict[str, type[nn.Module]] = {
    "bce": BinaryCrossEntropy,
    "dice": Dice,
    "batch_dice": BatchDice,
    "focal": Focal,
}

# A module of layers may have a hundred classes; the message stays one line.
_LISTED = 10


def build_term(spec: TermSpec) -> nn.Module:
    """The term that a spec names.

    Args:
        spec: Name in ``TERMS`` or ``package.module:Term``, with keyword arguments.

    Returns:
        The term, ``term(logits, target, valid, sample_weight=None) -> (B, K) or (1, K)``.

    Raises:
        InputError: If the name is unknown, cannot be imported or is no term, or an argument does
            not fit.
    """
    factory = _imported(spec.name) if ":" in spec.name else _registered(spec.name)
    _check_arguments(spec, factory)
    try:
        return factory(**spec.arguments)
    except (TypeError, ValueError) as error:
        msg = f"loss term {spec.name!r}: {error}; change the argument in --model.loss"
        raise InputError(msg) from error


def _registered(name: str) -> type[nn.Module]:
    if name not in TERMS:
        msg = (
            f"loss term: found {name!r}, expected {_choice(name, TERMS)}; "
            "correct it in --model.loss, where a term of your own is package.module:Term"
        )
        raise InputError(msg)
    return TERMS[name]


def _imported(name: str) -> type[nn.Module]:
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        msg = (
            f"loss term {name!r}: module {module_name!r} cannot be imported ({error}); "
            "install it or put it beside main.py"
        )
        raise InputError(msg) from error
    found = getattr(module, class_name, None)
    if not _is_term(found):
        options = sorted(key for key, value in vars(module).items() if _is_term(value))
        msg = (
            f"loss term {name!r}: found no nn.Module class {class_name!r} in {module_name!r}, "
            f"expected {_choice(class_name, options)}; correct the name"
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
    return found


def _is_term(found: object) -> TypeGuard[type[nn.Module]]:
    return inspect.isclass(found) and issubclass(found, nn.Module)


def _check_arguments(spec: TermSpec, factory: type[nn.Module]) -> None:
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in spec.arguments:
        if key not in parameters:
            msg = (
                f"loss term {spec.name!r}: found argument {key!r}, "
                f"expected {_choice(key, parameters)}; correct it in --model.loss"
            )
            raise InputError(msg)


def _choice(name: str, options: Iterable[str]) -> str:
    """What could have stood in place of a name: the options, and which of them are near."""
    by_lower = {option.lower(): option for option in options}
    if not by_lower:
        return "none"
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    hint = f" (nearest: {', '.join(by_lower[key] for key in near)})" if near else ""
    more = ", ..." if len(by_lower) > _LISTED else ""
    return f"one of {', '.join(islice(by_lower.values(), _LISTED))}{more}{hint}"
