"""Networks and slices for which the shortest disturbance that ruins a mask is known or sought."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from robustness.attack import AttackBatch
from robustness.batches import attack_batch, fixed_size
from robustness.minimum_norm import MinimumNormAttack
from robustness.norms import Norm
from tests.robustness.reference import Slice
from tests.robustness.toy import (
    CPU,
    ConvNet,
    as_batch,
    make_slices,
)

HIGH = 0.2


def batch_of(
    slices: Sequence[Slice], network: Callable[[Tensor], Tensor], size: int | None = None
) -> AttackBatch:
    (piece,) = fixed_size([as_batch(slices)], size or len(slices))
    return attack_batch(network, piece, CPU)


def scans(count: int = 6, **settings: int) -> list[Slice]:
    """Slices in the range."""
    return [
        replace(one, image=one.image * np.float32(HIGH)) for one in make_slices(count, **settings)
    ]


def broken_network(channels: int = 1, classes: int = 1, seed: int = 0) -> ConvNet:
    """Random weights, about as many pixels above the threshold as below."""
    network = ConvNet(channels, classes, seed=seed).eval()
    with torch.no_grad():
        network.fine.weight *= 5
    return network


def predicted_as_truth(slices: Sequence[Slice], network: nn.Module) -> list[Slice]:
    """The same slices with the network's own masks for truth: clean Dice is 1."""
    with torch.no_grad():
        found = (network(as_batch(slices)["image"]) > 0).numpy()
    return [replace(one, mask=mask) for one, mask in zip(slices, found, strict=True)]


def distances_of(
    attack: MinimumNormAttack, batch: AttackBatch
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Images and distances for each threshold, and clean Dice."""
    clean = batch.logits(batch.image)
    images: list[Tensor] = []
    distances: list[Tensor] = []
    dice = torch.empty(0)
    for point, repeat, image in attack.disturb(batch, 0):
        assert (point, repeat) == (len(images), 0)
        images.append(image)
        found, dice = attack.measure(batch, point, image, clean)
        distances.append(found)
    return images, distances, dice


class Pixelwise:
    """Each pixel's logit rises with its own intensity: ``slope (x - turn)``, turns at random."""

    def __init__(self, slope: float = 50.0, size: int = 12, count: int = 4, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        shape = (count, 1, size, size)
        self.truth = draw.random(shape) < 0.3
        self.gap = draw.uniform(0.005, 0.06, shape)
        self.image = draw.uniform(0.08, 0.12, shape).astype(np.float32)
        self.turn = torch.from_numpy(
            (self.image - np.where(self.truth, 1, -1) * self.gap).astype(np.float32)
        )
        self.slope = slope

    def __call__(self, image: Tensor) -> Tensor:
        return self.slope * (image - self.turn)

    def batch(self) -> AttackBatch:
        valid = np.ones(self.image.shape[2:], dtype=bool)
        pairs = zip(self.image, self.truth, strict=True)
        return batch_of(
            [
                Slice(f"case_{row}", 0, image, truth, valid)
                for row, (image, truth) in enumerate(pairs)
            ],
            self,
        )

    def shortest(self, threshold: float, norm: Norm) -> list[float]:
        """The optimum by trying all numbers of pixels to miss and to invent, cheapest first."""
        return [
            min(
                np.max(np.concatenate([[0.0], inside[:missed], outside[:invented]]))
                if norm == "linf"
                else math.sqrt((inside[:missed] ** 2).sum() + (outside[:invented] ** 2).sum())
                for missed in range(len(inside) + 1)
                for invented in range(len(outside) + 1)
                if 2 * (len(inside) - missed)
                < threshold * (2 * (len(inside) - missed) + missed + invented)
            )
            for inside, outside in (
                (np.sort(gap[truth]), np.sort(gap[~truth]))
                for gap, truth in zip(self.gap, self.truth, strict=True)
            )
        ]
