"""The engine's counts are those of the slow reference, but for what rounding may decide."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustness.plan import make_plan
from tests.robustness.agreement import Agreement, compare
from tests.robustness.reference import Key, Slice, Tally, recipe, reference_counts
from tests.robustness.toy import (
    CONF,
    ConvNet,
    Thresholded,
    attack_specs,
    build,
    count,
    counts_by_key,
    few_repeats,
    make_slices,
)

SIZE = 16
SHAPES = [(1, 1), (1, 2), (2, 1), (2, 2)]


SPECS = [few_repeats(spec, repeats=5) for spec in attack_specs(CONF / "default.yaml")]

# Configurations of the paper's attacks. Directed attacks, corruptions and the like have references
# of their own, in the tests of their files.
CONFIGS = [
    path
    for path in sorted(CONF.rglob("*.yaml"))
    if attack_specs(path)
    and all(kind.startswith("robustness.pixel_attacks.") for kind, _ in attack_specs(path))
]


@cache
def _slices(channels: int, classes: int) -> list[Slice]:
    return make_slices(6, channels=channels, classes=classes, size=SIZE)


@cache
def _network(channels: int, classes: int) -> nn.Module:
    return ConvNet(channels, classes).eval()


@cache
def _reference(channels: int, classes: int, fill: int) -> dict[Key, Tally]:
    recipes = [recipe(*spec) for spec in SPECS]
    network, slices = _network(channels, classes), _slices(channels, classes)
    return reference_counts(network, slices, recipes, fill=fill)


@cache
def _found(channels: int, classes: int, batch_size: int) -> dict[Key, tuple[int, ...]]:
    attacks = [build(spec) for spec in SPECS]
    frame = count(
        _network(channels, classes), _slices(channels, classes), attacks, batch_size=batch_size
    )
    return counts_by_key(frame)


def _different(found: dict[Key, tuple[int, ...]], expected: dict[Key, Tally]) -> list[Key]:
    assert found.keys() == expected.keys()
    return [key for key, tally in expected.items() if found[key] != tally.numbers()]


@pytest.mark.parametrize(("channels", "classes"), SHAPES)
def test_every_number_of_every_default_attack_is_the_references(
    channels: int, classes: int
) -> None:
    expected = _reference(channels, classes, 8)
    assert len(expected) == len(make_plan([build(spec) for spec in SPECS]).rows) * 3 * classes
    assert not _different(_found(channels, classes, 8), expected)


@pytest.mark.parametrize("batch_size", [8, 16, 32])
@pytest.mark.parametrize("fill", [1, 8])
@pytest.mark.parametrize(("channels", "classes"), SHAPES)
def test_differences_between_batch_sizes_stay_within_rounding(
    channels: int, classes: int, fill: int, batch_size: int
) -> None:
    expected = _reference(channels, classes, fill)
    agreement = compare(_found(channels, classes, batch_size), expected, SIZE**2)
    _check(agreement, SIZE**2)


def _check(agreement: Agreement, pixels: int) -> None:
    """Nothing is unexplained, and little is left to rounding."""
    assert not agreement.unexplained
    assert agreement.borderline <= 3e-4 * agreement.slices * pixels
    assert agreement.tied <= 0.02 * agreement.slices
    assert agreement.different <= 0.01 * agreement.rows


def test_the_default_attacks_do_something_to_the_counts() -> None:
    """Guards the comparison itself: a network that ignores its input would agree with anything."""
    found = _found(1, 1, 8)
    clean = {key[3]: numbers[:3] for key, numbers in found.items() if key[0] == "clean"}
    moved = {key[0] for key, numbers in found.items() if numbers[:3] != clean[key[3]]}
    assert moved == {build(spec).name for spec in SPECS}
    assert all(sum(numbers[kind] for numbers in clean.values()) > 0 for kind in range(3))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configured_attack_has_a_reference_and_agrees(path: Path) -> None:
    specs = [few_repeats(spec) for spec in attack_specs(path)]
    network, slices = ConvNet(seed=1).eval(), make_slices(3, size=16, seed=1)
    attacks = [build(spec) for spec in specs]
    expected = reference_counts(network, slices, [recipe(*spec) for spec in specs], seed=11)
    assert not _different(counts_by_key(count(network, slices, attacks, seed=11)), expected)


def test_slices_without_a_gradient_are_attacked_and_counted_as_degenerate() -> None:
    network, slices = Thresholded(ConvNet(2, 2, seed=2)).eval(), _slices(2, 2)
    dark = [one for one in slices if one.image.max() < 0.5]
    assert len(dark) == 1
    expected = reference_counts(network, slices, [recipe(*spec) for spec in SPECS])
    found = counts_by_key(count(network, slices, [build(spec) for spec in SPECS]))
    assert not _different(found, expected)
    degenerate = {
        key[0]: tally.degenerate for key, tally in expected.items() if key[3] == dark[0].case
    }
    controls = {name for name in degenerate if name == "clean" or name.endswith("_control")}
    assert degenerate == {name: 0 if name in controls else 1 for name in degenerate}
    assert not any(tally.degenerate for key, tally in expected.items() if key[3] != dark[0].case)


def test_ties_in_the_gradient_go_to_the_lower_index_in_both() -> None:
    network = nn.Conv2d(1, 1, kernel_size=1)
    with torch.no_grad():
        network.weight.fill_(4.0)
        network.bias = nn.Parameter(torch.tensor([-1.0]))
    two_levels = [
        replace(one, image=(one.image > 0.5).astype("float32") / 4) for one in _slices(1, 1)
    ]
    expected = reference_counts(network, two_levels, [recipe(*spec) for spec in SPECS])
    assert sum(tally.tied_slices for tally in expected.values()) > 100
    found = counts_by_key(count(network, two_levels, [build(spec) for spec in SPECS]))
    assert not _different(found, expected)


def test_the_reference_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="does not know"):
        recipe("package.Wobble", {"name": "wobble"})
    with pytest.raises(ValueError, match="shear"):
        recipe("robustness.pixel_attacks.LevelAttack", {"name": "a", "levels": [1], "shear": 2})


ROW: Key = ("topn", 0, 0, "case_0", "class_0")


@pytest.mark.parametrize(
    ("changes", "explained"),
    [
        ({}, True),
        ({"tp": 49, "fn": 11, "slice_dice_q20": 9}, True),
        ({"fp": 22}, True),
        ({"tp": 49, "fn": 11, "fp": 22}, False),
        ({"fp": 23}, False),
        ({"fn": 11}, False),
        ({"slices_all": 4}, False),
        ({"slices": 1}, False),
        ({"degenerate": 1}, False),
        ({"change_q20": 8}, False),
    ],
)
def test_the_bound_finds_what_rounding_cannot_explain(
    changes: dict[str, Any], explained: bool
) -> None:
    expected = Tally(50, 20, 10, 0, 2, 3, 9, 7, 0, borderline=2 if "tp" not in changes else 1)
    found = replace(expected, **changes)
    agreement = compare({ROW: found.numbers()}, {ROW: expected}, 100)
    assert agreement.unexplained == ([] if explained else [ROW])
    assert agreement.different == bool(changes)


def test_the_bound_allows_a_tied_slice_all_its_pixels_and_no_more() -> None:
    expected = Tally(50, 20, 10, 0, 2, 3, 9, 7, 0, borderline=0, tied_slices=1)
    within, beyond = replace(expected, fp=50, change_q20=3), replace(expected, fp=51)
    assert not compare({ROW: within.numbers()}, {ROW: expected}, 30).unexplained
    assert compare({ROW: beyond.numbers()}, {ROW: expected}, 30).unexplained == [ROW]


def test_the_bound_misses_no_row() -> None:
    with pytest.raises(ValueError, match="rows differ"):
        compare({}, {ROW: Tally()}, 1)
