import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses.dice import DiceLoss
from monai.losses.focal_loss import FocalLoss
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from lightning_module.losses.cross_entropy import BinaryCrossEntropy, Focal
from lightning_module.losses.overlap import BatchDice, Dice
from tests.lightning_module.toy import random_case

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


dice, batch_dice = Dice(), BatchDice()
BY_IMAGE: dict[str, Loss] = {"bce": BinaryCrossEntropy(), "focal": Focal(), "dice": dice}
LOSSES: dict[str, Loss] = {**BY_IMAGE, "batch_dice": batch_dice}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
every_loss_by_image = pytest.mark.parametrize("loss", BY_IMAGE.values(), ids=list(BY_IMAGE))
seeds = st.integers(0, 10_000)


def gradient(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), logits)[0]


def protocol(name: str, logits: Tensor, target: Tensor, valid: Tensor) -> float:
    """The formula of a loss over all pixels of a class, in Python numbers."""
    keep = valid.flatten().tolist()
    pixels = zip(logits.sigmoid().flatten().tolist(), target.flatten().tolist(), keep, strict=True)
    pairs: list[tuple[float, float]] = [(p, y) for p, y, kept in pixels if kept]
    if name == "bce":
        return -sum(math.log(p if y else 1 - p) for p, y in pairs) / len(pairs)
    if name == "focal":
        balanced = [(0.25, p) if y else (0.75, 1 - p) for p, y in pairs]
        return -sum(a * (1 - pt) ** 2 * math.log(pt) for a, pt in balanced) / len(pairs)
    shared = sum(p * y for p, y in pairs)
    return 1 - (2 * shared + 1e-5) / (sum(p * p + y * y for p, y in pairs) + 1e-5)


@pytest.mark.parametrize("name", BY_IMAGE)
@given(seeds)
def test_losses_by_image_are_the_protocols_formulas(name: str, seed: int) -> None:
    logits, target, valid = random_case(seed=seed)

    values = BY_IMAGE[name](logits, target, valid)

    assert values.shape == (3, 2)
    for image in range(3):
        for one in range(2):
            expected = protocol(name, logits[image, one], target[image, one], valid[image])
            assert values[image, one].item() == pytest.approx(expected, abs=1e-9)


@given(seeds)
def test_batch_dice_is_the_formula_over_the_pixels_of_all_images(seed: int) -> None:
    logits, target, valid = random_case(seed=seed)

    values = batch_dice(logits, target, valid)

    assert values.shape == (1, 2)
    for one in range(2):
        expected = protocol("dice", logits[:, one], target[:, one], valid[:, 0])
        assert values[0, one].item() == pytest.approx(expected, abs=1e-9)


def test_losses_agree_with_torch_and_monai() -> None:
    logits, target, _ = random_case(samples=4, classes=3, size=8)
    valid = torch.ones(4, 1, 8, 8, dtype=torch.bool)
    by_pixel = binary_cross_entropy_with_logits(logits, target, reduction="none")
    of_images, of_batch = (
        DiceLoss(
            sigmoid=True,
            squared_pred=True,
            smooth_nr=1e-5,
            smooth_dr=1e-5,
            batch=batch,
            reduction="none",
        )(logits, target)
        for batch in (False, True)
    )
    of_focal = FocalLoss(gamma=3.0, alpha=0.3, reduction="none")(logits, target).mean((2, 3))

    def assert_close(ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(
            ours, theirs.reshape_as(ours), atol=1e-6, rtol=0, check_dtype=False
        )

    assert_close(BinaryCrossEntropy()(logits, target, valid), by_pixel.mean((2, 3)))
    assert_close(dice(logits, target, valid), of_images)
    assert_close(batch_dice(logits, target, valid), of_batch)
    assert_close(Focal(gamma=3.0, alpha=0.3)(logits, target, valid), of_focal)


def test_focal_without_focus_is_half_of_cross_entropy() -> None:
    logits, target, valid = random_case()

    values = Focal(gamma=0.0, alpha=0.5)(logits, target, valid)

    torch.testing.assert_close(2 * values, BinaryCrossEntropy()(logits, target, valid))


@every_loss
def test_gradients_agree_with_finite_differences(loss: Loss) -> None:
    logits, target, valid = random_case(samples=2, size=3)

    assert torch.autograd.gradcheck(lambda z: loss(z, target, valid), logits.requires_grad_())


def test_gradient_of_a_weighted_batch_agrees_with_finite_differences() -> None:
    logits, target, valid = random_case(samples=3, size=3)
    weight = torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)

    assert torch.autograd.gradcheck(
        lambda z: batch_dice(z, target, valid, weight), logits.requires_grad_()
    )


