"""The norm-bounded attacks with settings for tests, and what tests of them share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustness.apgd import Apgd
from robustness.attack import Attack, AttackBatch
from robustness.directed import EpsilonAttack, Fgsm, IteratedFgsm, MomentumFgsm, NoiseControl
from robustness.norms import NORMS, Norm
from robustness.pgd import CosPgd, Pgd, SegPgd
from robustness.saliency import Forward
from tests.robustness.toy import as_batch, make_slices
from tests.robustness.toy_optima import toy_batch

# Few steps where only rules are tested.
KINDS: dict[str, Callable[..., EpsilonAttack]] = {
    "fgsm": Fgsm,
    "iterated": partial(IteratedFgsm, steps=3, step_size=0.5),
    "momentum": partial(MomentumFgsm, steps=3, step_size=0.5),
    "pgd": partial(Pgd, steps=3, step_size=0.5),
    "segpgd": partial(SegPgd, steps=3, step_size=0.5),
    "cospgd": partial(CosPgd, steps=3, step_size=0.5),
    "apgd": partial(Apgd, steps=6),
    "noise": NoiseControl,
}
ALL = pytest.mark.parametrize("kind", KINDS)
CLEAN_START = ("fgsm", "iterated", "momentum")
RESTARTED = ("pgd", "segpgd", "cospgd", "apgd")
BOTH = pytest.mark.parametrize("norm", NORMS)

# Strong settings of those that find an optimum by steps.
STRONG: dict[str, dict[str, Any]] = {
    "iterated": {"steps": 60, "step_size": 0.05},
    "momentum": {"steps": 60, "step_size": 0.05},
    "pgd": {"steps": 60, "step_size": 0.1},
    "segpgd": {"steps": 60, "step_size": 0.1},
    "cospgd": {"steps": 60, "step_size": 0.1},
    "apgd": {"steps": 60},
}
CLASSES = {
    "fgsm": Fgsm,
    "iterated": IteratedFgsm,
    "momentum": MomentumFgsm,
    "pgd": Pgd,
    "segpgd": SegPgd,
    "cospgd": CosPgd,
    "apgd": Apgd,
}


def slices_batch(
    forward: Forward, *, channels: int = 1, classes: int = 1, size: int = 12, seed: int = 0
) -> AttackBatch:
    """Eight slices in [0, 1] with truth and padding."""
    batch = as_batch(make_slices(8, channels=channels, classes=classes, size=size, seed=seed))
    return toy_batch(forward, batch["image"], mask=batch["mask"], valid=batch["valid"])


def images_of(attack: Attack, batch: AttackBatch, seed: int = 0) -> dict[tuple[int, int], Tensor]:
    """What an attack yields, by point and repeat."""
    return {(index, repeat): image for index, repeat, image in attack.disturb(batch, seed)}


def objective_of(batch: AttackBatch, image: Tensor, name: str = "bce") -> Tensor:
    """An objective's value at some images, shape ``(B,)``."""
    return batch.objectives[name](batch.logits(image), batch.mask, batch.counted)


def exact_lengths(way: Tensor, norm: Norm) -> np.ndarray:
    """Length of each image's disturbance, in float64."""
    flat = way.double().flatten(1).numpy()
    found: np.ndarray = np.linalg.norm(flat, ord=np.inf if norm == "linf" else 2, axis=1)
    return found


def toy_images(seed: int, channels: int = 1, height: int = 6) -> Tensor:
    """Images in [0, 0.2] with many pixels at either end."""
    random = torch.Generator().manual_seed(seed)
    drawn = torch.rand((3, channels, height, height), generator=random)
    return (0.3 * drawn - 0.05).clamp(0, 0.2)
