"""A batch whose pixels are attacked, and attacks on it."""

from dataclasses import replace

import pytest
from torch import Tensor

from robustness.attack import Attack, AttackBatch
from robustness.batches import attack_batch, fixed_size
from robustness.pixel_attacks import CountAttack, LevelAttack
from tests.robustness.toy import (
    CPU,
    ConvNet,
    Thresholded,
    as_batch,
    make_slices,
)

SIDE = 12
PIXELS = SIDE**2


def pixel_batch(*, thresholded: bool = False, channels: int = 2) -> AttackBatch:
    network = ConvNet(channels).eval()
    slices = make_slices(8, channels=channels, size=SIDE)
    (piece,) = fixed_size([as_batch(slices)], 8)
    return attack_batch(Thresholded(network) if thresholded else network, piece, CPU)


def disturbed(attack: Attack, batch: AttackBatch, seed: int = 0) -> dict[tuple[int, int], Tensor]:
    return {(point, repeat): image for point, repeat, image in attack.disturb(batch, seed)}


def changed_pixels(image: Tensor, batch: AttackBatch) -> Tensor:
    """Which pixels differ in any channel, shape (B, H * W)."""
    return (image != batch.image).any(dim=1).flatten(1)


LEVELS = LevelAttack("levels", levels=(-3.0, 0.5, 7.0), pixels=4)
COUNTS = CountAttack("counts", counts=(1, 3, 10), value=-2.0)
VALUES = CountAttack("values", counts=(1, 3, 10), low=2.0, high=3.0, repeats=4)
CONTROL = replace(VALUES, name="values_control", ranking="random", values_like="values")
ATTACKS: list[LevelAttack | CountAttack] = [
    LEVELS,
    COUNTS,
    VALUES,
    CONTROL,
    replace(LEVELS, name="levels_control", ranking="random", repeats=3),
]
EACH = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
