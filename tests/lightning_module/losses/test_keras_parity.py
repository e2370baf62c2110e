"""The contract against Keras 3 itself: how pixels, classes, samples and outputs become one number.

Keras lays channels last and clips probabilities, so that logits stay within 10 here.
"""

import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_module.losses.compound import CompoundLoss
from lightning_module.losses.outputs import OutputsLoss

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

BATCH, CLASSES, SIZE = 16, 5, 8


@pytest.fixture
def case() -> tuple[Tensor, Tensor, Tensor]:
    """Logits up to 10, targets, and as many valid pixels in each image."""
    random = torch.Generator().manual_seed(7)
    shape = (BATCH, CLASSES, SIZE, SIZE)
    logits = (3 * torch.randn(shape, generator=random)).clamp(-10, 10)
    target = (torch.rand(shape, generator=random) > 0.7).float()
    order = torch.rand(BATCH, SIZE * SIZE, generator=random).argsort(1)
    valid = (order < 40).reshape(BATCH, 1, SIZE, SIZE)
    return logits, target, valid


def channels_last(values: Tensor) -> Tensor:
    return values.movedim(1, -1)


def keras_bce(logits: Tensor, target: Tensor, **options: Any) -> float:  # noqa: ANN401 - Keras's own
    loss = keras.losses.BinaryCrossentropy()
    return float(loss(channels_last(target), channels_last(logits).sigmoid(), **options))


def ours(expression: str, logits: Tensor, target: Tensor, valid: Tensor, **options: Any) -> float:  # noqa: ANN401
    weight = options.pop("sample_weight", None)
    return float(CompoundLoss(expression, **options)(logits, target, valid, weight).total)


def test_binary_cross_entropy_of_five_sigmoids(case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, target, valid = case
    everywhere = torch.ones_like(valid)
    assert ours("bce", logits, target, everywhere) == pytest.approx(
        keras_bce(logits, target), abs=1e-6
    )


def test_sample_weights_divide_by_the_batch(case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, target, valid = case
    weight = torch.linspace(0, 3, BATCH)
    # Keras weighs values of shape (B, H, W): a weight an image is given as (B, 1, 1).
    expected = keras_bce(logits, target, sample_weight=weight[:, None, None])
    found = ours("bce", logits, target, torch.ones_like(valid), sample_weight=weight)
    assert found == pytest.approx(expected, abs=1e-6)


def test_masked_pixels_leave_sums_and_denominators(case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, target, valid = case
    probs = channels_last(logits).sigmoid()
    probs._keras_mask = valid[:, 0]  # type: ignore[attr-defined]
    expected = float(keras.losses.BinaryCrossentropy()(channels_last(target), probs))
    assert ours("bce", logits, target, valid) == pytest.approx(expected, abs=1e-6)


def test_keras_divides_by_the_pixels_of_the_batch_where_each_image_has_its_own_mean_here(
    case: tuple[Tensor, Tensor, Tensor],
) -> None:
    logits, target, valid = case
    valid[0, :, 1:] = False
    probs = channels_last(logits).sigmoid()
    probs._keras_mask = valid[:, 0]  # type: ignore[attr-defined]
    expected = float(keras.losses.BinaryCrossentropy()(channels_last(target), probs))
    value = CompoundLoss("bce")(logits, target, valid)
    pixels = valid.sum((1, 2, 3))
    by_pixels = (value.ledger[0].mean(1) * pixels).sum() / pixels.sum()
    assert by_pixels.item() == pytest.approx(expected, abs=1e-6)
    assert abs(value.total.item() - expected) > 1e-3


def test_sample_weights_and_masks_together(case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, target, valid = case
    weight = torch.linspace(0, 3, BATCH)
    probs = channels_last(logits).sigmoid()
    probs._keras_mask = valid[:, 0]  # type: ignore[attr-defined]
    by_pixel = weight[:, None, None].repeat(1, SIZE, SIZE)
    expected = float(
        keras.losses.BinaryCrossentropy()(channels_last(target), probs, sample_weight=by_pixel)
    )
    found = ours("bce", logits, target, valid, sample_weight=weight)
    assert found == pytest.approx(expected, abs=1e-6)


def test_class_weights_divide_by_the_number_of_classes(case: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, target, valid = case
    weights = [1.0, 1.0, 1.0, 1.0, 1000.0]
    by_pixel = keras.ops.binary_crossentropy(
        channels_last(target), channels_last(logits), from_logits=True
    )
    expected = float(keras.ops.mean(by_pixel * torch.tensor(weights)))
    found = ours("bce", logits, target, torch.ones_like(valid), class_weights=weights)
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_older_rule_divides_by_the_weights_that_are_not_zero() -> None:
    """Weights [2, 0, 0, 0] at p = 0.5: 2 log 2 over 4 samples, or over the one that counts."""
    logits, target = torch.zeros(4, 1, 2, 2), torch.ones(4, 1, 2, 2)
    valid, weight = torch.ones(4, 1, 2, 2, dtype=torch.bool), torch.tensor([2.0, 0.0, 0.0, 0.0])
    keras_3 = ours("bce", logits, target, valid, sample_weight=weight)
    keras_2 = ours("bce", logits, target, valid, sample_weight=weight, normalize="nonzero")
    assert keras_3 == pytest.approx(2 * np.log(2) / 4)
    assert keras_3 == pytest.approx(
        keras_bce(logits, target, sample_weight=weight[:, None, None]), abs=1e-6
    )
    assert keras_2 == pytest.approx(2 * np.log(2))
    assert (round(keras_3, 3), round(keras_2, 3)) == (0.347, 1.386)


def test_two_outputs_with_loss_weights_and_a_penalty() -> None:
    """A Keras model of two outputs, each with its loss and weight, and an L2 penalty on one."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 1))
    regular = keras.regularizers.L2(0.01)
    main = keras.layers.Conv2D(CLASSES, 3, padding="same", kernel_regularizer=regular, name="main")
    aside = keras.layers.Conv2D(CLASSES, 1, name="aside")
    model = keras.Model(image, [main(image), aside(image)])
    bce = keras.losses.BinaryCrossentropy(from_logits=True)
    mse = keras.losses.MeanSquaredError()
    model.compile(loss=[bce, lambda y, z: mse(y, z.sigmoid())], loss_weights=[1.0, 0.3])
    random = np.random.default_rng(0)
    images = random.normal(size=(BATCH, SIZE, SIZE, 1)).astype("float32")
    truth = (random.random((BATCH, SIZE, SIZE, CLASSES)) > 0.7).astype("float32")
    expected = model.evaluate(images, [truth, truth], batch_size=BATCH, verbose=0)

    outputs = [torch.as_tensor(z).movedim(-1, 1).detach() for z in model(images)]
    target = torch.from_numpy(truth).movedim(-1, 1)
    loss = OutputsLoss([CompoundLoss("bce"), CompoundLoss("mse")], [1.0, 0.3])
    value = loss(outputs, target, torch.ones(BATCH, 1, SIZE, SIZE, dtype=torch.bool))
    penalty = 0.01 * float((main.kernel.value.detach() ** 2).sum())

    assert value.total.item() + penalty == pytest.approx(float(expected[0]), abs=1e-6)
    assert loss.term_names == ("bce", "output_2.mse")
    assert loss.term_weights == (1.0, 0.3)
