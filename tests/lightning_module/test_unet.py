from typing import Any

import pytest
import torch
from torch import nn

from errors import InputError
from lightning_module.unet import Activation, Norm, UNet


def test_default_network_has_the_protocols_number_of_parameters() -> None:
    # By hand: encoder 144+32+2304+32 | 4608+64+9216+64 | 18432+128+36864+128 |
    # 73728+256+147456+256,
    # up 32832+8224+2064, decoder 73728+128+36864+128 | 18432+64+9216+64 | 4608+32+2304+32,
    # head 17.
    assert sum(parameter.numel() for parameter in UNet(1, 1).parameters()) == 482_449


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_logits_have_the_images_size_and_every_setting_has_a_gradient(
    norm: Norm, activation: Activation
) -> None:
    network = UNet(2, 3, channels=(4, 8, 16), norm=norm, activation=activation)

    logits = network(torch.rand(2, 2, 12, 20))

    assert logits.shape == (2, 3, 12, 20)
    logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_settings_choose_norm_and_activation() -> None:
    kinds = {type(module) for module in UNet(1, 1, norm="instance", activation="prelu").modules()}

    assert {nn.InstanceNorm2d, nn.PReLU} <= kinds
    assert not {nn.BatchNorm2d, nn.ReLU} & kinds


def test_each_activation_is_used_once_a_pass_and_not_in_place() -> None:
    network = UNet(1, 1)
    calls: list[nn.Module] = []
    activations = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    for module in activations:
        module.register_forward_hook(lambda used, *_: calls.append(used))

    network(torch.rand(1, 1, 16, 16))

    assert len(activations) == 14
    assert len(calls) == len(set(map(id, calls))) == 14
    assert not any(module.inplace for module in activations)


def test_every_output_pixel_depends_on_pixels_far_away() -> None:
    image = torch.rand(1, 1, 64, 64, requires_grad=True)

    UNet(1, 1).eval()(image)[0, 0, 32, 32].backward()

    assert image.grad is not None
    rows = image.grad[0, 0].abs().sum(1).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 >= 60


def test_without_levels_below_it_is_two_convolutions() -> None:
    image = torch.rand(1, 1, 3, 5, requires_grad=True)

    UNet(1, 1, channels=(4,)).eval()(image)[0, 0, 0, 0].backward()

    assert image.grad is not None
    assert (image.grad[0, 0] != 0).nonzero().tolist() == [
        [r, c] for r in range(3) for c in range(3)
    ]


@pytest.mark.parametrize(
    ("shape", "found"), [((1, 1, 60, 64), "60 x 64"), ((1, 3, 64, 64), "3 channels")]
)
def test_an_image_that_does_not_fit_is_refused(shape: tuple[int, ...], found: str) -> None:
    with pytest.raises(InputError, match=f"^image: found {found}.*expected .*; "):
        UNet(1, 1)(torch.rand(shape))


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"channels": ()}, "levels \\[\\]"),
        ({"channels": (4, 0)}, "levels \\[4, 0\\]"),
        ({"num_classes": 0}, "0 classes"),
        ({"norm": "layer"}, "--model.norm: found 'layer', expected one of batch, instance"),
        ({"activation": "gelu"}, "--model.activation: found 'gelu', expected one of relu, prelu"),
    ],
)
def test_a_setting_no_network_can_have_is_refused(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found):
        UNet(**{"in_channels": 1, "num_classes": 1, **settings})
