"""Loss terms: modules that turn logits and truth into one value a class.

A term is called ``term(logits, target, valid, sample_weight=None)`` with shapes ``(B, K, H, W)``
twice, ``(B, 1, H, W)`` and ``(B,)``. It owns its activation and target conversion and reduces
pixels and nothing else: ``(B, K)`` comes out, and the compound weighs classes and samples. A term
over the batch as a whole sets ``over_batch = True``, weighs pixels by their sample before it sums,
and returns ``(1, K)``.
"""

import math

import torch
from torch import Tensor, nn

from lightning_module.losses import functional


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of each class, mean over pixels."""

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; ``functional.binary_cross_entropy`` has the formula."""
        return functional.binary_cross_entropy(logits, target, valid)


class Dice(nn.Module):
    """Soft Dice of each image and class, squared denominators.

    Args:
        smooth: Added to numerator and denominator, in pixels, above 0.

    Raises:
        ValueError: If ``smooth`` is not above 0.
    """

    def __init__(self, smooth: float = 1e-5) -> None:
        super().__init__()
        self.smooth = _number("smooth", smooth, low=1e-12)

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; ``functional.dice`` has the formula."""
        return functional.dice(_probabilities(logits), target, valid, smooth=self.smooth)


class BatchDice(nn.Module):
    """Soft Dice of each class, its sums taken over the batch (under DDP, over the rank's own).

    Args:
        smooth: Added to numerator and denominator, in pixels, above 0.

    Raises:
        ValueError: If ``smooth`` is not above 0.
    """

    over_batch = True

    def __init__(self, smooth: float = 1e-5) -> None:
        super().__init__()
        self.smooth = _number("smooth", smooth, low=1e-12)

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Loss, shape ``(1, K)``; ``functional.batch_dice`` has the formula."""
        return functional.batch_dice(
            _probabilities(logits), target, valid, sample_weight, smooth=self.smooth
        )


class Focal(nn.Module):
    """Focal loss of each class, mean over pixels.

    Args:
        gamma: Focusing exponent, at least 0.
        alpha: Weight of foreground in [0, 1]; background has ``1 - alpha``.

    Raises:
        ValueError: If ``gamma`` or ``alpha`` is out of range.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25) -> None:
        super().__init__()
        self.gamma = _number("gamma", gamma, low=0.0)
        self.alpha = _number("alpha", alpha, low=0.0, high=1.0)

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; ``functional.focal`` has the formula."""
        return functional.focal(logits, target, valid, gamma=self.gamma, alpha=self.alpha)


def _probabilities(logits: Tensor) -> Tensor:
    """Sigmoid in float32 at least: in half precision ``1 - p`` loses all its digits near 1."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()


def _number(name: str, value: float, *, low: float, high: float = math.inf) -> float:
    """The value as float; raises ValueError unless it is a finite number in ``[low, high]``."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        limits = f"of at least {low:g}" if math.isinf(high) else f"in [{low:g}, {high:g}]"
        msg = f"{name}: found {value!r}, expected a number {limits}"
        raise ValueError(msg)
    return float(value)
