"""The Jaccard loss made smooth: its Lovász extension over the errors of single pixels."""

import torch
from torch import Tensor

from lightning_module.losses.term import BackgroundTerm, masked


class Lovasz(BackgroundTerm):
    """Lovász extension of the Jaccard loss, of each image and class.

    The errors of the pixels are sorted from large to small, and each is weighed by how much the
    Jaccard loss rises when its pixel becomes wrong after the ones before it. Of sigmoids the errors
    are hinges, ``max(0, 1 - z (2y - 1))``, and a prediction of logits +-1 costs twice its Jaccard
    loss. Of a softmax they are ``|y - p|``, and a certain prediction costs its Jaccard loss.

    A class that an image does not hold is not left out: one false positive makes its Jaccard
    loss 1, so the loss is the largest error of the image and pulls at that pixel alone.

    Args:
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    References:
        Berman et al., The Lovász-Softmax loss, CVPR 2018: hinge, softmax and algorithm 1.

    Example:
        >>> logits = torch.tensor([[[[1.0, 1.0, -1.0]]]])
        >>> target = torch.tensor([[[[1.0, 0.0, 0.0]]]])
        >>> Lovasz()(logits, target, logits.isfinite())
        tensor([[1.]])
    """

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss, shape ``(B, K)``; 0 for an image without valid pixels."""
        if self.exclusive:
            errors = (target - self.probabilities(logits)).abs()
        else:
            errors = 1 - logits * (2 * target - 1)
        # Pixels left out come after all errors above 0, the only ones that count.
        errors, order = masked(errors, valid).flatten(2).sort(dim=2, descending=True, stable=True)
        rises = jaccard_rises(masked(target, valid).flatten(2).gather(2, order))
        return (errors.relu() * rises).sum(2)


def jaccard_rises(true: Tensor) -> Tensor:
    """How much the Jaccard loss rises as one pixel after the other becomes wrong.

    Args:
        true: 0 or 1 of each pixel in the order in which they become wrong, shape ``(..., N)``.

    Returns:
        Rises of at least 0, same shape and dtype; they add up to 1.
    """
    # Whole numbers: counts stay exact, and the rise in closed form has no difference of like terms.
    hit = true.long()
    total = hit.sum(-1, keepdim=True)
    shared = (total - hit.cumsum(-1)).to(true.dtype)
    union = total + (1 - hit).cumsum(-1)
    # A miss takes 1 / union; a false positive takes the union from u - 1 to u, and the first of
    # an image without foreground makes the loss 1.
    whole = (hit == 1) | (union == 1)
    by_false_positive = shared / (union - 1).clamp(min=1)
    return torch.where(whole, torch.ones_like(shared), by_false_positive) / union
