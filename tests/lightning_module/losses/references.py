"""What tests of loss terms compare with: random classes, and probabilities in Python numbers."""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tests.lightning_module.toy import random_case

# For each image and class the probability and the truth in each valid pixel.
Pixels = list[list[list[tuple[float, float]]]]


def case(
    *, exclusive: bool, seed: int = 0, samples: int = 3, size: int = 5, all_valid: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, target and valid in float64, of three classes that exclude each other or of two."""
    logits, target, valid = random_case(samples, 3 if exclusive else 2, size, seed)
    if exclusive:
        target = one_hot(target.argmax(1), 3).movedim(3, 1).double()
    return logits, target, torch.ones_like(valid) if all_valid else valid


def pixels(logits: Tensor, target: Tensor, valid: Tensor, *, exclusive: bool) -> Pixels:
    """Probabilities by Python's own exponential, next to the truth."""
    images = []
    for scores, truth, keep in zip(logits, target, valid, strict=True):
        by_class = [values[keep[0]].exp().tolist() for values in scores]
        by_truth = [values[keep[0]].tolist() for values in truth]
        totals = [sum(values) if exclusive else None for values in zip(*by_class, strict=True)]
        images.append(
            [
                [
                    (value / (total if total is not None else 1 + value), y)
                    for value, y, total in zip(values, of_truth, totals, strict=True)
                ]
                for values, of_truth in zip(by_class, by_truth, strict=True)
            ]
        )
    return images


def assert_formula(values: Tensor, expected: list[list[float]]) -> None:
    """Raise AssertionError unless they agree to nine digits after the point."""
    assert values.shape == (len(expected), len(expected[0]))
    for found, wanted in zip(
        values.flatten().tolist(), [v for row in expected for v in row], strict=True
    ):
        assert math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9), (found, wanted)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Raise AssertionError unless two implementations agree to 1e-6."""
    torch.testing.assert_close(
        found, expected.reshape_as(found), atol=1e-6, rtol=0, check_dtype=False
    )
