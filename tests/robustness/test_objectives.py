"""Objectives: plain sums, one scalar per image, and their gradients."""

import pytest
import torch
from torch import Tensor

from robustness.objectives import OBJECTIVES, Objective, logit_sum, probability_sum

ALL = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())


def _case(samples: int = 4, classes: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(samples)
    shape = (samples, classes, 5, 4)
    logits = 3 * torch.randn(shape, generator=random, dtype=torch.float64)
    target = (torch.rand(shape, generator=random) > 0.5).double()
    valid = torch.rand((samples, 1, 5, 4), generator=random) > 0.3
    return logits, target, valid


def test_the_sum_of_probabilities_is_a_plain_sum() -> None:
    logits, target, valid = _case()
    expected = [
        sum(1 / (1 + 2.718281828459045 ** -float(logit)) for logit in image.flatten())
        for image in logits
    ]
    torch.testing.assert_close(
        probability_sum(logits, target, valid), torch.tensor(expected, dtype=torch.float64)
    )


def test_the_sum_of_logits_is_a_plain_sum() -> None:
    logits, target, valid = _case()
    expected = [sum(image.flatten().tolist()) for image in logits]
    torch.testing.assert_close(
        logit_sum(logits, target, valid), torch.tensor(expected, dtype=torch.float64)
    )


@ALL
def test_padding_and_truth_do_not_matter(objective: Objective) -> None:
    logits, target, valid = _case()
    found = objective(logits, target, valid)
    assert torch.equal(found, objective(logits, 1 - target, ~valid))


@ALL
def test_an_image_is_alone_in_its_scalar(objective: Objective) -> None:
    logits, target, valid = _case()
    together = objective(logits, target, valid)
    assert together.shape == (4,)
    for row in range(4):
        one = slice(row, row + 1)
        torch.testing.assert_close(
            objective(logits[one], target[one], valid[one]), together[one], rtol=1e-14, atol=0
        )


def test_the_gradient_fades_where_the_network_is_sure_only_for_probabilities() -> None:
    logits = torch.tensor([-30.0, 0.0, 30.0]).reshape(1, 1, 1, 3).requires_grad_()
    empty = torch.zeros(1, 1, 1, 3)
    (of_probabilities,) = torch.autograd.grad(probability_sum(logits, empty, empty > 0), logits)
    (of_logits,) = torch.autograd.grad(logit_sum(logits, empty, empty > 0), logits)
    torch.testing.assert_close(of_probabilities.flatten(), torch.tensor([0.0, 0.25, 0.0]))
    assert of_logits.flatten().tolist() == [1.0, 1.0, 1.0]


@ALL
def test_gradients_are_those_of_finite_differences(objective: Objective) -> None:
    logits, target, valid = _case(2)
    inputs = logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda given: objective(given, target, valid), (inputs,))
