"""Toy networks whose strongest disturbance is known in closed form, and that disturbance.

The optima are found in float64 with numpy, by water-filling where there is no closed form, and
share no code with the attacks. Every network gives logits of the shape ``(B, 1, H, W)``.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.keyed_random import text_key
from robustness.saliency import Forward


@dataclass(frozen=True)
class Linear:
    """Every pixel's logit is the same weighted sum of the image: ``weight`` is ``(C, H, W)``.

    Any objective that rises with the logits (``logit_sum``; ``bce`` where the mask is empty) is
    highest where the sum is.
    """

    weight: Tensor
    bias: float = 0.0

    def __call__(self, image: Tensor) -> Tensor:
        total = (self.weight * image).sum(dim=(1, 2, 3), keepdim=True) + self.bias
        return total.expand(-1, 1, *image.shape[2:])


@dataclass(frozen=True)
class Quadratic:
    """A pixel's logit falls with the square of its distance from ``centre``, ``(C, H, W)``.

    The sum of the logits is highest at the point of the budget that is nearest to the centre (for
    another ``curvature`` than 1 only in the maximum norm).
    """

    centre: Tensor
    curvature: Tensor | float = 1.0

    def __call__(self, image: Tensor) -> Tensor:
        return -(self.curvature * (image - self.centre) ** 2).sum(dim=1, keepdim=True)


def toy_batch(
    forward: Forward,
    image: Tensor,
    *,
    mask: Tensor | None = None,
    valid: Tensor | None = None,
    counted: Tensor | None = None,
    first_slice: int = 0,
) -> AttackBatch:
    """A batch around some images, float32 ``(B, C, H, W)``, of one case.

    Where nothing else is said the masks are empty (one class), and every pixel is valid and counts.
    """
    count, _, height, width = image.shape
    everywhere = torch.ones((count, 1, height, width), dtype=torch.bool)
    return AttackBatch(
        forward,
        image,
        torch.zeros((count, 1, height, width)) if mask is None else mask,
        everywhere if valid is None else valid,
        torch.full((count,), text_key("toy")),
        torch.arange(first_slice, first_slice + count),
        everywhere if counted is None else counted,
    )


def hull(clean: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a pixel may go: between ``low`` and ``high``, widened by its clean value."""
    return np.minimum(clean, low), np.maximum(clean, high)


def linear_optimum(
    weight: np.ndarray,
    clean: np.ndarray,
    epsilon: float,
    norm: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    allowed: np.ndarray | bool = True,
) -> np.ndarray:
    """The image of ``weight``'s highest sum within the budget; arrays of one image, ``(C, H, W)``.

    In the maximum norm every pixel goes as far as it may. In the Euclidean norm the disturbance is
    ``clip(s * weight)`` with the ``s`` that takes the whole epsilon, or all bounds where they are
    nearer.
    """
    weight = np.where(allowed, weight, 0.0).astype(np.float64)
    clean = clean.astype(np.float64)
    lower, upper = hull(clean, low, high)
    if norm == "linf":
        return _array(np.clip(clean + epsilon * np.sign(weight), lower, upper))
    return _array(clean + _filled(weight, lower - clean, upper - clean, epsilon, np.inf))


def nearest_in_budget(
    centre: np.ndarray,
    clean: np.ndarray,
    epsilon: float,
    norm: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    allowed: np.ndarray | bool = True,
) -> np.ndarray:
    """The point of the budget nearest to ``centre``: the optimum of ``Quadratic``."""
    clean = clean.astype(np.float64)
    lower, upper = hull(clean, low, high)
    way = np.where(allowed, centre - clean, 0.0).astype(np.float64)
    if norm == "linf":
        return _array(np.clip(clean + np.clip(way, -epsilon, epsilon), lower, upper))
    return _array(clean + _filled(way, lower - clean, upper - clean, epsilon, 1.0))


def sparse_linear_optimum(
    weight: np.ndarray,
    clean: np.ndarray,
    count: int,
    *,
    low: float,
    high: float,
    allowed: np.ndarray | bool = True,
) -> np.ndarray:
    """The image of ``weight``'s highest sum where ``count`` pixels of ``(H, W)`` may change.

    A pixel is all its channels; each goes to the end of [low, high] that its weight points to,
    or stays where both ends are worse.
    """
    best = np.where(weight > 0, np.maximum(clean, high), np.minimum(clean, low))
    gain = np.where(allowed, weight * (best - clean), 0.0).sum(axis=0)
    chosen = np.argsort(-gain, axis=None, kind="stable")[:count]
    taken = np.zeros(gain.size, dtype=bool)
    taken[chosen] = gain.ravel()[chosen] > 0
    return _array(np.where(taken.reshape(gain.shape), best, clean))


def _filled(
    way: np.ndarray, lower: np.ndarray, upper: np.ndarray, epsilon: float, most: float
) -> np.ndarray:
    """``clip(s * way)`` with the largest ``s <= most`` whose length is at most epsilon."""
    nearest, farthest = 0.0, 1.0
    while farthest < most and farthest < 1e12:
        farthest *= 2.0
    farthest = min(farthest, most)
    if np.linalg.norm(np.clip(farthest * way, lower, upper)) <= epsilon:
        return _array(np.clip(farthest * way, lower, upper))
    for _ in range(200):
        middle = (nearest + farthest) / 2
        if np.linalg.norm(np.clip(middle * way, lower, upper)) <= epsilon:
            nearest = middle
        else:
            farthest = middle
    return _array(np.clip(nearest * way, lower, upper))


def _array(found: np.ndarray) -> np.ndarray:
    """The same array: numpy's stubs lose the type of what they calculate."""
    return found
