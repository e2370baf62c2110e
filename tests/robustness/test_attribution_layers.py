"""Grad-CAM: one known filter, captum's maps, and which layer is taken."""

import pytest
import torch
from captum.attr import GuidedGradCam as CaptumGuidedGradCam
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.nn import functional

from robustness.attribution import explain
from robustness.attribution_layers import GradCam, GuidedGradCam
from robustness.objectives import logit_sum, probability_sum
from tests.robustness.toy_layers import Layered, Scored, batch_for, made

METHOD_NAMES = ["grad_cam", "guided_grad_cam"]


class KnownFilter(nn.Module):
    """Two features, brightness and its negative, of which the logits take 3 and -2."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 2, kernel_size=1, bias=False)
        self.on = nn.ReLU()
        self.head = nn.Conv2d(2, 1, kernel_size=1)
        with torch.no_grad():
            self.features.weight[:, 0, 0, 0] = torch.tensor([1.0, -1.0])
            self.head.weight[0, :, 0, 0] = torch.tensor([3.0, -2.0])

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.on(self.features(image - 0.4)))
        return logits


class Twice(Layered):
    """Calls its pool a second time, and a module that it does not need."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Identity()
        self.aside = nn.Conv2d(1, 2, kernel_size=3)

    def forward(self, image: Tensor) -> Tensor:
        self.pool(self.pool(image))
        self.aside(image)
        return super().forward(image)


def test_a_known_filter_gives_its_feature_map() -> None:
    network = KnownFilter()
    batch = batch_for(network)
    shifted = batch.image - 0.4
    expected = 3 * shifted.clamp(min=0) - 2 * (-shifted).clamp(min=0)
    found = explain(GradCam("on", positive=False), network, batch, logit_sum)
    torch.testing.assert_close(found, expected)
    cut = explain(GradCam("on"), network, batch, logit_sum)
    torch.testing.assert_close(cut, expected.clamp(min=0))
    assert GradCam(positive=False).signed
    assert not GradCam().signed
    torch.testing.assert_close(explain(GradCam(), network, batch, logit_sum), cut)


@pytest.mark.parametrize("layer", ["second", "second_on", "first_on", "pool", "upsample"])
def test_maps_are_captum_s(layer: str) -> None:
    network = Layered(2, 2).eval()
    batch = batch_for(network, channels=2, classes=2)
    scored = Scored(network, batch, probability_sum)
    module = network.get_submodule(layer)
    cam = LayerGradCam(scored, module).attribute(batch.image.clone(), relu_attributions=True)
    expected = functional.interpolate(cam.detach(), size=(16, 16), mode="bilinear")
    found = explain(GradCam(layer), network, batch, probability_sum)
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize("layer", ["second_on", "first_on"])
def test_guided_maps_are_captum_s(layer: str) -> None:
    network = Layered(2, 2).eval()
    batch = batch_for(network, channels=2, classes=2)
    scored = Scored(network, batch, probability_sum)
    guided = CaptumGuidedGradCam(scored, network.get_submodule(layer))
    expected = guided.attribute(batch.image.clone(), interpolate_mode="bilinear").detach()
    found = explain(GuidedGradCam(layer), network, batch, probability_sum)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_the_rule_takes_the_end_of_the_deepest_level(name: str) -> None:
    network = Layered().eval()
    batch = batch_for(network)
    by_rule = explain(made(name), network, batch, probability_sum)
    named = explain(made(name, layer="second_on"), network, batch, probability_sum)
    assert torch.equal(by_rule, named)
    assert bool(by_rule.any())


def test_an_activation_in_place_leaves_the_map_of_the_layer_before_it() -> None:
    plain = Layered().eval()
    in_place = Layered(activation=lambda: nn.ReLU(inplace=True)).eval()
    maps = [explain(GradCam("second"), one, batch_for(one), logit_sum) for one in (plain, in_place)]
    torch.testing.assert_close(*maps)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("secnd_on", "the name of a module of the network, such as second_on"),
        ("pool", "pool, called 3 times, expected a module called once a pass"),
        ("idle", "idle, called 0 times"),
        ("aside", "aside, expected one between the image and the objective"),
    ],
)
@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_layer_that_cannot_be_taken_is_refused(name: str, layer: str, message: str) -> None:
    network = Twice().eval()
    with pytest.raises(ValueError, match=f"{name}: layer is .*{message}"):
        explain(made(name, layer=layer), network, batch_for(network), logit_sum)


def test_a_layer_without_a_feature_map_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (1, 16, 16)))
    batch = batch_for(network)
    with pytest.raises(ValueError, match="layer is 0, expected a module that gives one tensor"):
        explain(GradCam("0"), network, batch, logit_sum)
    with pytest.raises(ValueError, match="layer is empty, expected the name of a module"):
        explain(GradCam(), network, batch, logit_sum)
