"""Losses of the overlap of prediction and truth, from sums over the pixels of an image or batch."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_module.losses.term import BackgroundTerm, masked, number, weighted_sum


class Sums(NamedTuple):
    """Sums over valid pixels of each class, shape ``(B, K)``, or ``(1, K)`` over the batch.

    Attributes:
        shared: ``sum(p y)``.
        predicted: ``sum(p)``, or ``sum(p^2)`` for squared denominators.
        true: ``sum(y)``, or ``sum(y^2)``.
    """

    shared: Tensor
    predicted: Tensor
    true: Tensor


class OverlapTerm(BackgroundTerm):
    """A term of the overlap of each class.

    Args:
        smooth: Added to numerator and denominator, in pixels, above 0.
        background: Whether the background counts, where it is a class; false leaves it out.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``smooth`` is not above 0.
    """

    def __init__(
        self, smooth: float = 1e-5, *, background: bool = True, exclusive: bool = False
    ) -> None:
        super().__init__(background=background, exclusive=exclusive)
        self.smooth = number("smooth", smooth, low=1e-12)

    def sums(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor,
        *,
        squared: bool = False,
        of_batch: bool = False,
    ) -> Sums:
        """Sums over the pixels of each image, shape ``(B, K)``, or of the batch, ``(1, K)``."""
        axes = (0, 2, 3) if of_batch else (2, 3)
        probs, truth = masked(self.probabilities(logits), valid), masked(target, valid)
        shared = probs * truth
        if squared:
            probs, truth = probs.square(), truth.square()
        classes = logits.shape[1]
        return Sums(*(values.sum(axes).view(-1, classes) for values in (shared, probs, truth)))


def over_batch(sums: Sums, sample_weight: Tensor | None) -> Sums:
    """Sums over the images of a batch, each by its weight, shape ``(1, K)``."""
    return Sums(*(weighted_sum(values, sample_weight) for values in sums))


class Dice(OverlapTerm):
    """One minus the overlap of each image: ``1 - (2 sum(p y) + s) / (sum(p^2) + sum(y^2) + s)``.

    In an image without foreground the overlap is ``s / (sum(p^2) + s)``: the loss is next to 1
    whatever is predicted, its gradient next to 0, and it drops to 0 only for probabilities that are
    0 almost everywhere. ``BatchDice`` is the cure where many images hold no foreground.

    Args:
        smooth: ``s``, in pixels; truth and prediction both empty give a loss of 0.
        squared: Whether the denominators are sums of squares (V-Net) or plain sums.
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``smooth`` is not above 0.

    References:
        Milletari et al., V-Net, 3DV 2016, section 3 (squared denominators).

    Example:
        >>> sure = torch.full((1, 1, 2, 2), 50.0)
        >>> Dice()(sure, torch.ones(1, 1, 2, 2), sure.bool())
        tensor([[0.]])
    """

    def __init__(
        self,
        smooth: float = 1e-5,
        *,
        squared: bool = True,
        background: bool = True,
        exclusive: bool = False,
    ) -> None:
        super().__init__(smooth, background=background, exclusive=exclusive)
        self.squared = squared

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in [0, 1], shape ``(B, K)``."""
        return self._one_minus_dice(self.sums(logits, target, valid, squared=self.squared))

    def _one_minus_dice(self, sums: Sums) -> Tensor:
        size = sums.predicted + sums.true
        return 1 - (2 * sums.shared + self.smooth) / (size + self.smooth)


