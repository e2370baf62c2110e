from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kornia.losses import tversky_loss
from monai.losses.dice import DiceLoss
from monai.losses.tversky import TverskyLoss

from lightning_module.losses.overlap import Dice
from lightning_module.losses.tversky import FocalTversky, Jaccard, MonaiOverlap, Tversky
from tests.lightning_module.losses.references import assert_close, assert_formula, case, pixels

seeds = st.integers(0, 10_000)
either = pytest.mark.parametrize("exclusive", [False, True], ids=["sigmoid", "softmax"])


def jaccard(one: list[tuple[float, float]]) -> float:
    shared = sum(p * y for p, y in one)
    return 1 - (2 * shared + 1e-5) / (2 * (sum(p + y for p, y in one) - shared) + 1e-5)


def tversky(one: list[tuple[float, float]], alpha: float, beta: float) -> float:
    shared = sum(p * y for p, y in one) + 1e-5
    positives, negatives = sum(p * (1 - y) for p, y in one), sum((1 - p) * y for p, y in one)
    return 1 - shared / (shared + alpha * positives + beta * negatives)


@either
@given(seeds)
def test_losses_are_their_formulas(exclusive: bool, seed: int) -> None:
    given_case = case(exclusive=exclusive, seed=seed)
    images = pixels(*given_case, exclusive=exclusive)

    union = Jaccard(exclusive=exclusive)(*given_case)
    index = Tversky(alpha=0.2, beta=0.9, exclusive=exclusive)(*given_case)
    focal = FocalTversky(exclusive=exclusive)(*given_case)

    assert_formula(union, [[jaccard(one) for one in image] for image in images])
    assert_formula(index, [[tversky(one, 0.2, 0.9) for one in image] for image in images])
    expected = [[tversky(one, 0.3, 0.7) ** 0.75 for one in image] for image in images]
    assert_formula(focal, expected)


@either
def test_losses_agree_with_monai_on_all_pixels(exclusive: bool) -> None:
    logits, target, valid = case(exclusive=exclusive, samples=4, size=8, all_valid=True)
    logits, target = logits.float(), target.float()
    activation: dict[str, Any] = {
        "softmax": exclusive,
        "sigmoid": not exclusive,
        "reduction": "none",
    }
    by_monai = TverskyLoss(alpha=0.3, beta=0.7, **activation)(logits, target)

    union = Jaccard(exclusive=exclusive)(logits, target, valid)
    index = Tversky(exclusive=exclusive)(logits, target, valid)
    focal = FocalTversky(gamma=2, exclusive=exclusive)(logits, target, valid)

    assert_close(union, DiceLoss(jaccard=True, **activation)(logits, target))
    assert_close(index, by_monai)
    assert_close(focal, by_monai.sqrt())


def test_tversky_and_jaccard_agree_with_kornia() -> None:
    logits, target, valid = case(exclusive=True, samples=4, size=8)
    logits, target = logits.float(), target.float()
    labels = target.argmax(1).masked_fill(~valid[:, 0], -100)
    index = Tversky(alpha=0.2, beta=0.9, smooth=1e-12, exclusive=True)
    union = Jaccard(smooth=1e-12, exclusive=True)

    assert_close(index(logits, target, valid).mean(), tversky_loss(logits, labels, 0.2, 0.9, 0.0))
    assert_close(union(logits, target, valid).mean(), tversky_loss(logits, labels, 1.0, 1.0, 0.0))


@either
def test_tversky_holds_dice_and_jaccard(exclusive: bool) -> None:
    given_case = case(exclusive=exclusive)

    halves = Tversky(alpha=0.5, beta=0.5, smooth=0.5e-5, exclusive=exclusive)(*given_case)
    wholes = Tversky(alpha=1, beta=1, smooth=0.5e-5, exclusive=exclusive)(*given_case)
    unfocused = FocalTversky(gamma=1, exclusive=exclusive)(*given_case)

    torch.testing.assert_close(halves, Dice(squared=False, exclusive=exclusive)(*given_case))
    torch.testing.assert_close(wholes, Jaccard(exclusive=exclusive)(*given_case))
    torch.testing.assert_close(unfocused, Tversky(exclusive=exclusive)(*given_case))


def test_alpha_is_for_false_positives_and_beta_for_false_negatives() -> None:
    left, right = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 2, 4)
    left[..., :2], right[..., :1] = 1, 1
    valid = torch.ones(1, 1, 2, 4, dtype=torch.bool)

    def value(predicted: torch.Tensor, target: torch.Tensor) -> float:
        loss: torch.Tensor = Tversky(alpha=0.25, beta=0.75)(50 * (2 * predicted - 1), target, valid)
        return loss.item()

    assert value(predicted=left, target=right) == pytest.approx(1 - 2 / 2.5, abs=1e-5)
    assert value(predicted=right, target=left) == pytest.approx(1 - 2 / 3.5, abs=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 4 / 3, 3.0])
def test_focal_tversky_has_a_finite_slope_where_the_prediction_is_perfect(gamma: float) -> None:
    target = torch.tensor([0.0, 1.0]).repeat(1, 1, 4, 2)
    sharpness = torch.linspace(2.0, 60.0, 400, dtype=torch.float64).view(-1, 1, 1, 1)
    logits = (sharpness * (2 * target - 1)).requires_grad_()
    valid = torch.ones(400, 1, 4, 4, dtype=torch.bool)

    value = FocalTversky(gamma=gamma)(logits, target.expand_as(logits), valid)
    (gradient,) = torch.autograd.grad(value.sum(), logits)

    assert gradient.isfinite().all()
    assert value[-1].item() < 1e-6
    assert (value.diff(dim=0) <= 0).all()


@either
@pytest.mark.parametrize("kind", [Jaccard, Tversky, FocalTversky])
def test_what_stands_in_masked_pixels_does_not_matter(
    kind: type[MonaiOverlap], exclusive: bool
) -> None:
    logits, target, valid = case(exclusive=exclusive)
    term = kind(exclusive=exclusive)

    value = term(logits.masked_fill(~valid, torch.nan), target.masked_fill(~valid, 1.0), valid)

    torch.testing.assert_close(value, term(logits, target, valid))


@either
@pytest.mark.parametrize("kind", [Jaccard, Tversky, FocalTversky])
def test_nothing_waits_for_values(kind: type[MonaiOverlap], exclusive: bool) -> None:
    logits, target, valid = (tensor.to("meta") for tensor in case(exclusive=exclusive))

    value = kind(exclusive=exclusive).to("meta")(logits, target, valid)

    assert value.shape == logits.shape[:2]
