"""Leaves a network and the random state exactly as they were before an evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Evaluation mode without parameter gradients inside; everything as before afterwards.

    Restored are each module's train or eval mode, each parameter's ``requires_grad`` and torch's
    random state on the CPU and on the devices of the parameters. Weights and buffers do not
    change, since nothing trains inside. Without parameter gradients a backward pass to the
    image costs about half.

    Args:
        network: Any module.

    Yields:
        Nothing.
    """
    modes = {module: module.training for module in network.modules()}
    flags = {parameter: parameter.requires_grad for parameter in network.parameters()}
    devices = sorted({p.device.index or 0 for p in flags if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices, device_type="cuda"):
        try:
            network.eval()
            for parameter in flags:
                parameter.requires_grad = False
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            for parameter, flag in flags.items():
                parameter.requires_grad = flag
