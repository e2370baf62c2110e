"""Zeros of the gradient and saturated outputs are counted exactly, in valid pixels alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from robustness.gradient_health import GradientHealth, gradient_health
from tests.robustness.toy import CPU, ConvNet

Forward = Callable[[Tensor], Tensor]


def batch(slices: int = 20) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    valid = torch.zeros(slices, 1, 8, 8, dtype=torch.bool)
    valid[:, :, :6, :5] = True
    return {
        "image": torch.rand(slices, 2, 8, 8, generator=generator),
        "mask": (torch.rand(slices, 1, 8, 8, generator=generator) > 0.5).float(),
        "valid": valid,
        "case": ["a"] * slices,
        "slice_index": torch.arange(slices),
    }


def linear(image: Tensor) -> Tensor:
    return image.sum(dim=1, keepdim=True) - 1


def test_a_linear_network_has_neither_zeros_nor_saturation() -> None:
    found = gradient_health(linear, [batch()], device=CPU, batch_size=16)
    assert found == GradientHealth(0, 20 * 30 * 2, 0, 20 * 30)
    assert found.zero_share == found.saturated_share == 0


def test_zeros_are_counted_where_the_network_does_not_look() -> None:
    def half_blind(image: Tensor) -> Tensor:
        seen = torch.ones_like(image)
        seen[..., :3, :] = 0  # three of the six valid rows
        return linear(image * seen)

    found = gradient_health(half_blind, [batch()], device=CPU, batch_size=16)
    assert found.zero_share == 0.5


@pytest.mark.parametrize(("scale", "share"), [(1.0, 0.0), (1e6, 1.0)])
def test_steep_sigmoids_are_saturated(scale: float, share: float) -> None:
    def steep(image: Tensor) -> Tensor:
        return scale * linear(image)

    assert gradient_health(steep, [batch()], device=CPU).saturated_share == share


def test_slices_that_fill_a_batch_up_and_the_size_of_batches_change_nothing() -> None:
    network = ConvNet(2).eval()
    found = [
        gradient_health(network, [batch()], device=CPU, batch_size=size) for size in (16, 20, 32)
    ]
    assert found[0] == found[1] == found[2]
    assert found[0].outputs == 20 * 30


def test_the_numbers_add_up_and_travel_as_text() -> None:
    total = GradientHealth(1, 10, 3, 4) + GradientHealth(2, 10, 0, 4)
    assert total == GradientHealth(3, 20, 3, 8)
    assert GradientHealth.from_text(total.to_text()) == total
    assert GradientHealth().zero_share == 0