@every_loss
def test_padding_left_out_changes_neither_value_nor_gradient(loss: Loss) -> None:
    logits, target, valid = random_case()
    padded = pad(logits, (0, 3, 0, 2), value=7.0).requires_grad_()
    logits.requires_grad_()

    plain = loss(logits, target, valid)
    value = loss(padded, pad(target, (0, 3, 0, 2), value=1.0), pad(valid, (0, 3, 0, 2)))

    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(gradient(value, padded), pad(gradient(plain, logits), (0, 3, 0, 2)))


@every_loss
def test_order_of_pixels_and_classes_does_not_matter(loss: Loss) -> None:
    logits, target, valid = random_case()

    moved = loss(logits.flip(1).mT, target.flip(1).mT, valid.mT)

    torch.testing.assert_close(moved, loss(logits, target, valid).flip(1))


@every_loss_by_image
def test_an_image_has_the_same_loss_in_any_batch(loss: Loss) -> None:
    logits, target, valid = random_case()

    alone = [loss(logits[i : i + 1], target[i : i + 1], valid[i : i + 1]) for i in (2, 0, 1)]

    torch.testing.assert_close(torch.cat(alone), loss(logits, target, valid)[[2, 0, 1]])


def test_batch_dice_does_not_depend_on_the_order_of_images() -> None:
    logits, target, valid = random_case()
    order = [2, 0, 1]

    moved = batch_dice(logits[order], target[order], valid[order])

    torch.testing.assert_close(moved, batch_dice(logits, target, valid))


def test_a_weight_in_batch_dice_counts_the_image_so_often() -> None:
    logits, target, valid = random_case()
    weight, repeated = torch.tensor([2.0, 0.0, 1.0]), [0, 0, 2]

    weighted = batch_dice(logits, target, valid, weight)

    again = batch_dice(logits[repeated], target[repeated], valid[repeated])
    torch.testing.assert_close(weighted, again)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("right", [True, False])
def test_saturated_logits_give_finite_values_and_gradients(
    loss: Loss, dtype: torch.dtype, right: bool
) -> None:
    target = torch.tensor([0.0, 1.0]).repeat(2, 1, 4, 2)
    certain = 50.0 * (2 * target - 1) * (1 if right else -1)
    valid = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    logits = certain.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        value = loss(logits, target, valid)
        slope = gradient(value, logits)

    assert value.dtype == torch.float32
    assert slope.isfinite().all()
    torch.testing.assert_close(
        value.double(), loss(certain.double(), target, valid), atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_finite_slope_where_the_truth_is_certain(gamma: float) -> None:
    logits = torch.full((1, 1, 2, 2), 200.0, requires_grad=True)

    value = Focal(gamma=gamma)(logits, torch.ones(1, 1, 2, 2), logits > 0)

    assert gradient(value, logits).isfinite().all()


def test_dice_of_an_image_without_foreground_is_flat_and_batch_dice_is_not() -> None:
    logits, target, valid = random_case(samples=2, classes=1)
    target[0] = 0
    target[1] = 1
    logits.requires_grad_()

    by_image = dice(logits, target, valid)
    of_empty = gradient(by_image, logits)[0].abs().max()
    of_batch = gradient(batch_dice(logits, target, valid), logits)[0].abs().max()

    assert by_image[0].item() > 0.9999
    assert of_batch > 100 * of_empty


@every_loss
def test_empty_truth_and_certain_background_cost_nothing(loss: Loss) -> None:
    shape = (2, 1, 4, 4)

    value = loss(torch.full(shape, -50.0), torch.zeros(shape), torch.ones(shape).bool())

    assert value.abs().max() < 1e-6


@every_loss
def test_no_valid_pixel_costs_nothing(loss: Loss) -> None:
    logits, target, valid = random_case()

    value = loss(logits.requires_grad_(), target, torch.zeros_like(valid))

    assert not value.any()
    assert not gradient(value, logits).any()


@every_loss
def test_shapes_that_do_not_fit_are_refused(loss: Loss) -> None:
    logits, target, valid = random_case()

    with pytest.raises(ValueError, match=r"target \(3, 1, 5, 5\); expected"):
        loss(logits, target[:, :1], valid)
    with pytest.raises(ValueError, match=r"valid has shape \(3, 5, 5\) and dtype torch.bool"):
        loss(logits, target, valid[:, 0])
    with pytest.raises(ValueError, match=r"dtype torch\.float32"):
        loss(logits, target, valid.float())
    with pytest.raises(ValueError, match=r"expected \(B, K, H, W\)"):
        loss(logits[0], target[0], valid)


def test_weights_for_another_number_of_images_are_refused() -> None:
    logits, target, valid = random_case()

    with pytest.raises(ValueError, match=r"sample_weight has shape \(2,\), expected \(3,\)"):
        batch_dice(logits, target, valid, torch.ones(2))
