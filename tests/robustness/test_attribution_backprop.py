"""DeepLIFT and guided backpropagation: by hand, captum's, reused and functional activations."""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from captum.attr import DeepLift as CaptumDeepLift
from captum.attr import GuidedBackprop as CaptumGuidedBackprop
from torch import Tensor, nn
from torch.nn import functional

from robustness.attribution import explain
from robustness.attribution_backprop import DeepLift, GuidedBackprop
from robustness.explained import explained
from robustness.objectives import OBJECTIVES, logit_sum, probability_sum
from tests.robustness.toy_layers import Layered, Reusing, Scored, batch_for, made

BOTH = ["deeplift", "guided_backprop"]


class ByHand(nn.Module):
    """Logits relu(2 a - b - shift), where a and b are the image's two channels."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift
        self.on = nn.ReLU()

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.on(2 * image[:, :1] - image[:, 1:] - self.shift)
        return logits


class Pooled(nn.Module):
    """Overlapping maxima of the image, scaled back up."""

    def forward(self, image: Tensor) -> Tensor:
        pooled: Tensor = functional.max_pool2d(image, kernel_size=3, stride=1, padding=1)
        return pooled


class ActivePool(nn.Module):
    """Maxima of an activation's outputs, scaled back up."""

    def forward(self, image: Tensor) -> Tensor:
        pooled = functional.max_pool2d((3 * image - 1).relu(), 2)
        scaled: Tensor = functional.interpolate(pooled, scale_factor=2.0)
        return scaled


class Strongest(nn.Module):
    """The brightest of the image's channels at each pixel."""

    def __init__(self, axes: int | tuple[int, ...], *, keepdim: bool) -> None:
        super().__init__()
        self.axes = axes
        self.keepdim = keepdim

    def forward(self, image: Tensor) -> Tensor:
        strongest = (3 * image).amax(self.axes, keepdim=self.keepdim)
        return strongest if self.keepdim else strongest[:, None]


class Chosen(nn.Module):
    """A ReLU written by hand, which no rule can see."""

    def forward(self, image: Tensor) -> Tensor:
        shifted = image - 0.4
        return torch.where(shifted > 0, shifted, 0)


