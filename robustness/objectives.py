"""What a gradient is taken of: scalars per image, computed from logits and truth.

An objective is ``objective(logits, target, valid) -> (B,)``. It is summed over pixels and classes
and never averaged over the batch: an image's gradient does not depend on the batch it sits in.
"""

from collections.abc import Callable

from torch import Tensor

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


def probability_sum(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Sum of sigmoid(logits) over all pixels and classes: the paper's objective.

    Args:
        logits: Shape ``(B, K, H, W)``.
        target: Mask of 0 and 1, same shape; not used.
        valid: False in padding, shape ``(B, 1, H, W)``; not used, padding is ordinary.

    Returns:
        Shape ``(B,)``, in pixels.
    """
    return logits.sigmoid().flatten(1).sum(dim=1)


def logit_sum(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Sum of the logits over all pixels and classes, which does not fade where a network is sure.

    Args:
        logits: Shape ``(B, K, H, W)``.
        target: Mask of 0 and 1, same shape; not used.
        valid: False in padding, shape ``(B, 1, H, W)``; not used.

    Returns:
        Shape ``(B,)``.
    """
    return logits.flatten(1).sum(dim=1)


OBJECTIVES: dict[str, Objective] = {
    "probability_sum": probability_sum,
    "logit_sum": logit_sum,
}
