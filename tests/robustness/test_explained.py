"""What is explained: sums over the right pixels, that stay where they are when frozen."""

import numpy as np
import pytest
import torch
from torch import Tensor

from robustness.explained import (
    EXPLAINED,
    PixelValue,
    explained,
    frozen_mask,
    logit,
    one_pixel,
    probability,
)
from robustness.saliency import ascent
from tests.robustness.toy import ConvNet
from tests.robustness.toy_layers import batch_for

SHAPE = {"channels": 2, "classes": 3}


def _loop(name: str, logits: np.ndarray, clean: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The sum of logits over the pixels in question, one by one."""
    sums = np.zeros(len(logits))
    for place in np.ndindex(logits.shape):
        z, was = logits[place], clean[place]
        sums[place[0]] += {
            "all": z,
            "predicted": z if z > 0 else 0.0,
            "truth": z if truth[place] else 0.0,
            "frozen": z if was > 0 else 0.0,
            "margin": z if was > 0 else -z,
        }[name]
    return sums


@pytest.mark.parametrize("name", EXPLAINED)
def test_each_sums_over_its_pixels_on_disturbed_images_too(name: str) -> None:
    batch = batch_for(ConvNet(2, 3).eval(), **SHAPE)
    objective = explained(name, batch, logit)
    disturbed = batch.image.flip(3) * 2
    for image in (batch.image, disturbed):
        expected = _loop(
            name,
            batch.logits(image).double().numpy(),
            batch.logits(batch.image).numpy(),
            batch.mask.numpy(),
        )
        found = batch.value(objective, image).double().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_truth_is_left_out_where_it_is_not_known() -> None:
    batch = batch_for(ConvNet().eval())
    known = torch.zeros_like(batch.valid)
    known[:, :, :5] = True
    found = explained("truth", batch)(batch.image, batch.mask, known)
    expected = (batch.image.sigmoid() * batch.mask)[:, :, :5].sum(dim=(1, 2, 3))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("value", [probability, logit, lambda logits: (logits / 2).sigmoid()])
def test_the_value_of_one_pixel_is_that_of_the_logits_there(value: PixelValue) -> None:
    batch = batch_for(ConvNet(2, 3).eval(), **SHAPE)
    found = batch.value(one_pixel(3, 7, 1, value), batch.image)
    torch.testing.assert_close(found, value(batch.logits(batch.image))[:, 1, 3, 7])


@pytest.mark.parametrize("place", [(16, 0, 0), (0, 16, 0), (0, 0, 1), (-1, 0, 0)])
def test_a_pixel_outside_is_refused(place: tuple[int, int, int]) -> None:
    batch = batch_for(ConvNet().eval())
    with pytest.raises(ValueError, match=r"one_pixel: class, row and column .* \(1, 16, 16\)"):
        batch.value(one_pixel(*place), batch.image)


def test_a_frozen_mask_is_refused_for_another_batch() -> None:
    batch = batch_for(ConvNet().eval())
    objective = frozen_mask(torch.ones(3, 1, 16, 16, dtype=torch.bool))
    with pytest.raises(ValueError, match="make the objective again for each batch"):
        batch.value(objective, batch.image)
    with pytest.raises(ValueError, match="make the objective again for each batch"):
        explained("margin", batch_for(ConvNet().eval(), 3))(batch.image, batch.mask, batch.valid)


def test_an_unknown_name_answers_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean frozen"):
        explained("frozn", batch_for(ConvNet().eval()))


@pytest.mark.parametrize("name", EXPLAINED)
def test_objectives_made_in_inference_mode_have_gradients(name: str) -> None:
    network = ConvNet().eval()
    batch = batch_for(network)

    def gradient() -> Tensor:
        objective = explained(name, batch)
        return ascent(network, objective, batch.image, batch.mask, batch.counted).gradient

    expected = gradient()
    with torch.inference_mode():
        assert torch.equal(gradient(), expected)
    assert bool(expected.any())
