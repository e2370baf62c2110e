"""The network alone, at its fastest: what the engine and the training are measured against."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from lightning_module.unet import UNet

_SIZES = (8, 16, 32, 64)
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Bare:
    """A network in the layout and with the batch size in which its forward pass is fastest.

    Attributes:
        network: In evaluation mode, without gradients of its weights.
        batch_size: Slices at once.
        layout: ``contiguous`` or ``channels_last``.
    """

    network: nn.Module
    batch_size: int
    layout: str

    def passes(self, image: Tensor, forward: int, backward: int = 0) -> None:
        """Put slices through the network, some times without and some times with a gradient.

        Args:
            image: Shape ``(B, C, H, W)``.
            forward: Forward passes of each slice without a gradient.
            backward: Passes with a gradient to the image, each a forward and a backward one.
        """
        for part in torch.split(image, self.batch_size):
            with torch.no_grad():
                for _ in range(forward):
                    self.network(part)
            for _ in range(backward):
                leaf = part.clone().requires_grad_()
                torch.autograd.grad(self.network(leaf).sigmoid().sum(), leaf)


def fastest(image: Tensor, seed: int = 0) -> Bare:
    """The U-Net of the protocol, in its fastest layout and batch.

    Args:
        image: Some slices, shape ``(B, C, H, W)``.
        seed: Of its random weights.
    """
    timed = []
    for size, layout in product(_SIZES, _LAYOUTS):
        bare = Bare(_network(seed, layout, image.shape[1]), size, layout)
        full = image[torch.arange(64) % len(image)]
        seconds = median_seconds(partial(bare.passes, full, 1))
        timed.append((seconds, bare))
    return min(timed, key=lambda one: one[0])[1]


def training_network(seed: int = 0) -> nn.Module:
    """The U-Net of the protocol in training mode and its fastest layout, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(1, 1)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def median_seconds(thing: Callable[[], object], trials: int = 5) -> float:
    """Median time of some calls after one that warms up, in seconds."""
    taken = []
    for _ in range(trials + 1):
        start = time.perf_counter()
        thing()
        taken.append(time.perf_counter() - start)
    return sorted(taken[1:])[trials // 2]


def _network(seed: int, layout: str, channels: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(channels, 1).eval().requires_grad_(requires_grad=False)
    return network.to(memory_format=_LAYOUTS[layout])  # type: ignore[call-overload, no-any-return]
