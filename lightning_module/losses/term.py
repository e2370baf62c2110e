"""What all loss terms share: their call, the probabilities they work on, and sums over pixels.

A term is called ``term(logits, target, valid, sample_weight=None)`` with shapes ``(B, K, H, W)``
twice, ``(B, 1, H, W)`` and ``(B,)``. It owns its activation and target conversion and reduces
pixels and nothing else: ``(B, K)`` comes out, and the compound weighs classes and samples. A term
over the batch as a whole sets ``over_batch = True``, weighs pixels by their sample before it sums,
and returns ``(1, K)``.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from lightning_module.losses.sharing import shared


class Term(nn.Module, ABC):
    """A loss term of this package.

    Args:
        exclusive: Whether the classes exclude each other: probabilities are a softmax over K
            classes, of which the first is the background, and truth is one of them in each pixel.
            Otherwise each class has a sigmoid of its own.

    Attributes:
        over_batch: Whether the term is one value a class for the batch as a whole, ``(1, K)``.
        background: Whether the first of classes that exclude each other counts in this term.
    """

    over_batch = False

    def __init__(self, *, exclusive: bool = False) -> None:
        super().__init__()
        self.exclusive = exclusive
        self.background = True

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Loss of each class, of each image or of the batch.

        Args:
            logits: Shape ``(B, K, H, W)``; half precision is computed in float32.
            target: Mask of 0 and 1, same shape, of any dtype.
            valid: Pixels that count, shape ``(B, 1, H, W)``, bool.
            sample_weight: Weight of each image, shape ``(B,)``; only terms over the batch use it.

        Returns:
            Shape ``(B, K)``, or ``(1, K)`` of a term over the batch.

        Raises:
            ValueError: If the shapes do not fit.
        """
        _check_shapes(logits, target, valid, sample_weight)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        # Half precision loses all digits of 1 - p near 1, and of sums over many pixels.
        logits, target = _promoted(logits, dtype), _promoted(target, dtype)
        return self.reduce_pixels(logits, target, valid, sample_weight)

    @abstractmethod
    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """The formula; ``forward`` has checked the shapes and brought both to one dtype."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability of each class in each pixel, shape ``(B, K, H, W)``."""
        return _probabilities(logits, self.exclusive)

    def negative_log_likelihood(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of each class in each pixel, shape ``(B, K, H, W)``.

        Of sigmoids ``-(y log p + (1 - y) log(1 - p))``. Of a softmax ``-K y log p``: the mean over
        the K classes is then the cross-entropy of the pixel.
        """
        return _negative_log_likelihood(logits, target, self.exclusive)


class BackgroundTerm(Term):
    """A term that can leave the background out.

    Args:
        background: Whether the background counts, where it is a class; false leaves it out.
        exclusive: See ``Term``.
    """

    def __init__(self, *, background: bool = True, exclusive: bool = False) -> None:
        super().__init__(exclusive=exclusive)
        self.background = background


def masked(values: Tensor, valid: Tensor) -> Tensor:
    """``values`` with 0 in pixels that do not count, whatever stands there, NaN included."""
    return torch.where(valid, values, values.new_zeros(()))


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels of each image and class, ``(B, K)``; 0 where there are none."""
    return masked(values, valid).sum((2, 3)) / _divisor(valid)


def weighted_sum(values: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Sum of ``values`` of shape ``(B, K)`` over the batch, by weight, shape ``(1, K)``."""
    if sample_weight is not None:
        values = values * sample_weight.to(values.dtype).unsqueeze(1)
    return values.sum(0, keepdim=True)


def number(name: str, value: float, *, low: float, high: float = math.inf) -> float:
    """The value as float; raises ValueError unless it is a finite number in ``[low, high]``."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        limits = f"of at least {low:g}" if math.isinf(high) else f"in [{low:g}, {high:g}]"
        msg = f"{name}: found {value!r}, expected a number {limits}"
        raise ValueError(msg)
    return float(value)


def whole_number(name: str, value: int, *, low: int) -> int:
    """The value; raises ValueError unless it is a whole number of at least ``low``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        msg = f"{name}: found {value!r}, expected a whole number of at least {low}"
        raise ValueError(msg)
    return value


@shared
def _probabilities(logits: Tensor, exclusive: bool) -> Tensor:
    return logits.softmax(1) if exclusive else logits.sigmoid()


@shared
def _negative_log_likelihood(logits: Tensor, target: Tensor, exclusive: bool) -> Tensor:
    if exclusive:
        return -logits.shape[1] * target * log_softmax(logits, 1)
    return binary_cross_entropy_with_logits(logits, target, reduction="none")


@shared
def _divisor(valid: Tensor) -> Tensor:
    """Valid pixels of each image, at least 1, shape ``(B, 1)``."""
    return valid.sum((2, 3)).clamp(min=1)


@shared
def _promoted(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype)


def _check_shapes(
    logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
) -> None:
    shape = logits.shape
    if logits.ndim != 4 or shape != target.shape:  # noqa: PLR2004 - B, K, H and W
        msg = (
            f"logits have shape {tuple(shape)}, target {tuple(target.shape)}; "
            "expected (B, K, H, W) twice"
        )
        raise ValueError(msg)
    expected = (shape[0], 1, shape[2], shape[3])
    if valid.shape != expected or valid.dtype != torch.bool:
        msg = (
            f"valid has shape {tuple(valid.shape)} and dtype {valid.dtype}, "
            f"expected {expected} and torch.bool"
        )
        raise ValueError(msg)
    if sample_weight is not None and sample_weight.shape != expected[:1]:
        msg = f"sample_weight has shape {tuple(sample_weight.shape)}, expected {expected[:1]}"
        raise ValueError(msg)
