"""What attacks see of a batch, what they derive from it once, and what identifies them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from robustness.attack import (
    GRADIENT_RANKINGS,
    Attack,
    AttackBatch,
    Passes,
    attacks_fingerprint,
)
from robustness.batches import attack_batch, fixed_size
from robustness.objectives import OBJECTIVES
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.saliency import Forward
from tests.robustness.reference import scores_of
from tests.robustness.toy import (
    CONF,
    CPU,
    CallCounter,
    ConvNet,
    Thresholded,
    as_batch,
    attack_specs,
    build,
    few_attacks,
    make_slices,
)


@dataclass(frozen=True)
class Inverted(Attack):
    """The smallest attack that a user could write."""

    @property
    def axis(self) -> str:
        return "times"

    @property
    def unit(self) -> str:
        return "inversions"

    @property
    def points(self) -> tuple[float, ...]:
        return (1.0,)

    @property
    def repeats(self) -> int:
        return 1

    @property
    def passes(self) -> Passes:
        return Passes(0, 0)

    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        yield 0, 0, 1 - batch.image


def _batch(forward: Forward, channels: int = 2, classes: int = 2) -> AttackBatch:
    slices = make_slices(8, channels=channels, classes=classes, size=12)
    (piece,) = fixed_size([as_batch(slices)], 8)
    return attack_batch(forward, piece, CPU)


def test_a_gradient_is_computed_once_for_all_who_ask() -> None:
    network = CallCounter(ConvNet(2, 2).eval())
    batch = _batch(network)
    for _ in range(3):
        for ranking in GRADIENT_RANKINGS:
            batch.ranked_pixels(ranking, 5)
            batch.ranked_pixels(ranking, 144)
            batch.without_gradient(ranking)
    objectives = {objective for objective, _ in GRADIENT_RANKINGS.values()}
    assert network.forwards == network.under_gradient == network.backwards == len(objectives) == 2


def test_rankings_name_objectives_that_exist() -> None:
    assert {objective for objective, _ in GRADIENT_RANKINGS.values()} <= set(OBJECTIVES)


@pytest.mark.parametrize("ranking", GRADIENT_RANKINGS)
def test_pixels_are_ranked_by_the_gradient_summed_over_channels(ranking: str) -> None:
    network, slices = ConvNet(2, 2).eval(), make_slices(8, channels=2, classes=2, size=12)
    found = _batch(network).ranked_pixels(ranking, 144)
    for row, one in enumerate(slices):
        scores = scores_of(network, one, ranking, 8)
        assert found[row].tolist() == sorted(range(144), key=scores.__getitem__, reverse=True)


def test_the_signed_the_absolute_and_the_logit_ranking_differ() -> None:
    batch = _batch(ConvNet(2, 2).eval())
    orders = [batch.ranked_pixels(ranking, 20).tolist() for ranking in GRADIENT_RANKINGS]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_more_pixels_than_an_image_has_are_refused() -> None:
    with pytest.raises(ValueError, match="145 pixels to take, but an image has only 144"):
        _batch(ConvNet(2, 2)).ranked_pixels("gradient", 145)


@pytest.mark.parametrize("ranking", GRADIENT_RANKINGS)
def test_slices_without_any_gradient_are_told_apart(ranking: str) -> None:
    batch = _batch(Thresholded(ConvNet(2, 2)).eval())
    assert batch.without_gradient(ranking).tolist() == [False] * 7 + [True]


def test_channels_that_cancel_in_the_sum_are_a_gradient_all_the_same() -> None:
    network = nn.Conv2d(2, 1, kernel_size=1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1))
    batch = _batch(network, classes=1)
    assert not batch.without_gradient("gradient").any()
    assert batch.ranked_pixels("gradient", 3).tolist() == [[0, 1, 2]] * 8


def test_an_attack_is_never_degenerate_unless_it_says_so() -> None:
    batch = _batch(Thresholded(ConvNet(2, 2)).eval())
    found = Inverted("inverted").degenerate(batch)
    assert found.dtype == torch.bool
    assert found.tolist() == [False] * 8


def test_settings_are_the_class_and_all_its_fields() -> None:
    assert Inverted("inverted").settings() == {"class": "Inverted", "name": "inverted"}
    assert LevelAttack("a", (0.5,), pixels=2).settings() == {
        "class": "LevelAttack",
        "name": "a",
        "levels": (0.5,),
        "pixels": 2,
        "ranking": "gradient",
        "repeats": 1,
    }


def test_the_fingerprint_is_the_same_for_the_same_attacks() -> None:
    specs = attack_specs(CONF / "default.yaml")
    first = attacks_fingerprint([build(spec) for spec in specs], 0)
    assert first == attacks_fingerprint([build(spec) for spec in specs], 0)
    assert len(bytes.fromhex(first)) == 32


def test_the_fingerprint_changes_with_every_setting() -> None:
    attacks = few_attacks()
    level, by_count, values, control = attacks
    assert isinstance(level, LevelAttack)
    assert isinstance(by_count, CountAttack)
    assert isinstance(values, CountAttack)
    assert isinstance(control, CountAttack)
    changed: list[list[Attack]] = [
        [replace(level, name="other"), *attacks[1:]],
        [replace(level, levels=(0.0, 0.5)), *attacks[1:]],
        [replace(level, pixels=4), *attacks[1:]],
        [replace(level, ranking="gradient_abs"), *attacks[1:]],
        [level, replace(by_count, value=0.3), values, control],
        [level, by_count, replace(values, repeats=4), control],
        [level, by_count, replace(values, high=0.9), control],
        [level, by_count, replace(values, low=0.1), control],
        [level, by_count, values, replace(control, values_like="")],
        [level, by_count, values],
        [by_count, level, values, control],
        [Inverted("levels"), by_count, values, control],
    ]
    prints = [attacks_fingerprint(attacks, 0), attacks_fingerprint(attacks, 1)]
    prints += [attacks_fingerprint(other, 0) for other in changed]
    assert len(set(prints)) == len(prints)
