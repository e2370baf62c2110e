import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kornia.losses import dice_loss
from monai.losses.dice import DiceLoss, GeneralizedDiceLoss

from lightning_module.losses.compound import CompoundLoss
from lightning_module.losses.overlap import (
    Dice,
    DicePlusPlus,
    GeneralizedDice,
    LogCoshDice,
    OverlapTerm,
)
from tests.lightning_module.losses.references import (
    Pixels,
    assert_close,
    assert_formula,
    case,
    pixels,
)

seeds = st.integers(0, 10_000)
either = pytest.mark.parametrize("exclusive", [False, True], ids=["sigmoid", "softmax"])
NAMES = (
    "dice",
    "generalized_dice",
    "jaccard",
    "tversky",
    "focal_tversky",
    "log_cosh_dice",
    "dice_pp",
)


def generalized(image: list[list[tuple[float, float]]], smooth: float = 1e-5) -> float:
    """Generalized Dice of all classes, one minus the quotient of the sums in the paper."""
    true = [sum(y for _, y in one) for one in image]
    smallest = min((size for size in true if size), default=1.0)
    weights = [(smallest / size) ** 2 if size else 1.0 for size in true]
    shared = sum(w * sum(p * y for p, y in one) for w, one in zip(weights, image, strict=True))
    sizes = sum(w * sum(p + y for p, y in one) for w, one in zip(weights, image, strict=True))
    return 1 - (2 * shared + smooth) / (sizes + smooth)


def log_cosh(one: list[tuple[float, float]]) -> float:
    shared, sizes = sum(p * y for p, y in one), sum(p + y for p, y in one)
    return math.log(math.cosh(1 - (2 * shared + 1) / (sizes + 1)))


def plus_plus(one: list[tuple[float, float]], gamma: float) -> float:
    shared = 2 * sum(p * y for p, y in one) + 1e-5
    positives = sum(((1 - y) * p) ** gamma for p, y in one)
    negatives = sum((y * (1 - p)) ** gamma for p, y in one)
    return float(1 - shared / (shared + positives + negatives))


@either
@given(seeds)
def test_losses_of_each_class_are_their_formulas(exclusive: bool, seed: int) -> None:
    given_case = case(exclusive=exclusive, seed=seed)
    images: Pixels = pixels(*given_case, exclusive=exclusive)

    softened = LogCoshDice(exclusive=exclusive)(*given_case)
    powered = DicePlusPlus(gamma=2.5, exclusive=exclusive)(*given_case)

    assert_formula(softened, [[log_cosh(one) for one in image] for image in images])
    assert_formula(powered, [[plus_plus(one, 2.5) for one in image] for image in images])


@either
@given(seeds)
def test_mean_of_the_classes_of_generalized_dice_is_the_published_value(
    exclusive: bool, seed: int
) -> None:
    logits, target, valid = case(exclusive=exclusive, seed=seed)
    if not exclusive:
        target[0, 1] = 0
        target[1] = 0

    values = GeneralizedDice(exclusive=exclusive)(logits, target, valid)

    images = pixels(logits, target, valid, exclusive=exclusive)
    assert_formula(values.mean(1, keepdim=True), [[generalized(image)] for image in images])


@given(seeds)
def test_generalized_dice_without_background_joins_the_other_classes_alone(seed: int) -> None:
    logits, target, valid = case(exclusive=True, seed=seed)

    values = GeneralizedDice(background=False, exclusive=True)(logits, target, valid)

    images = pixels(logits, target, valid, exclusive=True)
    assert_formula(values[:, 1:].mean(1, keepdim=True), [[generalized(one[1:])] for one in images])
    assert not values[:, 0].any()


@given(st.sampled_from(NAMES), seeds)
def test_background_left_out_leaves_the_mean_over_the_other_classes(name: str, seed: int) -> None:
    logits, target, valid = case(exclusive=True, seed=seed)
    swapped = [0, 2, 1]
    loss = CompoundLoss(f"{name}(background=false)", exclusive=True)

    value = loss(logits, target, valid)
    turned = loss(logits[:, swapped], target[:, swapped], valid)
    untold = loss(logits, target * torch.tensor([0.0, 1.0, 1.0]).view(1, 3, 1, 1), valid)

    assert not value.ledger[:, :, 0].any()
    torch.testing.assert_close(value.total, value.ledger[0, :, 1:].mean())
    torch.testing.assert_close(turned.total, value.total)
    torch.testing.assert_close(untold.total, value.total)


