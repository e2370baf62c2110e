"""Classes that exclude each other: the background of a softmax, and who leads in a pixel."""

import torch
from torch import Tensor

from errors import InputError


def with_background(mask: Tensor) -> Tensor:
    """Truth with the background as its first class.

    Args:
        mask: Truth of 0 and 1, one channel a class, shape ``(B, K, H, W)``.

    Returns:
        Shape ``(B, K + 1, H, W)``; the background is where no class is.
    """
    return torch.cat([1 - mask.amax(1, keepdim=True), mask], 1)


def leads(outputs: Tensor) -> Tensor:
    """How far each class leads over the strongest other class or background.

    Args:
        outputs: Logits of a softmax, the background first, shape ``(B, K + 1, H, W)``.

    Returns:
        Shape ``(B, K, H, W)``; above 0 where the class is the most probable one.
    """
    rivals = [
        torch.cat([outputs[:, :index], outputs[:, index + 1 :]], 1).amax(1)
        for index in range(1, outputs.shape[1])
    ]
    return outputs[:, 1:] - torch.stack(rivals, 1)


def check_apart(mask: Tensor) -> None:
    """Refuse labels that overlap; waits for the device.

    Args:
        mask: Truth of 0 and 1, shape ``(B, K, H, W)``.

    Raises:
        InputError: If a pixel belongs to two classes.
    """
    if (mask.sum(1) > 1).any():
        msg = (
            "--model.outputs: found softmax for labels that overlap, expected each pixel in one "
            "class at most; set --model.outputs sigmoid"
        )
        raise InputError(msg)
