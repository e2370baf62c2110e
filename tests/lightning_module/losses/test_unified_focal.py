import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses.unified_focal_loss import (
    AsymmetricFocalLoss,
    AsymmetricFocalTverskyLoss,
    AsymmetricUnifiedFocalLoss,
)
from torch import Tensor

from lightning_module.losses.cross_entropy import BinaryCrossEntropy
from lightning_module.losses.overlap import Dice
from lightning_module.losses.unified_focal import UnifiedFocal
from tests.lightning_module.losses.cases import (
    assert_background_can_be_left_out,
    assert_runs_without_values,
    everywhere,
)
from tests.lightning_module.losses.references import case
from tests.lightning_module.toy import random_case

seeds = st.integers(0, 10_000)
WEIGHT, DELTA, GAMMA = 0.3, 0.7, 0.4
Pairs = list[tuple[float, float]]


def pairs(probs: Tensor, target: Tensor, valid: Tensor) -> Pairs:
    kept = valid.flatten().tolist()
    values = zip(probs.flatten().tolist(), target.flatten().tolist(), kept, strict=True)
    return [(p, y) for p, y, counts in values if counts]


def focal(values: Pairs, *, background: bool) -> float:
    """Mean cross-entropy of the pixels of a class; the background's is focused."""
    if background:
        terms = [(1 - DELTA) * math.pow(1 - p, GAMMA) * math.log(p) for p, y in values if y]
    else:
        terms = [DELTA * math.log(p) for p, y in values if y]
    return -sum(terms) / len(values)


def tversky(values: Pairs, *, background: bool) -> float:
    hit = sum(p * y for p, y in values)
    missed = sum((1 - p) * y for p, y in values)
    added = sum(p * (1 - y) for p, y in values)
    index = (hit + 1e-7) / (hit + DELTA * missed + (1 - DELTA) * added + 1e-7)
    return math.pow(1 - index, 1 if background else 1 - GAMMA)


@given(seeds)
def test_loss_of_sigmoids_is_the_papers_formula_for_two_classes(seed: int) -> None:
    logits, target, valid = random_case(seed=seed)

    values = UnifiedFocal(WEIGHT, DELTA, GAMMA)(logits, target, valid)

    for image in range(3):
        for one in range(2):
            foreground = pairs(logits[image, one].sigmoid(), target[image, one], valid[image])
            background = [(1 - p, 1 - y) for p, y in foreground]
            both = ((foreground, False), (background, True))
            entropy = sum(focal(part, background=is_background) for part, is_background in both)
            overlap = sum(tversky(part, background=is_background) for part, is_background in both)
            expected = WEIGHT * entropy + (1 - WEIGHT) * overlap / 2
            assert values[image, one].item() == pytest.approx(expected, abs=1e-8)


@given(seeds)
def test_columns_of_a_softmax_are_the_parts_of_its_classes(seed: int) -> None:
    logits, target, valid = case(exclusive=True, seed=seed)

    values = UnifiedFocal(WEIGHT, DELTA, GAMMA, exclusive=True)(logits, target, valid)

    probs = logits.softmax(1)
    for image in range(3):
        for one in range(3):
            part = pairs(probs[image, one], target[image, one], valid[image])
            entropy, overlap = (share(part, background=one == 0) for share in (focal, tversky))
            expected = 3 * WEIGHT * entropy + (1 - WEIGHT) * overlap
            assert values[image, one].item() == pytest.approx(expected, abs=1e-8)


@given(seeds)
def test_a_softmax_of_two_classes_is_a_sigmoid_of_their_difference(seed: int) -> None:
    logits, target, valid = random_case(classes=1, seed=seed)
    both = torch.cat([torch.zeros_like(logits), logits], 1)

    of_softmax = UnifiedFocal(exclusive=True)(both, torch.cat([1 - target, target], 1), valid)

    of_sigmoid = UnifiedFocal()(logits, target, valid)
    torch.testing.assert_close(of_softmax.mean(1, keepdim=True), of_sigmoid)


@given(seeds)
def test_loss_agrees_with_the_parts_of_monai_on_probabilities(seed: int) -> None:
    logits, target, _ = random_case(classes=1, seed=seed)
    probs = torch.cat([1 - logits.sigmoid(), logits.sigmoid()], 1)
    truth = torch.cat([1 - target, target], 1)
    # MONAI takes the mean over the two classes of an entropy that the paper adds up.
    entropy = 2 * AsymmetricFocalLoss(delta=DELTA, gamma=GAMMA)(probs, truth)
    overlap = AsymmetricFocalTverskyLoss(delta=DELTA, gamma=GAMMA)(probs, truth)

    values = UnifiedFocal(WEIGHT, DELTA, GAMMA)(logits, target, everywhere(target))

    expected = WEIGHT * entropy + (1 - WEIGHT) * overlap
    assert values.mean().item() == pytest.approx(expected.item(), abs=1e-6)


def test_wrong_and_certain_logits_have_a_gradient_and_have_none_in_monai() -> None:
    target = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
    logits = (20 - 40 * target).requires_grad_()

    ours = UnifiedFocal()(logits, target, everywhere(target))
    theirs = AsymmetricUnifiedFocalLoss()(logits, target)

    assert (torch.autograd.grad(ours.sum(), logits)[0].abs() > 0.01).all()
    assert not torch.autograd.grad(theirs, logits)[0].any()


@given(seeds)
def test_without_focus_it_is_half_of_cross_entropy_or_dice(seed: int) -> None:
    logits, target, valid = random_case(seed=seed)
    dice = Dice(squared=False)

    entropy = UnifiedFocal(weight=1.0, delta=0.5, gamma=0.0)(logits, target, valid)
    overlap = UnifiedFocal(weight=0.0, delta=0.5, gamma=0.0)(logits, target, valid)

    both = dice(logits, target, valid) + dice(-logits, 1 - target, valid)
    torch.testing.assert_close(2 * entropy, BinaryCrossEntropy()(logits, target, valid))
    torch.testing.assert_close(2 * overlap, both, atol=1e-4, rtol=0)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [5.0, 20.0, 40.0, 100.0, 200.0])
def test_slopes_stay_small_as_the_prediction_becomes_perfect(
    exclusive: bool, gamma: float, size: float
) -> None:
    _, target, valid = case(exclusive=True)
    logits = (size * (2 * target - 1)).float().requires_grad_()

    value = UnifiedFocal(gamma=gamma, exclusive=exclusive)(logits, target.float(), valid)
    (slope,) = torch.autograd.grad(value.sum(), logits)

    assert slope.isfinite().all()
    assert slope.abs().max() < 0.01


@pytest.mark.parametrize("name", ["weight", "delta", "gamma"])
@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, True])
def test_shares_out_of_range_are_refused(name: str, value: float) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name}: found .*, expected a number in \[0, 1\]"):
        UnifiedFocal(**arguments)


def test_background_can_be_left_out() -> None:
    assert_background_can_be_left_out("unified_focal")


@pytest.mark.parametrize("exclusive", [False, True])
def test_runs_without_values(exclusive: bool) -> None:
    assert_runs_without_values(UnifiedFocal(exclusive=exclusive))
