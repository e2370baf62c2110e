"""Losses of single pixels, after their cross-entropy."""

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, logsigmoid

from lightning_module.losses.term import Term, masked, masked_mean, number


class BinaryCrossEntropy(Term):
    """Mean over pixels of ``-(y log p + (1 - y) log(1 - p))``.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> BinaryCrossEntropy()(zero, zero, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.6931]])
    """

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; 0 for an image without valid pixels."""
        return masked_mean(self.negative_log_likelihood(logits, target), valid)


class CrossEntropy(Term):
    """Mean over pixels of ``-log p`` of the true class.

    The column of class k is ``-K y_k log p_k``, so that the mean over classes is the cross-entropy.
    """

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; 0 for an image without valid pixels."""
        return masked_mean(self.negative_log_likelihood(logits, target), valid)


class WeightedBinaryCrossEntropy(Term):
    """Mean over pixels of ``-(w y log p + (1 - y) log(1 - p))``: foreground counts ``w`` times.

    Args:
        pos_weight: ``w``, at least 0; 1 leaves binary cross-entropy.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``pos_weight`` is out of range.

    References:
        ``pos_weight`` of ``torch.nn.BCEWithLogitsLoss``.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> term = WeightedBinaryCrossEntropy(pos_weight=3)
        >>> term(zero, zero + 1, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[2.0794]])
    """

    def __init__(self, pos_weight: float = 2.0, *, exclusive: bool = False) -> None:
        super().__init__(exclusive=exclusive)
        self.pos_weight = number("pos_weight", pos_weight, low=0.0)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; 0 for an image without valid pixels."""
        weight = logits.new_full((), self.pos_weight)
        pixels = binary_cross_entropy_with_logits(
            logits, target, pos_weight=weight, reduction="none"
        )
        return masked_mean(pixels, valid)


class TopK(Term):
    """Mean cross-entropy of the share ``k`` of an image's pixels in which it is highest.

    Of sigmoids each class has its own hardest pixels. Of a softmax they are those of the pixel's
    cross-entropy, which falls to the column of its true class, K times, so that the mean over
    classes is the mean over these pixels. Pixels as hard as the last one (to rounding) share its
    place: the loss does not depend on the order of pixels.

    Args:
        k: Share of the valid pixels, in (0, 1]; ``max(1, round(k * valid))`` of them count.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``k`` is out of range.

    References:
        Wu et al., Bridging Category-level and Instance-level Semantic Image Segmentation,
        arXiv:1605.06885 (online bootstrapping); as a share of the pixels in nnU-Net.

    Example:
        >>> logits = torch.tensor([[[[5.0, 5.0], [5.0, 0.0]]]])
        >>> TopK(k=0.25)(logits, torch.ones(1, 1, 2, 2), torch.ones_like(logits).bool())
        tensor([[0.6931]])
    """

    def __init__(self, k: float = 0.1, *, exclusive: bool = False) -> None:
        super().__init__(exclusive=exclusive)
        self.k = number("k", k, low=1e-6, high=1.0)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; 0 for an image without valid pixels."""
        losses = self.negative_log_likelihood(logits, target)
        by_pixel = losses.mean(1, keepdim=True) if self.exclusive else losses
        share = self._share_of_pixels(by_pixel.detach(), valid)
        return masked(share * losses, valid).sum((2, 3))

    def _share_of_pixels(self, losses: Tensor, valid: Tensor) -> Tensor:
        """What each pixel counts, such that those of an image and class add up to 1."""
        count = valid.sum((2, 3), keepdim=True).to(losses.dtype)
        wanted = (self.k * count).round().clamp(min=1)
        # As many as count where all are valid: how many are is not known without waiting for it.
        most = math.ceil(self.k * valid[0].numel())
        ranked = torch.where(valid, losses, -1.0).flatten(2).topk(most).values
        place = wanted.long().flatten(2).expand(-1, losses.shape[1], 1) - 1
        last = ranked.gather(2, place).unsqueeze(3)
        # Pixels that are alike differ by rounding, as a softmax adds up its classes in their order.
        rounding = 4 * torch.finfo(losses.dtype).eps * (1 + last.abs())
        above = valid & (losses > last + rounding)
        tied = valid & ~above & (losses >= last - rounding)
        left = wanted - above.sum((2, 3), keepdim=True)
        return (above + tied * (left / tied.sum((2, 3), keepdim=True).clamp(min=1))) / wanted


class Focal(Term):
    """Mean over pixels of ``-a_t (1 - p_t)^gamma log p_t``: easy pixels count less.

    ``p_t`` is the probability given to the truth. Of sigmoids ``a_t`` is ``alpha`` on foreground
    and ``1 - alpha`` on background; of a softmax it is ``alpha`` on every class but the first.

    Args:
        gamma: Focusing exponent, at least 0; 0 leaves weighted cross-entropy.
        alpha: Weight of foreground in [0, 1]; background has ``1 - alpha``.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``gamma`` or ``alpha`` is out of range.

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> Focal()(zero, zero, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.1300]])
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25, *, exclusive: bool = False) -> None:
        super().__init__(exclusive=exclusive)
        self.gamma = number("gamma", gamma, low=0.0)
        self.alpha = number("alpha", alpha, low=0.0, high=1.0)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; 0 for an image without valid pixels."""
        if self.exclusive:
            log_p = log_softmax(logits, 1)
            rest = _log_of_rest(logits)
            balance = torch.full_like(logits[:1, :, :1, :1], self.alpha)
            balance[:, 0] = 1 - self.alpha
            pixels = -logits.shape[1] * balance * target * torch.exp(self.gamma * rest) * log_p
            return masked_mean(pixels, valid)
        losses = self.negative_log_likelihood(logits, target)
        if 0 < self.gamma < 1:
            # By its logarithm: the power itself has an infinite slope at p_t = 1.
            focus = torch.exp(self.gamma * logsigmoid(logits * (1 - 2 * target)))
        else:
            focus = (1 - torch.exp(-losses)).pow(self.gamma)
        balance = (1 - self.alpha) + (2 * self.alpha - 1) * target
        return masked_mean(balance * focus * losses, valid)


def _log_of_rest(logits: Tensor) -> Tensor:
    """``log(1 - p)`` of a softmax, as the share of the others: ``1 - p`` loses digits near 1."""
    classes = logits.shape[1]
    others = [
        torch.cat([logits[:, :index], logits[:, index + 1 :]], 1).logsumexp(1)
        for index in range(classes)
    ]
    return torch.stack(others, 1) - logits.logsumexp(1, keepdim=True)
