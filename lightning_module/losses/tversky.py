"""Losses of overlap that come from MONAI: Jaccard and Tversky, and the focal Tversky on top."""

import torch
from monai.losses.dice import DiceLoss
from monai.losses.tversky import TverskyLoss
from torch import Tensor, nn

from lightning_module.losses.overlap import OverlapTerm
from lightning_module.losses.term import masked, number

# Of a power below 1 the slope at 0 is infinite: from here to 0 it is a straight line.
_LINE = 1e-6


class MonaiOverlap(OverlapTerm):
    """A loss of MONAI, by image and class, of probabilities and truth that are 0 in masked pixels.

    Pixels of probability and truth 0 add nothing to any of its sums.

    Attributes:
        monai: The loss, with ``reduction="none"`` and without an activation of its own.
    """

    monai: nn.Module

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in [0, 1], shape ``(B, K)``."""
        values: Tensor = self.monai(
            masked(self.probabilities(logits), valid), masked(target, valid)
        )
        return values.flatten(1)


class Jaccard(MonaiOverlap):
    """One minus intersection over union: ``1 - (2 I + s) / (2 (sum(p) + sum(y) - I) + s)``.

    ``I = sum(p y)``, by image, with plain denominators.

    Args:
        smooth: ``s``, in pixels; truth and prediction both empty give a loss of 0.
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``smooth`` is not above 0.

    References:
        Rahman and Wang, Optimizing intersection-over-union in deep neural networks for image
        segmentation, ISVC 2016.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> Jaccard()(zero, zero + 1, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.5000]])
    """

    def __init__(
        self, smooth: float = 1e-5, *, background: bool = True, exclusive: bool = False
    ) -> None:
        super().__init__(smooth, background=background, exclusive=exclusive)
        self.monai = DiceLoss(
            jaccard=True, reduction="none", smooth_nr=self.smooth, smooth_dr=self.smooth
        )


class Tversky(MonaiOverlap):
    """``1 - (I + s) / (I + alpha FP + beta FN + s)``: false positives and negatives weigh apart.

    ``I = sum(p y)``, ``FP = sum(p (1 - y))``, ``FN = sum((1 - p) y)``, by image, plain sums. With
    0.5 and 0.5 it is Dice with plain denominators (and half its ``s``), with 1 and 1 Jaccard.

    Args:
        alpha: Weight of false positives, at least 0.
        beta: Weight of false negatives, at least 0.
        smooth: ``s``, in pixels; truth and prediction both empty give a loss of 0.
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Salehi et al., Tversky loss function for image segmentation using 3D fully convolutional
        deep networks, MLMI 2017; 0.3 and 0.7 are its best.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> Tversky()(zero, zero + 1, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.4118]])
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 1e-5,
        *,
        background: bool = True,
        exclusive: bool = False,
    ) -> None:
        super().__init__(smooth, background=background, exclusive=exclusive)
        self.monai = TverskyLoss(
            alpha=number("alpha", alpha, low=0.0),
            beta=number("beta", beta, low=0.0),
            reduction="none",
            smooth_nr=self.smooth,
            smooth_dr=self.smooth,
        )


class FocalTversky(Tversky):
    """``(1 - TI)^(1 / gamma)`` of the Tversky index ``TI``: images that fit badly pull more.

    For ``gamma`` above 1 the slope is infinite at ``TI = 1``; where ``1 - TI`` is below 1e-6 a
    straight line to 0 stands for the power, so that a perfect prediction has a finite gradient.

    Args:
        alpha: Weight of false positives, at least 0.
        beta: Weight of false negatives, at least 0.
        gamma: The power is one over it, at least 0.1; in the paper it is between 1 and 3.
        smooth: In pixels; truth and prediction both empty give a loss of 0.
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Abraham and Khan, A novel focal Tversky loss function with improved attention U-Net for
        lesion segmentation, ISBI 2019; its alpha is our beta.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> FocalTversky()(zero, zero + 1, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.5140]])
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 4 / 3,
        smooth: float = 1e-5,
        *,
        background: bool = True,
        exclusive: bool = False,
    ) -> None:
        super().__init__(alpha, beta, smooth, background=background, exclusive=exclusive)
        self.power = 1 / number("gamma", gamma, low=0.1)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in [0, 1], shape ``(B, K)``."""
        rest = super().reduce_pixels(logits, target, valid, sample_weight)
        line = rest * _LINE ** (self.power - 1)
        return torch.where(rest > _LINE, rest.clamp(min=_LINE).pow(self.power), line)
