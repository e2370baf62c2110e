"""Gradient methods: formulas on linear and quadratic networks, completeness, parity with captum."""

import pytest
import torch
from captum.attr import InputXGradient
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from captum.attr import Saliency as CaptumSaliency
from torch import Tensor, nn

from robustness.attribution import explain
from robustness.attribution_gradients import (
    Gradient,
    GradientXInput,
    IntegratedGradients,
    SmoothGrad,
)
from robustness.attribution_method import Attribution, baseline_image
from robustness.explained import explained
from robustness.objectives import logit_sum, probability_sum
from tests.robustness.toy import ConvNet
from tests.robustness.toy_layers import Layered, Scored, batch_for, made


class Squared(nn.Module):
    """Logits x^2: the gradient is 2x, and the integral along a line known."""

    def forward(self, image: Tensor) -> Tensor:
        return image**2


def _linear() -> nn.Conv2d:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Conv2d(2, 2, kernel_size=1)


@pytest.mark.parametrize(
    "method", [Gradient(), GradientXInput(), SmoothGrad(samples=2), IntegratedGradients(steps=2)]
)
def test_on_a_linear_network_each_is_what_its_formula_says(method: Attribution) -> None:
    network = _linear()
    batch = batch_for(network, channels=2, classes=2)
    weights = network.weight.detach().sum(dim=0)[None].expand_as(batch.image)
    expected = weights if method.name in {"gradient", "smoothgrad"} else weights * batch.image
    torch.testing.assert_close(explain(method, network, batch, logit_sum), expected)


def test_integrated_gradients_of_a_square_are_the_difference_of_squares() -> None:
    network = Squared()
    batch = batch_for(network)
    method = IntegratedGradients(steps=2, baseline=0.3)
    expected = torch.where(batch.valid, batch.image**2 - 0.09, 0)
    torch.testing.assert_close(explain(method, network, batch, logit_sum), expected)


def test_smoothgrad_s_noise_has_the_share_of_the_range_that_is_set() -> None:
    network = Squared()
    batch = batch_for(network, 8, size=24)
    noise = explain(SmoothGrad(samples=1, sigma=0.2), network, batch, logit_sum) / 2 - batch.image
    spans = batch.image.amax((1, 2, 3)) - batch.image.amin((1, 2, 3))
    for row in range(8):
        inside = noise[row][batch.valid[row]] / spans[row]
        assert abs(float(inside.mean())) < 0.04
        assert abs(float(inside.std()) - 0.2) < 0.02
        assert not bool(noise[row][~batch.valid[row]].any())


def test_smoothgrad_without_noise_is_the_gradient() -> None:
    network = ConvNet().eval()
    batch = batch_for(network)
    found = explain(SmoothGrad(samples=2, sigma=0.0), network, batch, probability_sum)
    torch.testing.assert_close(found, explain(Gradient(), network, batch, probability_sum))


@pytest.mark.parametrize("name", ["integrated_gradients", "deeplift"])
@pytest.mark.parametrize("what", ["all", "truth", "frozen", "margin"])
@pytest.mark.parametrize("level", [0.0, 0.7])
def test_contributions_add_up_to_one_percent(name: str, what: str, level: float) -> None:
    network = Layered(2, 2).eval()
    batch = batch_for(network, channels=2, classes=2)
    objective = explained(what, batch)
    found = explain(made(name, baseline=level), network, batch, objective)
    start = baseline_image(batch, level, valid_only=True)
    expected = batch.value(objective, batch.image) - batch.value(objective, start)
    torch.testing.assert_close(found.flatten(1).sum(dim=1), expected, rtol=0.01, atol=2e-3)


def test_they_are_captum_s() -> None:
    network = Layered(2, 2).eval()
    batch = batch_for(network, channels=2, classes=2)
    scored = Scored(network, batch, probability_sum)
    image = batch.image
    pairs = {
        Gradient(): CaptumSaliency(scored).attribute(image.clone(), abs=False),
        GradientXInput(): InputXGradient(scored).attribute(image.clone()),
        IntegratedGradients(steps=7, baseline=0.1, valid_only=False): CaptumIntegratedGradients(
            scored
        ).attribute(image.clone(), baselines=0.1, n_steps=7, method="gausslegendre"),
    }
    for method, expected in pairs.items():
        found = explain(method, network, batch, probability_sum)
        torch.testing.assert_close(found, expected.float().detach(), rtol=1e-5, atol=1e-5)
