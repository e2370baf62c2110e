"""Which attacks there are to choose from."""

import importlib
import pkgutil
from collections.abc import Iterator
from inspect import isabstract
from typing import Any

import robustness
from robustness.attack import Attack


def attack_classes() -> list[type[Attack]]:
    """All attacks of this project, by module and name."""
    for module in pkgutil.iter_modules(robustness.__path__):
        importlib.import_module(f"{robustness.__name__}.{module.name}")
    found = {kind for kind in _below(Attack) if kind.__module__.startswith("robustness.")}
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


def _below(parent: type) -> Iterator[type[Attack]]:
    children: Any = parent.__subclasses__()
    for child in children:
        if not isabstract(child):
            yield child
        yield from _below(child)
