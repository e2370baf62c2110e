import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kornia.losses import lovasz_hinge_loss, lovasz_softmax_loss
from torch import Tensor

from lightning_module.losses.lovasz import Lovasz, jaccard_rises
from tests.lightning_module.losses.cases import (
    assert_background_can_be_left_out,
    assert_runs_without_values,
    certain,
    drawing,
    everywhere,
)
from tests.lightning_module.losses.references import case
from tests.lightning_module.toy import random_case

seeds = st.integers(0, 10_000)


def jaccard_loss(wrong: set[int], truth: set[int]) -> float:
    """Jaccard loss of the prediction that is wrong in these pixels."""
    return len(wrong) / len(wrong | truth) if wrong else 0.0


def extension(errors: list[float], truth: set[int]) -> float:
    """The Lovász extension of the Jaccard loss, from sets of pixels."""
    order = sorted(range(len(errors)), key=lambda pixel: -errors[pixel])
    losses = [jaccard_loss(set(order[:count]), truth) for count in range(len(order) + 1)]
    return sum(
        errors[pixel] * (after - before)
        for pixel, before, after in zip(order, losses, losses[1:], strict=False)
    )


@pytest.mark.parametrize("exclusive", [False, True])
@given(seeds)
def test_loss_is_the_extension_of_the_jaccard_loss_over_valid_pixels(
    exclusive: bool, seed: int
) -> None:
    logits, target, valid = case(exclusive=exclusive, seed=seed)

    values = Lovasz(exclusive=exclusive)(logits, target, valid)

    errors = (
        (target - logits.softmax(1)).abs()
        if exclusive
        else (1 - logits * (2 * target - 1)).clamp(min=0)
    )
    for image in range(len(logits)):
        for one in range(logits.shape[1]):
            kept = valid[image, 0]
            truth = set(target[image, one][kept].nonzero().flatten().tolist())
            expected = extension(errors[image, one][kept].tolist(), truth)
            assert values[image, one].item() == pytest.approx(expected, abs=1e-9)


@given(seeds)
def test_hinge_agrees_with_kornia(seed: int) -> None:
    logits, target, _ = random_case(seed=seed)

    values = Lovasz()(logits, target, everywhere(target))

    for image in range(3):
        for one in range(2):
            theirs = lovasz_hinge_loss(
                logits[image, one].unsqueeze(0).unsqueeze(0), target[image, one].unsqueeze(0)
            )
            assert values[image, one].item() == pytest.approx(theirs.item(), abs=1e-6)


@given(seeds)
def test_softmax_agrees_with_kornia(seed: int) -> None:
    logits, target, _ = case(exclusive=True, seed=seed)

    values = Lovasz(exclusive=True)(logits, target, everywhere(target))

    theirs = lovasz_softmax_loss(logits, target.argmax(1))
    assert values.mean().item() == pytest.approx(theirs.item(), abs=1e-6)


@given(seeds)
def test_hard_predictions_cost_their_jaccard_loss(seed: int) -> None:
    logits, target, valid = case(exclusive=True, seed=seed)
    prediction = torch.zeros_like(target).scatter(1, logits.argmax(1, keepdim=True), 1)
    kept = valid.expand_as(target)
    shared = ((prediction * target) * kept).sum((2, 3))
    union = (((prediction + target) > 0) * kept).sum((2, 3))
    jaccard = 1 - shared / union

    torch.testing.assert_close(
        Lovasz(exclusive=True)(1000 * prediction, target, valid), jaccard, atol=1e-9, rtol=0
    )
    torch.testing.assert_close(
        Lovasz()(2 * prediction - 1, target, valid), 2 * jaccard, atol=1e-9, rtol=0
    )


@given(seeds, st.floats(0, 1))
def test_hinge_is_convex_in_the_logits(seed: int, share: float) -> None:
    one, target, valid = random_case(seed=seed)
    other, _, _ = random_case(seed=seed + 1)

    between = Lovasz()(share * one + (1 - share) * other, target, valid)

    chord = share * Lovasz()(one, target, valid) + (1 - share) * Lovasz()(other, target, valid)
    assert (between <= chord + 1e-9).all()


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_rises_add_up_to_one_and_are_never_negative(true: list[bool]) -> None:
    rises = jaccard_rises(torch.tensor(true, dtype=torch.float64))

    assert (rises >= 0).all()
    assert rises.sum().item() == pytest.approx(1)


def test_an_absent_class_costs_the_largest_error_and_pulls_at_its_pixel() -> None:
    logits = torch.tensor([[[[-3.0, 0.5, -0.2]]]], requires_grad=True)
    target = torch.zeros(1, 1, 1, 3)

    value = Lovasz()(logits, target, everywhere(target))
    (slope,) = torch.autograd.grad(value.sum(), logits)

    assert value.item() == pytest.approx(1.5)
    assert slope.flatten().tolist() == [0, 1, 0]


def test_small_structures_count_as_much_as_large_ones() -> None:
    small, large = drawing("#.......", "........"), drawing("########", "........")

    def half_missed(target: Tensor) -> float:
        logits = certain(target)
        missed = torch.where(target > 0, 0.0, logits)
        value: float = Lovasz()(missed, target, everywhere(target)).item()
        return value

    assert half_missed(small) == pytest.approx(half_missed(large))


def test_background_can_be_left_out() -> None:
    assert_background_can_be_left_out("lovasz")


@pytest.mark.parametrize("exclusive", [False, True])
def test_runs_without_values(exclusive: bool) -> None:
    assert_runs_without_values(Lovasz(exclusive=exclusive))
