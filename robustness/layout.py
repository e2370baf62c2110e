"""How a network's weights lie in memory, which decides by which kernels they are used."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

LAYOUTS: Mapping[str, torch.memory_format] = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}


@contextmanager
def laid_out(network: nn.Module, layout: str) -> Iterator[None]:
    """Inside, the weights of convolutions lie in a layout; afterwards they are what they were.

    A convolution gives its features in the layout of its weights, so that images need none.
    Nothing may be trained inside.

    Args:
        network: Any module.
        layout: One of ``LAYOUTS``.

    Yields:
        Nothing.
    """
    kept = [(weight, weight.data) for weight in network.parameters() if weight.dim() == len("BCHW")]
    try:
        # Ordinary tensors, whatever mode it is called in: gradients go through them.
        with torch.inference_mode(mode=False), torch.no_grad():
            for weight, data in kept:
                # A copy by all means: of one channel, strides alone tell the layouts apart.
                weight.data = torch.empty_like(data, memory_format=LAYOUTS[layout]).copy_(data)
        yield
    finally:
        for weight, data in kept:
            weight.data = data
