"""docs/attacks.md names every attack, objective, corruption and check there is, as they are."""

import importlib
import pkgutil
from collections.abc import Iterator
from inspect import isabstract
from pathlib import Path

import robustness
from robustness.attack import Attack
from robustness.corruption_kinds import KINDS
from robustness.objectives import OBJECTIVES
from robustness.orders import RANKINGS
from robustness.report_card import checks_table
from robustness.values import VALUES

TEXT = Path(__file__).resolve().parents[2].joinpath("docs", "attacks.md").read_text("utf-8")


def attack_classes(parent: type[Attack] = Attack) -> Iterator[type[Attack]]:
    for child in parent.__subclasses__():
        if child.__module__.startswith("robustness.") and not isabstract(child):
            yield child
        yield from attack_classes(child)


def test_every_attack_is_listed() -> None:
    for module in pkgutil.iter_modules(robustness.__path__):
        importlib.import_module(f"robustness.{module.name}")
    names = {kind.__name__ for kind in attack_classes()}
    assert len(names) >= 15
    assert not {name for name in names if name not in TEXT}


def test_every_word_that_a_setting_takes_is_listed() -> None:
    words = {*OBJECTIVES, *KINDS, *RANKINGS, *VALUES}
    assert not {word for word in words if f"`{word}`" not in TEXT}


def test_the_table_of_checks_is_that_of_the_code() -> None:
    assert checks_table() in TEXT