def test_generalized_dice_agrees_with_monai_and_kornia() -> None:
    logits, target, valid = case(exclusive=True, samples=4, size=8, all_valid=True)
    logits, target = logits.float(), target.float()
    by_monai = GeneralizedDiceLoss(softmax=True, smooth_nr=0, smooth_dr=0, reduction="none")
    foreground = GeneralizedDiceLoss(
        softmax=True, include_background=False, smooth_nr=0, smooth_dr=0, reduction="none"
    )
    term = GeneralizedDice(smooth=1e-12, exclusive=True)
    without = GeneralizedDice(smooth=1e-12, exclusive=True, background=False)

    values = term(logits, target, valid)

    assert_close(values.mean(1), by_monai(logits, target))
    assert_close(without(logits, target, valid)[:, 1:].mean(1), foreground(logits, target))
    for image in range(4):
        one = slice(image, image + 1)
        weight = target[image].sum((1, 2)).square().reciprocal()
        theirs = dice_loss(logits[one], target[one].argmax(1), weight=weight, eps=0.0)
        assert_close(values[image].mean(), theirs)


def test_generalized_dice_of_an_absent_class_agrees_with_monai() -> None:
    logits, target, valid = case(exclusive=False, all_valid=True)
    logits, target = logits.float(), target.float()
    target[:, 1] = 0
    by_monai = GeneralizedDiceLoss(sigmoid=True, smooth_nr=0, smooth_dr=0, reduction="none")

    values = GeneralizedDice(smooth=1e-12)(logits, target, valid)

    assert_close(values.mean(1), by_monai(logits, target))


@either
def test_log_cosh_and_dice_plus_plus_agree_with_monai_and_kornia(exclusive: bool) -> None:
    logits, target, valid = case(exclusive=exclusive, samples=4, size=8, all_valid=True)
    logits, target = logits.float(), target.float()
    activation: dict[str, Any] = {
        "softmax": exclusive,
        "sigmoid": not exclusive,
        "reduction": "none",
    }
    plain = DiceLoss(**activation)(logits, target)
    of_one = DiceLoss(smooth_nr=1, smooth_dr=1, **activation)(logits, target)

    softened = LogCoshDice(exclusive=exclusive)(logits, target, valid)
    powered = DicePlusPlus(gamma=1, exclusive=exclusive)(logits, target, valid)

    assert_close(softened, of_one + (1 + (-2 * of_one).exp()).log() - math.log(2.0))
    assert_close(powered, plain)
    if exclusive:
        theirs = dice_loss(logits, target.argmax(1), average="macro", eps=0.0)
        ours = DicePlusPlus(gamma=1, smooth=1e-12, exclusive=True)(logits, target, valid)
        assert_close(ours.mean(), theirs)


@either
def test_dice_plus_plus_of_plain_errors_is_dice_of_plain_denominators(exclusive: bool) -> None:
    given_case = case(exclusive=exclusive)

    values = DicePlusPlus(gamma=1, exclusive=exclusive)(*given_case)

    torch.testing.assert_close(values, Dice(squared=False, exclusive=exclusive)(*given_case))


def test_generalized_dice_of_one_class_is_dice_of_plain_denominators() -> None:
    logits, target, valid = case(exclusive=False)

    values = GeneralizedDice()(logits[:, :1], target[:, :1], valid)

    torch.testing.assert_close(values, Dice(squared=False)(logits[:, :1], target[:, :1], valid))


def test_generalized_dice_weighs_a_small_class_like_a_large_one() -> None:
    target = torch.zeros(1, 2, 20, 20)
    target[:, 0] = 1
    target[:, 1, 0, :4] = 1
    valid = torch.ones(1, 1, 20, 20, dtype=torch.bool)

    def loss_without(missed: int) -> float:
        logits = 50 * (2 * target - 1)
        logits[:, missed] = -50
        value: torch.Tensor = GeneralizedDice()(logits, target, valid)
        return value.mean().item()

    # Of weights 1 / n^2 class 0 has a joint size of 2 / 400 and class 1 of 2 / 4; missed, of half.
    assert loss_without(0) == pytest.approx((1 / 400) / (1 / 400 + 2 / 4), rel=1e-4)
    assert loss_without(1) == pytest.approx((1 / 4) / (2 / 400 + 1 / 4), rel=1e-4)


def test_dice_plus_plus_forgives_small_errors() -> None:
    target = torch.ones(1, 1, 4, 4)
    nearly = torch.full_like(target, 2.0)

    by_power = [DicePlusPlus(gamma=g)(nearly, target, target.bool()).item() for g in (1, 2, 3)]

    assert by_power[0] > 4 * by_power[1] > 16 * by_power[2] > 0


@either
@pytest.mark.parametrize("kind", [LogCoshDice, DicePlusPlus, GeneralizedDice])
@pytest.mark.parametrize("background", [True, False])
def test_nothing_waits_for_values(
    kind: type[OverlapTerm], background: bool, exclusive: bool
) -> None:
    logits, target, valid = (tensor.to("meta") for tensor in case(exclusive=exclusive))

    value = kind(background=background, exclusive=exclusive)(logits, target, valid)

    assert value.shape == logits.shape[:2]
