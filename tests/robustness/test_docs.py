"""docs/ name every attack, objective, corruption, method, measure and check, as they are."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from inspect import isabstract
from pathlib import Path

import robustness
from robustness.attack import Attack
from robustness.attribution import METHODS
from robustness.attribution_method import OBJECTIVE
from robustness.corruption_kinds import KINDS
from robustness.explained import EXPLAINED, explained_words
from robustness.objectives import OBJECTIVES
from robustness.orders import RANKINGS
from robustness.report_card import checks_table
from robustness.spread import BAND, measure_names
from robustness.stability import stability
from robustness.temperature import OUTPUTS
from robustness.trust import FEW, TrustThresholds
from robustness.values import VALUES

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "attacks.md").read_text("utf-8")
SALIENCY = (DOCS / "saliency.md").read_text("utf-8")


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


def test_every_method_is_listed_with_its_unit_and_passes() -> None:
    for name, kind in METHODS.items():
        method = kind()
        passes = method.passes(64, 64)
        place = f"{kind.__module__.removeprefix('robustness.')}.{kind.__name__}"
        unit = method.unit.replace(OBJECTIVE, "O")
        row = f"| `{name}` | `{place}` | {unit} | {passes.forward} | {passes.backward} |"
        assert row in SALIENCY


def test_everything_that_can_be_explained_is_listed() -> None:
    for name in EXPLAINED:
        assert f"| `{name}` | {explained_words(name)} |" in SALIENCY


def test_measures_and_checks_are_listed() -> None:
    measures = {name for name in measure_names() if not name.startswith("active_share_")}
    assert not {name for name in {*measures, *OUTPUTS} if f"`{name}`" not in SALIENCY}
    assert str(BAND).removesuffix(".0") + " pixels of its border" in SALIENCY
    assert "`active_share_<t>`" in SALIENCY
    thresholds = TrustThresholds()
    assert f"at most {thresholds.randomised} in size" in SALIENCY
    assert f"rank correlation of {thresholds.stable} or more" in SALIENCY
    noise = inspect.signature(stability).parameters["noise"].default
    assert f"noise of {noise:.0%} of the slice's range" in SALIENCY.replace(" %", "%")
    assert f"fewer than {FEW} tell little" in SALIENCY