class BatchDice(Dice):
    """``Dice`` with its sums taken over the batch (under DDP, over the rank's own).

    Images without foreground then add their false positives to the size of the prediction. A batch
    in which no image holds the class behaves as an empty image does in ``Dice``.

    Example:
        >>> sure = torch.full((2, 1, 2, 2), 50.0)
        >>> half = torch.ones(2, 1, 2, 2) * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
        >>> BatchDice()(sure, half, sure.bool())
        tensor([[0.3333]])
    """

    over_batch = True

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in [0, 1], shape ``(1, K)``."""
        alike = sample_weight is None
        sums = self.sums(logits, target, valid, squared=self.squared, of_batch=alike)
        return self._one_minus_dice(sums if alike else over_batch(sums, sample_weight))


class LogCoshDice(Dice):
    """``log(cosh(1 - D))`` of the Dice overlap ``D`` with plain denominators.

    Its gradient is that of Dice times ``tanh(1 - D)``: images that fit pull less.

    Args:
        smooth: Added to numerator and denominator of ``D``, in pixels; 1 in the paper.
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``smooth`` is not above 0.

    References:
        Jadon, A survey of loss functions for semantic segmentation, CIBCB 2020.

    Example:
        >>> sure = torch.full((1, 1, 2, 2), 50.0)
        >>> LogCoshDice()(-sure, torch.ones(1, 1, 2, 2), sure.bool())
        tensor([[0.2908]])
    """

    def __init__(
        self, smooth: float = 1.0, *, background: bool = True, exclusive: bool = False
    ) -> None:
        super().__init__(smooth, squared=False, background=background, exclusive=exclusive)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in [0, log(cosh(1))], shape ``(B, K)``."""
        return super().reduce_pixels(logits, target, valid, sample_weight).cosh().log()


class DicePlusPlus(OverlapTerm):
    """Dice with its errors to a power: ``1 - (2 sum(p y) + s) / (2 sum(p y) + sum(e^gamma) + s)``.

    ``e = |p - y|`` is the error of a pixel, whether false positive or false negative. Large errors
    outweigh small ones, so that probabilities need not run to 0 and 1.

    Args:
        gamma: Power of the errors, at least 1; 1 leaves Dice with plain denominators.
        smooth: ``s``, in pixels; truth and prediction both empty give a loss of 0.
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``gamma`` or ``smooth`` is out of range.

    References:
        Yeung et al., Calibrating the Dice loss to handle neural network overconfidence for
        biomedical image segmentation, Journal of Digital Imaging 2023.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> DicePlusPlus()(zero, zero + 1, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.2000]])
    """

    def __init__(
        self,
        gamma: float = 2.0,
        smooth: float = 1e-5,
        *,
        background: bool = True,
        exclusive: bool = False,
    ) -> None:
        super().__init__(smooth, background=background, exclusive=exclusive)
        self.gamma = number("gamma", gamma, low=1.0)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in [0, 1], shape ``(B, K)``."""
        probs, truth = masked(self.probabilities(logits), valid), masked(target, valid)
        shared = 2 * (probs * truth).sum((2, 3)) + self.smooth
        errors = (probs - truth).abs().pow(self.gamma).sum((2, 3))
        return 1 - shared / (shared + errors)


class GeneralizedDice(OverlapTerm):
    """One overlap for all classes of an image, ``1 - 2 sum_k w_k I_k / (sum_k w_k S_k + s)``.

    ``I = sum(p y)``, ``S = sum(p) + sum(y)`` (plain denominators) and ``w = 1 / sum(y)^2``, so that
    a small class counts as much as a large one. The weights are scaled such that the smallest class
    of the image has 1, which changes ``s`` alone. A class that is absent has 1 too, since its
    ``1 / sum(y)^2`` is infinite: a false positive in it costs what it costs in the smallest class.

    The column of class k is ``K w_k (S_k - 2 I_k) / (sum_j w_j S_j + s)``, so that the mean over
    the K classes that count is the loss of the image. With one class it is Dice by image.

    Args:
        smooth: ``s``, in pixels of the smallest class; all empty give a loss of 0.
        background: Whether the background counts, where it is a class; if not, it is left out of
            the sums over classes.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``smooth`` is not above 0.

    References:
        Sudre et al., Generalised Dice overlap as a deep learning loss function for highly
        unbalanced segmentations, DLMIA 2017.

    Example:
        >>> zero = torch.zeros(1, 2, 2, 2)
        >>> truth = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]]])
        >>> GeneralizedDice()(zero, truth, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.1818, 0.7273]])
    """

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; its mean over the classes that count is in [0, 1]."""
        skipped = int(self.exclusive and not self.background)
        sums = Sums(*(values[:, skipped:] for values in self.sums(logits, target, valid)))
        present = sums.true > 0
        smallest = torch.where(present, sums.true, torch.inf).amin(1, keepdim=True)
        weights = torch.where(present, smallest / sums.true.clamp(min=1), 1.0).square()
        sizes = sums.predicted + sums.true
        joint = (weights * sizes).sum(1, keepdim=True) + self.smooth
        columns = sizes.shape[1] * weights * (sizes - 2 * sums.shared) / joint
        return pad(columns, (skipped, 0))
