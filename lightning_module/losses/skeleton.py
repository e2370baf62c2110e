"""A loss of the centre lines of thin structures, from skeletons that have a gradient."""

import torch
from monai.losses.cldice import soft_dilate, soft_erode
from torch import Tensor

from lightning_module.losses.overlap import OverlapTerm
from lightning_module.losses.term import masked, whole_number


class ClDice(OverlapTerm):
    """One minus the harmonic mean of how much of each skeleton lies within the other mask.

    ``T = (sum(S(p) y) + s) / (sum(S(p)) + s)`` is the share of the predicted centre line within
    the truth, ``R = (sum(S(y) p) + s) / (sum(S(y)) + s)`` the share of the true one that is found,
    and the loss is ``1 - 2 T R / (T + R)``. ``S`` is the soft skeleton: what an opening takes away,
    added up over repeated erosions. It sees gaps and branches, and next to nothing of width.

    In an image without foreground R is 1, and the loss falls as the predicted skeleton vanishes.

    Args:
        iterations: Erosions, a whole number of at least 0; half the width of the widest structure
            in pixels is enough.
        smooth: ``s``, in pixels.
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``iterations`` or ``smooth`` is out of range.

    References:
        Shit et al., clDice: a novel topology-preserving loss function for tubular structure
        segmentation, CVPR 2021, algorithms 1 and 2.

    Example:
        >>> line = torch.zeros(1, 1, 3, 5)
        >>> line[:, :, 1] = 1
        >>> ClDice()(100 * line - 50, line, line.isfinite())
        tensor([[0.]])
    """

    def __init__(
        self,
        iterations: int = 3,
        smooth: float = 1.0,
        *,
        background: bool = True,
        exclusive: bool = False,
    ) -> None:
        super().__init__(smooth, background=background, exclusive=exclusive)
        self.iterations = whole_number("iterations", iterations, low=1)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in [0, 1], shape ``(B, K)``; 0 for an image without valid pixels."""
        probs = self.probabilities(logits)
        precise = self._share_within(probs, target, valid)
        found = self._share_within(target, probs, valid)
        return 1 - 2 * precise * found / (precise + found)

    def _share_within(self, mask: Tensor, other: Tensor, valid: Tensor) -> Tensor:
        """How much of the skeleton of one mask lies within the other, shape ``(B, K)``."""
        skeleton = masked(soft_skeleton(mask, valid, self.iterations), valid)
        within = masked(skeleton * other, valid).sum((2, 3))
        return (within + self.smooth) / (skeleton.sum((2, 3)) + self.smooth)


def soft_skeleton(mask: Tensor, valid: Tensor, iterations: int) -> Tensor:
    """Centre lines of soft masks, by morphology over valid pixels alone.

    Args:
        mask: Values in [0, 1], shape ``(B, K, H, W)``.
        valid: Pixels that count, shape ``(B, 1, H, W)``, bool; others are as if outside the image.
        iterations: Erosions.

    Returns:
        Values in [0, 1] in valid pixels, same shape.
    """
    skeleton = (mask - _opened(mask, valid)).relu()
    for _ in range(iterations):
        mask = _eroded(mask, valid)
        further = (mask - _opened(mask, valid)).relu()
        skeleton = skeleton + (further - skeleton * further).relu()
    return skeleton


def _opened(mask: Tensor, valid: Tensor) -> Tensor:
    return soft_dilate(masked(_eroded(mask, valid), valid))


def _eroded(mask: Tensor, valid: Tensor) -> Tensor:
    # No minimum is above 1, as no maximum is below 0: pixels left out decide neither.
    return soft_erode(torch.where(valid, mask, torch.ones_like(mask)))
