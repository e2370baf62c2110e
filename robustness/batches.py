"""Batches of one fixed size, the last one filled up.

The logits of a slice are then bit-identical whatever batch it sits in: counts do not depend on how
slices are dealt out to batches and processes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.keyed_random import text_key
from robustness.saliency import Forward

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Piece:
    """A batch of the fixed size; the slices after ``len(cases)`` only fill it up."""

    cases: list[str]
    image: Tensor
    mask: Tensor
    valid: Tensor
    slice_index: Tensor


def fixed_size(batch: Batch, size: int) -> Iterator[Piece]:
    """Cut a batch into pieces of one size, the last one filled up with its last slice.

    Args:
        batch: A batch of the design, of any size.
        size: Slices in each piece.

    Yields:
        The pieces, in order.
    """
    for start in range(0, len(batch["case"]), size):
        cases = list(batch["case"][start : start + size])
        chosen = torch.arange(start, start + size).clamp(max=start + len(cases) - 1)

        def pick(name: str, chosen: Tensor = chosen) -> Tensor:
            tensor: Tensor = batch[name]
            return tensor[chosen.to(tensor.device)]

        yield Piece(cases, pick("image"), pick("mask"), pick("valid"), pick("slice_index"))


def attack_batch(forward: Forward, piece: Piece, device: torch.device) -> AttackBatch:
    """What attacks get to see of a piece, on the network's device.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images.
        piece: From :func:`fixed_size`.
        device: Where the network is.

    Returns:
        The batch, with as many slices as the piece has, those that fill it up included.
    """
    keys = [text_key(case) for case in piece.cases]
    keys += keys[-1:] * (len(piece.slice_index) - len(keys))
    return AttackBatch(
        forward,
        piece.image.to(device),
        piece.mask.to(device),
        piece.valid.to(device),
        torch.tensor(keys, dtype=torch.int64, device=device),
        piece.slice_index.to(device),
    )
