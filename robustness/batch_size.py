"""How many slices an evaluation puts through a network at once, found by measuring.

A batch that is too small wastes the device, one that is too large falls out of its caches; which is
which differs between devices and networks. Counts do not depend on it.
"""

import time

import torch
from torch import Tensor

from robustness.saliency import Forward

# From 16 on, a slice has the same logits in any batch.
CANDIDATES = (16, 32, 64, 128, 256)
# In batches of fewer pixels, what an evaluation does beside the passes counts.
_FEW_PIXELS = 2**17
# A larger batch must be faster by this much: a small one wastes less where the last is filled up.
_GAIN = 0.03


def candidates_for(image: Tensor) -> tuple[int, ...]:
    """The sizes that are tried, rising: not the smallest where slices are small.

    Args:
        image: One or more slices, shape ``(B, C, H, W)``.
    """
    pixels = CANDIDATES[0] * image.shape[2] * image.shape[3]
    return CANDIDATES[1:] if pixels < _FEW_PIXELS else CANDIDATES


def fastest_batch_size(
    forward: Forward, image: Tensor, trials: int = 3, candidates: tuple[int, ...] = ()
) -> int:
    """The smallest size whose speed a larger one does not beat by more than a little.

    Args:
        forward: Gives logits for images.
        image: One or more slices, shape ``(B, C, H, W)``, on the network's device.
        trials: How many batches of each size are timed, after one that warms up.
        candidates: Rising sizes; none takes those of :func:`candidates_for`. They are tried as long
            as that pays and memory lasts.

    Returns:
        Number of slices.
    """
    sizes = candidates or candidates_for(image)
    best, least = sizes[0], float("inf")
    for size in sizes:
        try:
            seconds = seconds_per_slice(forward, image, size, trials)
        except torch.OutOfMemoryError:
            if size == sizes[0]:
                raise
            break
        if seconds > (1 - _GAIN) * least:
            break
        best, least = size, seconds
    return best


def seconds_per_slice(forward: Forward, image: Tensor, batch_size: int, trials: int = 3) -> float:
    """Measure what one slice costs in a forward pass, to say how long an evaluation takes.

    Args:
        forward: Gives logits for images.
        image: One or more slices, shape ``(B, C, H, W)``, on the network's device.
        batch_size: The size of the engine's batches.
        trials: How many batches are timed after one that warms up.

    Returns:
        Seconds, the median of the trials.
    """
    full = image[torch.arange(batch_size, device=image.device) % image.shape[0]]
    taken = []
    with torch.no_grad():
        for _ in range(trials + 1):
            start = time.perf_counter()
            # Reading a number waits for the device.
            forward(full).float().sum().item()
            taken.append(time.perf_counter() - start)
    return sorted(taken[1:])[trials // 2] / batch_size
