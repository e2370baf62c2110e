"""The network alone, at its fastest: what the engine and the training are measured against."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from datamodules.batch import Batch
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


def trained_network(batch: Batch, *, epochs: int = 3, seed: int = 0, size: int = 32) -> nn.Module:
    """The U-Net trained with ``bce``, ready for evaluation.

    Args:
        batch: All slices to train on.
        epochs: How often each slice is seen.
        seed: Of the weights and the order.
        size: Slices in a step.
    """
    network = training_network(seed)
    draw = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(batch["image"]), generator=draw) for _ in range(epochs)]
    steps = torch.split(torch.cat(orders), size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=len(steps))
    for chosen in steps:
        train_step(network, optimizer, batch["image"][chosen], batch["mask"][chosen])
        schedule.step()
    return network.eval().requires_grad_(requires_grad=False)


def train_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor, mask: Tensor
) -> None:
    """One step with ``bce`` and nothing else."""
    optimizer.zero_grad(set_to_none=True)
    logits = network(image.contiguous(memory_format=torch.channels_last))
    loss = binary_cross_entropy_with_logits(logits, mask)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def median_seconds(thing: Callable[[], object], trials: int = 5) -> float:
    """Median time of some calls after one that warms up, in seconds."""
    return sorted([seconds_of(thing) for _ in range(trials + 1)][1:])[trials // 2]


def seconds_of(thing: Callable[[], object]) -> float:
    """Time of one call, in seconds."""
    start = time.perf_counter()
    thing()
    return time.perf_counter() - start


def _network(seed: int, layout: str, channels: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(channels, 1).eval().requires_grad_(requires_grad=False)
    return network.to(memory_format=_LAYOUTS[layout])  # type: ignore[call-overload, no-any-return]
