"""Losses that ask for honest probabilities: shares of pixels that come true."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from lightning_module.losses.term import Term, masked, masked_mean, number, whole_number

_NEIGHBOURHOOD = 3


class NeighbourAware(Term):
    """NACL: cross-entropy plus ``penalty`` times the distance of logits to what is around them.

    The mean over pixels of ``ce + penalty |t - z|``. ``t`` is the share of the class among the
    valid pixels of the 3 x 3 neighbourhood: logits that are sure of the truth stay near 1, and
    along an outline nearer to each other. Of sigmoids, whose logit is the difference of the two
    that a softmax would have, ``t`` is the difference of their shares, twice the share minus 1; the
    paper knows the softmax only.

    Certain predictions pay the penalty: the minimum is not 0 and lies at logits of modest size.
    An image without the class pulls its logits to 0 (softmax) or -1 (sigmoid).

    Args:
        penalty: Weight of the penalty, at least 0.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``penalty`` is out of range.

    References:
        Murugesan et al., Trust your neighbours: penalty-based constraints for model calibration,
        MICCAI 2023, and Neighbor-aware calibration of segmentation networks with
        penalty-based constraints, Medical Image Analysis 2025: L1, mean of 3 x 3, 0.1.

    Example:
        >>> one = torch.ones(1, 1, 4, 4)
        >>> NeighbourAware()(one, one, one.bool())
        tensor([[0.3133]])
    """

    def __init__(self, penalty: float = 0.1, *, exclusive: bool = False) -> None:
        super().__init__(exclusive=exclusive)
        self.penalty = number("penalty", penalty, low=0.0)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; 0 for an image without valid pixels."""
        wanted = neighbourhood_share(target, valid)
        if not self.exclusive:
            wanted = 2 * wanted - 1
        excess = (wanted - logits).abs()
        pixels = self.negative_log_likelihood(logits, target) + self.penalty * excess
        return masked_mean(pixels, valid)


class AverageCalibrationError(Term):
    """Mean over bins of probability of how far their mean probability is from their share of truth.

    Pixels of an image are sorted into bins of equal width by the probability of a class; bins
    without pixels don't count. Which bin a pixel is in has no gradient, the mean of each bin has
    one. The loss is 0 for a calibrated prediction, a constant one included: use it beside a loss of
    overlap. In an image without the class it is the mean over bins of their probabilities.

    Args:
        bins: Number of bins, a whole number of at least 1.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``bins`` is out of range.

    References:
        Barfoot et al., Average calibration error: a differentiable loss for improved reliability in
        image segmentation, MICCAI 2024: mL1-ACE, 20 hard bins.

    Example:
        >>> target = torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
        >>> AverageCalibrationError()(torch.zeros(1, 1, 1, 4), target, target.isfinite())
        tensor([[0.2500]])
    """

    def __init__(self, bins: int = 20, *, exclusive: bool = False) -> None:
        super().__init__(exclusive=exclusive)
        self.bins = whole_number("bins", bins, low=1)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in [0, 1], shape ``(B, K)``; 0 for an image without valid pixels."""
        probs = masked(self.probabilities(logits), valid)
        # A bin is open below and closed above, but for 0.
        index = ((probs.detach() * self.bins).ceil() - 1).clamp(0, self.bins - 1).long().flatten(2)
        counted = masked(torch.ones_like(probs), valid).flatten(2)
        empty = probs.new_zeros((*probs.shape[:2], self.bins))
        counts = empty.scatter_add(2, index, counted)
        gaps = empty.scatter_add(2, index, (probs - masked(target, valid)).flatten(2))
        filled = (counts > 0).sum(2).clamp(min=1)
        return (gaps / counts.clamp(min=1)).abs().sum(2) / filled


def neighbourhood_share(target: Tensor, valid: Tensor) -> Tensor:
    """Share of each class among the valid pixels of the 3 x 3 neighbourhood, itself included.

    Args:
        target: Mask of 0 and 1, shape ``(B, K, H, W)``.
        valid: Pixels that count, shape ``(B, 1, H, W)``, bool.

    Returns:
        Shares in [0, 1], same shape as ``target``; 0 where no pixel around is valid.
    """
    found, counted = (
        avg_pool2d(values, _NEIGHBOURHOOD, stride=1, padding=_NEIGHBOURHOOD // 2)
        for values in (masked(target, valid), valid.to(target.dtype))
    )
    return found / counted.clamp(min=1 / _NEIGHBOURHOOD**2)
