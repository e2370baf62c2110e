"""Orders of pixels: which ones an attack takes first."""

import torch
from torch import Tensor

from robustness.keyed_random import counter_hashes


def rank_by_score(score: Tensor, count: int) -> Tensor:
    """The pixels with the highest scores, highest first; ties go to the lower row-major index.

    Args:
        score: One number per pixel, shape ``(B, H, W)``.
        count: How many pixels each image gives.

    Returns:
        Row-major pixel indices, int64, shape ``(B, count)``.

    Raises:
        ValueError: If an image has fewer than ``count`` pixels.
    """
    flat = score.flatten(1)
    _check_count(count, flat.shape[1])
    order = torch.sort(flat, dim=1, descending=True, stable=True).indices
    return order[:, :count].contiguous()


def rank_at_random(keys: Tensor, repeat: int, valid: Tensor, count: int) -> Tensor:
    """Random pixels of the valid region, in an order that is a function of key and repeat.

    Args:
        keys: One hash state per image, int64, shape ``(B,)``.
        repeat: Which repetition of the experiment.
        valid: True where pixels may be taken, shape ``(B, 1, H, W)``. An image with fewer than
            ``count`` valid pixels gives pixels of the padding after its last valid one.
        count: How many pixels each image gives; the first ones are the same for every count.

    Returns:
        Row-major pixel indices, int64, shape ``(B, count)``.

    Raises:
        ValueError: If an image has fewer than ``count`` pixels.
    """
    flat = valid.flatten(1)
    _check_count(count, flat.shape[1])
    # Half the range of int64 is left for padding, which follows in row-major order.
    score = counter_hashes(keys, repeat, flat.shape[1]) >> 1
    padding = -(2**62) - 1 - torch.arange(flat.shape[1], device=flat.device)
    return torch.where(flat, score, padding).topk(count, dim=1).indices


def _check_count(count: int, pixels: int) -> None:
    if count > pixels:
        msg = f"{count} pixels to take, but an image has only {pixels}"
        raise ValueError(msg)