class Overwritten(nn.Module):
    """An activation in place, whose argument is used again."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, image: Tensor) -> Tensor:
        features = 3 * image - 1
        on = self.activation(features)
        both: Tensor = features + on if self.activation.inplace else 2 * on
        return both


def test_deeplift_shares_out_a_relu_by_hand() -> None:
    network = ByHand(0.25)
    batch = batch_for(network, channels=2)
    batch.mask.data = torch.zeros(4, 1, 16, 16)
    change = 2 * batch.image[:, :1] - batch.image[:, 1:]
    # The baseline lies at -0.25, where the ReLU gives 0.
    share = (change - 0.25).clamp(min=0) / torch.where(change == 0, 1, change)
    expected = share * torch.cat([2 * batch.image[:, :1], -batch.image[:, 1:]], dim=1)
    found = explain(DeepLift(), network, batch, logit_sum)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_guided_backprop_keeps_what_is_above_zero_at_relus_that_are_on() -> None:
    network = ByHand(0.25)
    batch = batch_for(network, channels=2)
    on = (network(batch.image) > 0).float()
    found = explain(GuidedBackprop(), network, batch, logit_sum)
    torch.testing.assert_close(found, torch.cat([2 * on, -on], dim=1))
    below = explain(GuidedBackprop(), network, batch, lambda *given: -logit_sum(*given))
    assert not bool(below.any())


def test_deeplift_shares_out_maxima_of_activations_as_a_loop_does() -> None:
    network = ActivePool()
    batch = batch_for(network)
    level = 0.45
    found = explain(DeepLift(level, valid_only=False), network, batch, logit_sum)
    on, on_before = (
        (3 * one - 1).relu().numpy() for one in (batch.image, torch.full_like(batch.image, level))
    )
    expected = np.zeros(on.shape)
    for row, top, left in np.ndindex(4, 8, 8):
        place = (row, 0, slice(2 * top, 2 * top + 2), slice(2 * left, 2 * left + 2))
        window, window_before = on[place], on_before[place]
        value, before = window.max(), window_before.max()
        # Each maximum stands for four logits.
        entry = np.unravel_index(window.argmax(), (2, 2))
        entry_before = np.unravel_index(window_before.argmax(), (2, 2))
        expected[place][entry] += 4 * (max(value, before) - before)
        expected[place][entry_before] += 4 * (value - max(value, before))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_deeplift_of_maxima_adds_up() -> None:
    network = Pooled()
    batch = batch_for(network, channels=2, classes=2)
    found = explain(DeepLift(baseline=0.4), network, batch, logit_sum)
    blank = torch.where(batch.valid, 0.4, batch.image)
    expected = batch.value(logit_sum, batch.image) - batch.value(logit_sum, blank)
    torch.testing.assert_close(found.flatten(1).sum(dim=1), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.Softplus]
)
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_deeplift_is_captum_s(activation: Callable[[], nn.Module], level: float) -> None:
    network = Layered(2, 2, activation).eval()
    batch = batch_for(network, channels=2, classes=2)
    found = explain(DeepLift(level, valid_only=False), network, batch, logit_sum)
    # In double precision: captum's quotients of small differences are rounding otherwise.
    scored = Scored(network.double(), batch, logit_sum)
    expected = CaptumDeepLift(scored).attribute(batch.image.double(), baselines=level).detach()
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
def test_guided_backprop_is_captum_s() -> None:
    network = Layered(2, 2).eval()
    batch = batch_for(network, channels=2, classes=2)
    found = explain(GuidedBackprop(), network, batch, probability_sum)
    scored = Scored(network, batch, probability_sum)
    expected = CaptumGuidedBackprop(scored).attribute(batch.image.clone()).detach()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    "activation", [nn.ReLU(), functional.relu, torch.relu, Tensor.relu, nn.ReLU(inplace=True)]
)
def test_reused_and_functional_activations_get_the_rule(
    name: str, activation: Callable[[Tensor], Tensor]
) -> None:
    inner = Layered().eval()
    batch = batch_for(inner)
    expected = explain(made(name), inner, batch, probability_sum)
    reusing = Reusing(inner, activation)
    found = explain(made(name), reusing, batch_for(reusing), probability_sum)
    torch.testing.assert_close(found, expected)
    plain = explain(made("gradient"), inner, batch, probability_sum)
    assert not torch.allclose(found, plain, atol=1e-3)


@pytest.mark.parametrize("name", BOTH)
def test_an_activation_in_place_writes_over_its_argument(name: str) -> None:
    pair = Overwritten(nn.ReLU(inplace=True)), Overwritten(nn.ReLU())
    assert torch.equal(pair[0](torch.ones(1)), pair[1](torch.ones(1)))
    maps = [explain(made(name), one, batch_for(one), logit_sum) for one in pair]
    torch.testing.assert_close(*maps)
    assert bool(maps[0].any())


@pytest.mark.parametrize("activation", [nn.PReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.ReLU6])
def test_deeplift_of_other_activations_adds_up(activation: Callable[[], nn.Module]) -> None:
    network = Layered(2, 2, activation).eval()
    batch = batch_for(network, channels=2, classes=2)
    objective = explained("frozen", batch)
    found = explain(DeepLift(), network, batch, objective).flatten(1).sum(dim=1)
    blank = torch.zeros_like(batch.image)
    expected = batch.value(objective, batch.image) - batch.value(objective, blank)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["probability_sum", "logit_sum", "bce", "balanced_bce", "margin"])
def test_deeplift_of_losses_adds_up(name: str) -> None:
    network = Layered().eval()
    batch = batch_for(network)
    found = explain(DeepLift(), network, batch, OBJECTIVES[name]).flatten(1).sum(dim=1)
    blank = torch.zeros_like(batch.image)
    expected = batch.value(name, batch.image) - batch.value(name, blank)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("activation", [nn.PReLU, nn.LeakyReLU, nn.GELU, nn.Sigmoid])
@pytest.mark.parametrize("name", ["guided_backprop", "guided_grad_cam"])
def test_guided_methods_refuse_what_is_not_relu(
    name: str, activation: Callable[[], nn.Module]
) -> None:
    network = Layered(activation=activation).eval()
    message = rf"{name}: \w+ in the module first_on has no rule; it is defined for ReLU alone"
    with pytest.raises(ValueError, match=message):
        explain(made(name), network, batch_for(network), logit_sum)


def test_guided_backprop_refuses_a_relu_that_it_cannot_see() -> None:
    network = nn.Sequential(Chosen())
    with pytest.raises(ValueError, match="where in the module 0 has no rule"):
        explain(GuidedBackprop(), network, batch_for(network), logit_sum)


def test_deeplift_refuses_contributions_that_do_not_add_up() -> None:
    network = Chosen()
    with pytest.raises(ValueError, match=r"sum of slice .* a comparison decides something"):
        explain(DeepLift(), network, batch_for(network), logit_sum)


def test_deeplift_refuses_what_works_on_several_entries_at_once() -> None:
    network = Layered(norm=nn.InstanceNorm2d).eval()
    batch = batch_for(network)
    with pytest.raises(ValueError, match="deeplift: instance_norm in the module norm has no rule"):
        explain(DeepLift(), network, batch, logit_sum)
    assert bool(explain(GuidedBackprop(), network, batch, logit_sum).any())
    ordinary = Layered().eval()
    with pytest.raises(
        ValueError, match="deeplift: div in the objective has no rule; choose integ"
    ):
        explain(DeepLift(), ordinary, batch_for(ordinary), OBJECTIVES["soft_dice"])


def test_deeplift_refuses_a_network_that_takes_another_way_for_the_baseline() -> None:
    class Branching(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.relu(image) if bool(image.any()) else image

    network = Branching()
    with pytest.raises(ValueError, match="takes another way for the image than for the baseline"):
        explain(DeepLift(), network, batch_for(network), logit_sum)


@pytest.mark.parametrize("name", BOTH)
def test_a_compiled_module_is_refused(name: str) -> None:
    compiled, inside = Layered().eval(), Layered().eval()
    compiled.compile(backend="eager")
    inside.first_on = cast(nn.Module, torch.compile(nn.ReLU(), backend="eager"))
    for network in (compiled, inside):
        with pytest.raises(ValueError, match="is compiled, so that its activations cannot be seen"):
            explain(made(name), network, batch_for(network), logit_sum)


@pytest.mark.parametrize("keepdim", [True, False])
def test_a_maximum_of_channels_is_shared_out_as_a_pool_s(keepdim: bool) -> None:
    """What the rule says, channel by channel; each pixel's contributions add up."""
    network = Strongest(1, keepdim=keepdim)
    batch = batch_for(network, channels=3)
    level = 0.4
    found = explain(DeepLift(level, valid_only=False), network, batch, logit_sum)
    image, expected = batch.image, torch.zeros_like(batch.image)
    # All channels of the baseline are as bright: its first one is the maximum.
    for place in np.ndindex(len(image), *image.shape[2:]):
        pixel = image[place[0], :, place[1], place[2]]
        now = int(pixel.argmax())
        rise = 3 * float(pixel[now]) - 3 * level
        expected[place[0], now if rise > 0 else 0, place[1], place[2]] = rise
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(dim=1), 3 * (image.amax(dim=1) - level))


