"""Objectives: sums by independent formulas, one scalar per image, gradients that never break."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from robustness.objectives import (
    MARGIN,
    OBJECTIVES,
    PIXEL_LOSSES,
    Objective,
    balanced_bce,
    bce,
    logit_sum,
    margin,
    masked_bce,
    probability_sum,
    soft_dice,
)

ALL = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
BLIND = ("probability_sum", "logit_sum")
SEEING = pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in BLIND])
# Those that push every right pixel, however sure it is; the others fade by their nature.
PUSHING = ("bce", "balanced_bce", "margin", "masked_bce", "js")


def _case(samples: int = 4, classes: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(samples)
    shape = (samples, classes, 5, 4)
    logits = 3 * torch.randn(shape, generator=random, dtype=torch.float64)
    target = (torch.rand(shape, generator=random) > 0.5).double()
    valid = torch.rand((samples, 1, 5, 4), generator=random) > 0.3
    return logits, target, valid


def _gradient(objective: Objective, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(objective(leaf, target, valid).sum(), leaf)
    return found


# One class of one image at a time: probabilities and truth of the pixels that count.
def _bce(p: np.ndarray, y: np.ndarray) -> float:
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).sum())


def _balanced_bce(p: np.ndarray, y: np.ndarray) -> float:
    front, back = -np.log(p[y == 1]), -np.log(1 - p[y == 0])
    return float(len(y) / 2 * (front.mean() + back.mean()))


def _soft_dice(p: np.ndarray, y: np.ndarray) -> float:
    return float(1 - (2 * (p * y).sum() + 1e-5) / ((p * p).sum() + (y * y).sum() + 1e-5))


def _margin(p: np.ndarray, y: np.ndarray) -> float:
    z = np.log(p / (1 - p))
    return float(sum(min(-logit if true else logit, 1.0) for logit, true in zip(z, y, strict=True)))


def _masked_bce(p: np.ndarray, y: np.ndarray) -> float:
    right = (p > 0.5) == (y == 1)
    return _bce(p[right], y[right]) + float(np.log(2)) * int((~right).sum())


def _js(p: np.ndarray, y: np.ndarray) -> float:
    return float(sum(jensenshannon((q, 1 - q), (t, 1 - t)) ** 2 for q, t in zip(p, y, strict=True)))


FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "bce": _bce,
    "balanced_bce": _balanced_bce,
    "soft_dice": _soft_dice,
    "margin": _margin,
    "masked_bce": _masked_bce,
    "js": _js,
}


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


@SEEING
def test_values_are_those_of_the_formula(name: str) -> None:
    logits, target, valid = _case()
    expected = []
    for image, truth, counts in zip(logits, target, valid[:, 0].numpy(), strict=True):
        pairs = [
            (1 / (1 + np.exp(-scores.numpy()[counts])), true.numpy()[counts])
            for scores, true in zip(image, truth, strict=True)
        ]
        expected.append(sum(FORMULAS[name](p, y) for p, y in pairs))
    found = OBJECTIVES[name](logits, target, valid).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("name", BLIND)
def test_padding_and_truth_do_not_matter_to_the_paper_s_sums(name: str) -> None:
    logits, target, valid = _case()
    found = OBJECTIVES[name](logits, target, valid)
    assert torch.equal(found, OBJECTIVES[name](logits, 1 - target, ~valid))


@SEEING
def test_pixels_that_do_not_count_do_not_matter(name: str) -> None:
    logits, target, valid = _case()
    objective = OBJECTIVES[name]
    other_logits = torch.where(valid, logits, -5 * logits + 1)
    other_target = torch.where(valid, target, 1 - target)
    found = objective(logits, target, valid)
    torch.testing.assert_close(found, objective(other_logits, other_target, valid), rtol=0, atol=0)
    gradient = _gradient(objective, logits, target, valid)
    assert not torch.where(valid, 0, gradient).any()
    assert (found != objective(logits, target, torch.ones_like(valid))).all()


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


@ALL
@pytest.mark.parametrize("size", [50.0, 1000.0])
@pytest.mark.parametrize("truth", ["mixed", "empty", "full", "nothing counts"])
def test_sure_networks_give_finite_values_and_gradients(
    objective: Objective, size: float, truth: str
) -> None:
    logits = torch.tensor([[-size, -size, size, size, 0.0]]).reshape(1, 1, 1, 5)
    target = {
        "mixed": torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]),
        "full": torch.ones(5),
    }.get(truth, torch.zeros(5)).reshape(1, 1, 1, 5)
    valid = torch.full((1, 1, 1, 5), truth != "nothing counts")
    for given in (logits, -logits, logits.abs(), -logits.abs()):
        assert torch.isfinite(objective(given, target, valid)).all()
        assert torch.isfinite(_gradient(objective, given, target, valid)).all()


@pytest.mark.parametrize("name", PUSHING)
@pytest.mark.parametrize("size", [0.5, 5.0, 15.0, 20.0, 50.0])
def test_a_pixel_that_is_right_is_pushed_to_the_wrong_side_however_sure_it_is(
    name: str, size: float
) -> None:
    logits = torch.tensor([-size, size]).reshape(1, 1, 1, 2)
    target = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    gradient = _gradient(OBJECTIVES[name], logits, target, target >= 0)
    assert gradient[0, 0, 0, 0] > 0 > gradient[0, 0, 0, 1]


@pytest.mark.parametrize("name", ["bce", "masked_bce", "js"])
def test_float32_gives_the_gradient_of_float64_for_pixels_that_are_right(name: str) -> None:
    logits = torch.linspace(-40, -0.5, 100, dtype=torch.float64).reshape(1, 1, 10, 10)
    empty = torch.zeros_like(logits)
    exact = _gradient(OBJECTIVES[name], logits, empty, empty == 0)
    found = _gradient(OBJECTIVES[name], logits.float(), empty.float(), empty == 0)
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_pixel_losses_add_up_to_their_objective(name: str) -> None:
    logits, target, valid = _case()
    loss = PIXEL_LOSSES[name](logits, target, valid)
    assert loss.shape == logits.shape
    expected = (loss * valid).sum(dim=(1, 2, 3))
    torch.testing.assert_close(OBJECTIVES[name](logits, target, valid), expected)


def test_foreground_and_background_pull_the_same_in_balanced_bce() -> None:
    target = torch.zeros(1, 2, 4, 4)
    target[0, 0, 0, 0] = 1
    target[0, 1, :2] = 1
    gradient = _gradient(balanced_bce, torch.zeros(1, 2, 4, 4), target, torch.ones(1, 1, 4, 4) > 0)
    pull = gradient.abs()
    for number in range(2):
        front = pull[0, number][target[0, number] > 0].sum()
        back = pull[0, number][target[0, number] == 0].sum()
        assert float(front) == pytest.approx(float(back)) == pytest.approx(16 / 2 / 2)


def test_balanced_bce_is_bce_where_the_areas_are_equal_and_half_of_it_without_foreground() -> None:
    logits = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(1, 1, 4, 4) > 0
    half = torch.zeros(1, 1, 4, 4)
    half[..., :2] = 1
    torch.testing.assert_close(balanced_bce(logits, half, valid), bce(logits, half, valid))
    empty = torch.zeros(1, 1, 4, 4)
    torch.testing.assert_close(balanced_bce(logits, empty, valid), bce(logits, empty, valid) / 2)


def test_soft_dice_is_nothing_for_the_truth_and_one_for_each_class_that_is_missed() -> None:
    target = torch.zeros(1, 2, 4, 4)
    target[:, :, :2] = 1
    valid = torch.ones(1, 1, 4, 4) > 0
    right = 100 * (2 * target - 1)
    assert float(soft_dice(right, target, valid)) == pytest.approx(0, abs=1e-6)
    assert float(soft_dice(-right, target, valid)) == pytest.approx(2, abs=1e-5)


def test_margin_rewards_no_pixel_that_is_wrong_by_more_than_it() -> None:
    logits = torch.tensor([-2.0, 0.5, 0.99, 1.01, 7.0]).reshape(1, 1, 1, 5)
    empty = torch.zeros_like(logits)
    gradient = _gradient(margin, logits, empty, empty == 0)
    assert gradient.flatten().tolist() == [1, 1, 1, 0, 0]
    assert float(margin(torch.full_like(logits, 9), empty, empty == 0)) == 5 * MARGIN


def test_masked_bce_pulls_right_pixels_alone_and_as_bce_does() -> None:
    logits, target, valid = _case()
    right = (logits > 0) == (target > 0)
    of_all = _gradient(bce, logits, target, valid)
    torch.testing.assert_close(
        _gradient(masked_bce, logits, target, valid), torch.where(right, of_all, 0)
    )


def test_masked_bce_rises_with_every_pixel_that_falls() -> None:
    logits = -torch.ones(1, 1, 1, 6)
    empty = torch.zeros_like(logits)
    values = []
    for fallen in range(6):
        logits[..., :fallen] = 2.0
        values.append(float(masked_bce(logits, empty, empty == 0)))
    assert values == sorted(values)
    assert len(set(values)) == 6
