"""Scans with padding and what corruptions make of them, for the tests of both files."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.batches import attack_batch, fixed_size
from robustness.corruptions import CorruptionAttack
from tests.robustness.reference import Slice
from tests.robustness.toy import (
    CPU,
    as_batch,
    make_slices,
)

HIGH = 0.2


def scans(count: int = 6, **settings: int) -> list[Slice]:
    """Slices within the range, smooth, with padding on two sides that holds a mark of its own."""
    made = make_slices(count, **settings)
    return [
        replace(one, image=np.where(one.valid, one.image * np.float32(HIGH), np.float32(0.123)))
        for one in made
    ]


def batch_of(
    slices: Sequence[Slice], network: Callable[[Tensor], Tensor] = Tensor.clone
) -> AttackBatch:
    (piece,) = fixed_size([as_batch(slices)], len(slices))
    return attack_batch(network, piece, CPU)


def one_scan(image: np.ndarray) -> AttackBatch:
    """A batch of one scan ``(C, H, W)`` without padding."""
    return batch_of([Slice("x", 0, *like(image))])


def like(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, empty mask and valid pixels of a slice."""
    shape = image.shape[1:]
    return image.astype(np.float32), np.zeros((1, *shape), bool), np.ones(shape, bool)


def corrupt(
    batch: AttackBatch,
    kind: str,
    *,
    seed: int = 0,
    severities: tuple[int, ...] = (1, 2, 3, 4, 5),
    low: float = 0.0,
    high: float = HIGH,
    valid_only: bool = True,
) -> list[Tensor]:
    attack = CorruptionAttack(
        kind, kind=kind, severities=severities, low=low, high=high, valid_only=valid_only
    )
    return made_by(attack, batch, seed)


def made_by(attack: CorruptionAttack, batch: AttackBatch, seed: int = 0) -> list[Tensor]:
    return [image for _, _, image in attack.disturb(batch, seed)]


def smooth_scan(channels: int = 2, height: int = 20, width: int = 26) -> np.ndarray:
    """Between 0.06 and 0.14: no corruption that adds to it reaches zero."""
    draw = np.random.default_rng(3)
    made = gaussian_filter(draw.random((channels, height, width)), (0, 0.5, 0.5), mode="wrap")
    scaled: np.ndarray = 0.06 + 0.08 * (made - made.min()) / (made.max() - made.min())
    return scaled


def spectrum(image: Tensor | np.ndarray) -> np.ndarray:
    return np.fft.fft2(np.asarray(image, dtype=np.float64))