def test_a_maximum_that_moves_pays_both_entries() -> None:
    """Image (1, 5) over (3, 2) by channels: 5 - 3 goes to the second, which rose by 3."""
    network = _Over(torch.tensor([3.0, 2.0]))
    batch = batch_for(network, 1, channels=2)
    image = torch.tensor([1.0, 5.0]).reshape(1, 2, 1, 1).expand_as(batch.image).clone()
    rising = explain(
        DeepLift(valid_only=False), network, replace(batch, image=image - network.start), logit_sum
    )
    torch.testing.assert_close(rising[0, :, 3, 4], torch.tensor([0.0, 2.0]))
    # The other way it falls by 2: the entry that was the maximum at the image of before gets it.
    image = torch.tensor([1.0, 2.5]).reshape(1, 2, 1, 1).expand_as(batch.image).clone()
    falling = explain(
        DeepLift(valid_only=False), network, replace(batch, image=image - network.start), logit_sum
    )
    torch.testing.assert_close(falling[0, :, 3, 4], torch.tensor([-0.5, 0.0]))


class _Over(nn.Module):
    """The maximum of two channels, which are ``start`` where the image is 0."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.start = start.reshape(1, 2, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        return (image + self.start).amax(1, keepdim=True)


def test_a_maximum_over_several_axes_has_no_rule() -> None:
    network = Strongest((2, 3), keepdim=True)
    with pytest.raises(
        ValueError, match="deeplift: amax over 2 axes in the module network has no rule"
    ):
        explain(DeepLift(), network, batch_for(network, channels=2), logit_sum)
