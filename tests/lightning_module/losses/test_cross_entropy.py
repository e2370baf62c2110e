import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from lightning_module.losses.cross_entropy import (
    BinaryCrossEntropy,
    CrossEntropy,
    TopK,
    WeightedBinaryCrossEntropy,
)
from tests.lightning_module.losses.references import assert_close, assert_formula, case, pixels

seeds = st.integers(0, 10_000)
either = pytest.mark.parametrize("exclusive", [False, True], ids=["sigmoid", "softmax"])


@given(seeds)
def test_weighted_cross_entropy_is_its_formula(seed: int) -> None:
    given_case = case(exclusive=False, seed=seed)

    values = WeightedBinaryCrossEntropy(pos_weight=3.5)(*given_case)

    assert_formula(
        values,
        [
            [
                -sum(3.5 * math.log(p) if y else math.log(1 - p) for p, y in one) / len(one)
                for one in image
            ]
            for image in pixels(*given_case, exclusive=False)
        ],
    )


def test_weighted_cross_entropy_agrees_with_torch() -> None:
    logits, target, valid = case(exclusive=False, all_valid=True)
    logits, target = logits.float(), target.float()
    theirs = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(4.0), reduction="none")(logits, target)

    values = WeightedBinaryCrossEntropy(pos_weight=4)(logits, target, valid)

    assert_close(values, theirs.mean((2, 3)))


def test_weighted_cross_entropy_of_weight_one_is_cross_entropy() -> None:
    given_case = case(exclusive=False)

    values = WeightedBinaryCrossEntropy(pos_weight=1)(*given_case)

    assert torch.equal(values, BinaryCrossEntropy()(*given_case))


@given(seeds, st.sampled_from([0.05, 0.3, 0.77]))
def test_top_k_of_sigmoids_is_the_mean_of_the_hardest_pixels_of_each_class(
    seed: int, k: float
) -> None:
    given_case = case(exclusive=False, seed=seed)
    expected = []
    for image in pixels(*given_case, exclusive=False):
        count = max(1, round(k * len(image[0])))
        losses = [sorted(-math.log(p if y else 1 - p) for p, y in one) for one in image]
        expected.append([sum(values[-count:]) / count for values in losses])

    assert_formula(TopK(k=k)(*given_case), expected)


@given(seeds, st.sampled_from([0.05, 0.3, 0.77]))
def test_top_k_of_a_softmax_goes_by_the_true_class_of_the_hardest_pixels(
    seed: int, k: float
) -> None:
    given_case = case(exclusive=True, seed=seed)
    expected = []
    for image in pixels(*given_case, exclusive=True):
        count = max(1, round(k * len(image[0])))
        losses = sorted(
            (-math.log(p), index) for index, one in enumerate(image) for p, y in one if y
        )[-count:]
        expected.append([3 * sum(v for v, c in losses if c == index) / count for index in range(3)])

    assert_formula(TopK(k=k, exclusive=True)(*given_case), expected)


def test_top_k_agrees_with_torch() -> None:
    logits, target, valid = case(exclusive=True, size=8, all_valid=True)
    logits, target = logits.float(), target.float()
    by_class = binary_cross_entropy_with_logits(logits, target, reduction="none")
    by_pixel = cross_entropy(logits, target.argmax(1), reduction="none")

    of_sigmoids = TopK(k=0.25)(logits, target, valid)
    of_softmax = TopK(k=0.25, exclusive=True)(logits, target, valid)

    assert_close(of_sigmoids, by_class.flatten(2).topk(16).values.mean(2))
    assert_close(of_softmax.mean(1), by_pixel.flatten(1).topk(16).values.mean(1))


def test_top_k_of_all_pixels_is_cross_entropy() -> None:
    several, one = case(exclusive=False), case(exclusive=True)

    torch.testing.assert_close(TopK(k=1)(*several), BinaryCrossEntropy()(*several))
    torch.testing.assert_close(TopK(k=1, exclusive=True)(*one), CrossEntropy(exclusive=True)(*one))


def test_top_k_of_a_share_below_a_pixel_is_the_hardest_pixel() -> None:
    logits, target, valid = case(exclusive=False)
    losses = binary_cross_entropy_with_logits(logits, target, reduction="none")

    values = TopK(k=1e-6)(logits, target, valid)

    torch.testing.assert_close(values, torch.where(valid, losses, 0).amax((2, 3)))


def test_pixels_that_are_equally_hard_share_a_place_in_top_k() -> None:
    logits = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    logits[..., 0] = -2.0
    logits.requires_grad_()
    target, valid = torch.ones_like(logits), torch.ones(1, 1, 2, 4, dtype=torch.bool)

    TopK(k=0.5)(logits, target, valid).sum().backward()

    hard, alike = 0.25 / (1 + math.exp(-2.0)), 0.25 * 0.5 * 2 / 6
    assert logits.grad is not None
    expected = torch.tensor([-hard] + [-alike] * 3, dtype=torch.float64).expand(1, 1, 2, 4)
    torch.testing.assert_close(logits.grad, expected)


@either
def test_no_valid_pixel_costs_nothing_in_top_k(exclusive: bool) -> None:
    logits, target, valid = case(exclusive=exclusive)
    logits.requires_grad_()

    value = TopK(exclusive=exclusive)(logits, target, torch.zeros_like(valid))

    assert not value.any()
    assert not torch.autograd.grad(value.sum(), logits)[0].any()


@either
def test_nothing_in_top_k_waits_for_values(exclusive: bool) -> None:
    logits, target, valid = (tensor.to("meta") for tensor in case(exclusive=exclusive))

    assert TopK(exclusive=exclusive)(logits, target, valid).shape == logits.shape[:2]
