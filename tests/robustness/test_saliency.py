"""Input gradients: of networks with a known answer, by finite differences, in every grad mode."""

from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from robustness.objectives import OBJECTIVES, logit_sum, probability_sum
from robustness.saliency import ascent, ascents, input_gradient
from tests.robustness.toy import CallCounter, ConvNet, as_batch, make_slices


def _tensors(channels: int = 1, classes: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    batch = as_batch(make_slices(5, channels=channels, classes=classes, size=12))
    return batch["image"], batch["mask"], batch["valid"]


def _linear(channels: int, classes: int) -> nn.Conv2d:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Conv2d(channels, classes, kernel_size=1)


def _hits(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """An objective whose backward pass needs truth and valid region."""
    return (logits.sigmoid() * target * valid).flatten(1).sum(dim=1)


def test_a_linear_networks_gradient_is_its_weights() -> None:
    image, mask, valid = _tensors(channels=3, classes=2)
    network = _linear(3, 2)
    gradient = input_gradient(network, logit_sum, image, mask, valid)
    expected = network.weight.detach().sum(dim=0)[None].expand_as(image)
    torch.testing.assert_close(gradient, expected)


def test_the_sum_of_probabilities_weighs_by_p_times_1_minus_p() -> None:
    image, mask, valid = _tensors(channels=2)
    network = _linear(2, 1)
    gradient = input_gradient(network, probability_sum, image, mask, valid)
    with torch.no_grad():
        probs = network(image).sigmoid()
    expected = probs * (1 - probs) * network.weight.detach()[0][None]
    torch.testing.assert_close(gradient, expected)


def test_several_objectives_share_one_forward_pass() -> None:
    network, tensors = CallCounter(ConvNet(2, 2).eval()), _tensors(channels=2, classes=2)
    found = ascents(network, (probability_sum, _hits, logit_sum), *tensors)
    assert (network.forwards, network.backwards) == (1, 3)
    for one, objective in zip(found, (probability_sum, _hits, logit_sum), strict=True):
        for part, expected in zip(one, ascent(network, objective, *tensors), strict=True):
            assert torch.equal(part, expected)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    image, mask, valid = _tensors(channels=2, classes=2)
    network, objective = ConvNet(2, 2).double().eval(), OBJECTIVES[name]

    def score(images: Tensor) -> Tensor:
        with torch.no_grad():
            return objective(network(images), mask, valid)

    gradient = input_gradient(network, objective, image.double(), mask, valid)
    for channel, row, column in ((0, 3, 4), (1, 7, 2), (0, 0, 0), (1, 11, 11)):
        step = torch.zeros_like(image, dtype=torch.float64)
        step[:, channel, row, column] = 1e-5
        slope = (score(image.double() + step) - score(image.double() - step)) / 2e-5
        torch.testing.assert_close(gradient[:, channel, row, column], slope, rtol=1e-4, atol=1e-5)


def test_an_images_gradient_does_not_depend_on_its_batch() -> None:
    image, mask, valid = _tensors()
    network = ConvNet().eval()
    together = input_gradient(network, probability_sum, image, mask, valid)
    for row in range(5):
        one = slice(row, row + 1)
        alone = input_gradient(network, probability_sum, image[one], mask[one], valid[one])
        torch.testing.assert_close(alone, together[one], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad(), torch.inference_mode()], ids=["no", "inference"])
def test_it_works_where_gradients_are_off(mode: AbstractContextManager[None]) -> None:
    image, mask, valid = _tensors()
    network = ConvNet().eval()
    expected = input_gradient(network, probability_sum, image, mask, valid)
    with mode:
        # Tensors made here are inference tensors, as a DataLoader's are in standalone validation.
        given = image * 1, mask * 1, valid.clone()
        assert torch.equal(input_gradient(network, probability_sum, *given), expected)
        found = input_gradient(network, _hits, *given)
    assert torch.equal(found, input_gradient(network, _hits, image, mask, valid))


def test_it_leaves_no_trace_in_network_or_image() -> None:
    image, mask, valid = _tensors()
    network = ConvNet(norm=True)
    before = {name: value.clone() for name, value in network.eval().state_dict().items()}
    copy = image.clone()
    input_gradient(network, probability_sum, image, mask, valid)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not image.requires_grad
    assert torch.equal(image, copy)
    after = network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_an_objective_without_one_scalar_per_image_is_refused() -> None:
    image, mask, valid = _tensors()
    with pytest.raises(ValueError, match=r"gives shape \(\), expected one scalar per image: \(5,"):
        input_gradient(ConvNet(), lambda logits, *_: logits.mean(), image, mask, valid)


@pytest.mark.parametrize("trainable", [True, False])
def test_a_network_that_ignores_the_image_is_refused(trainable: bool) -> None:
    image, mask, valid = _tensors()
    bias = nn.Parameter(torch.ones(1), requires_grad=trainable)
    with pytest.raises(ValueError, match="does not depend on the image"):
        input_gradient(
            lambda images: bias.expand(images.shape), probability_sum, image, mask, valid
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_refused(value: float) -> None:
    image, mask, valid = _tensors()
    with pytest.raises(ValueError, match="NaN or infinite"):
        input_gradient(lambda images: images * value, logit_sum, image, mask, valid)
