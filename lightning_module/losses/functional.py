"""Pixels to one number a class: pure functions of the losses, one row an image or one row a batch.

All take ``valid``, bool, shape ``(B, 1, H, W)``: pixels where it is False are in no sum or mean.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid


def binary_cross_entropy(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean over pixels of ``-(y log p + (1 - y) log(1 - p))`` with ``p = sigmoid(logits)``.

    Args:
        logits: Shape ``(B, K, H, W)``; half precision is computed in float32.
        target: Mask of 0 and 1, same shape.
        valid: Pixels that count, shape ``(B, 1, H, W)``, bool.

    Returns:
        Loss of each class of each image, shape ``(B, K)``; 0 for an image without valid pixels.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> binary_cross_entropy(zero, zero, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.6931]])
    """
    logits, target = _prepare(logits, target, valid)
    return _masked_mean(binary_cross_entropy_with_logits(logits, target, reduction="none"), valid)


def focal(
    logits: Tensor, target: Tensor, valid: Tensor, *, gamma: float = 2.0, alpha: float = 0.25
) -> Tensor:
    """Mean over pixels of ``-a_t (1 - p_t)^gamma log p_t``: easy pixels count less.

    ``p_t`` is the probability given to the truth; ``a_t`` is ``alpha`` on foreground and
    ``1 - alpha`` on background.

    Args:
        logits: Shape ``(B, K, H, W)``; half precision is computed in float32.
        target: Mask of 0 and 1, same shape.
        valid: Pixels that count, shape ``(B, 1, H, W)``, bool.
        gamma: Focusing exponent, at least 0; 0 leaves weighted cross-entropy.
        alpha: Weight of foreground in [0, 1].

    Returns:
        Loss of each class of each image, shape ``(B, K)``; 0 for an image without valid pixels.

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5.

    Example:
        >>> zero = torch.zeros(1, 1, 2, 2)
        >>> focal(zero, zero, torch.ones(1, 1, 2, 2, dtype=torch.bool))
        tensor([[0.1300]])
    """
    logits, target = _prepare(logits, target, valid)
    towards_truth = logits * (2 * target - 1)
    # By its logarithm: the power itself has an infinite slope at p_t = 1 for gamma below 1.
    focus = torch.exp(gamma * logsigmoid(-towards_truth))
    balance = alpha * target + (1 - alpha) * (1 - target)
    return _masked_mean(-balance * focus * logsigmoid(towards_truth), valid)


def dice(probs: Tensor, target: Tensor, valid: Tensor, *, smooth: float = 1e-5) -> Tensor:
    """One minus the overlap of each image: ``1 - (2 sum(p y) + s) / (sum(p^2) + sum(y^2) + s)``.

    In an image without foreground the overlap is ``s / (sum(p^2) + s)``: the loss is next to 1
    whatever is predicted, its gradient next to 0, and it drops to 0 only for probabilities that are
    0 almost everywhere. ``batch_dice`` is the cure where many images hold no foreground.

    Args:
        probs: Probabilities, shape ``(B, K, H, W)``; half precision is computed in float32.
        target: Mask of 0 and 1, same shape.
        valid: Pixels that count, shape ``(B, 1, H, W)``, bool.
        smooth: ``s``, in pixels; truth and prediction both empty give a loss of 0.

    Returns:
        Loss in [0, 1] of each class of each image, shape ``(B, K)``.

    Raises:
        ValueError: If the shapes do not fit.

    References:
        Milletari et al., V-Net, 3DV 2016, section 3 (squared denominators).

    Example:
        >>> full = torch.ones(1, 1, 2, 2)
        >>> dice(full, full, full.bool())
        tensor([[0.]])
    """
    shared, size = _overlap_sums(probs, target, valid)
    return 1 - (2 * shared + smooth) / (size + smooth)


def batch_dice(
    probs: Tensor,
    target: Tensor,
    valid: Tensor,
    sample_weight: Tensor | None = None,
    *,
    smooth: float = 1e-5,
) -> Tensor:
    """One minus the overlap of the batch: ``dice`` with sums over all its images.

    Images without foreground then add their false positives to the size of the prediction. A batch
    in which no image holds the class behaves as an empty image does in ``dice``.

    Args:
        probs: Probabilities, shape ``(B, K, H, W)``; half precision is computed in float32.
        target: Mask of 0 and 1, same shape.
        valid: Pixels that count, shape ``(B, 1, H, W)``, bool.
        sample_weight: Weight of the pixels of each image, shape ``(B,)``; None weighs all alike.
        smooth: ``s``, in pixels.

    Returns:
        Loss in [0, 1] of each class, shape ``(1, K)``.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> half = torch.ones(2, 1, 2, 2) * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
        >>> full = torch.ones(2, 1, 2, 2)
        >>> batch_dice(full, half, full.bool())
        tensor([[0.3333]])
    """
    shared, size = _overlap_sums(probs, target, valid)
    if sample_weight is not None:
        if sample_weight.shape != shared.shape[:1]:
            msg = f"sample_weight has shape {tuple(sample_weight.shape)}, expected {(len(shared),)}"
            raise ValueError(msg)
        weight = sample_weight.to(shared.dtype).unsqueeze(1)
        shared, size = shared * weight, size * weight
    shared, size = shared.sum(0, keepdim=True), size.sum(0, keepdim=True)
    return 1 - (2 * shared + smooth) / (size + smooth)


def _overlap_sums(probs: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """``sum(p y)`` and ``sum(p^2) + sum(y^2)`` over the valid pixels, both of shape ``(B, K)``."""
    probs, target = _prepare(probs, target, valid)
    zero = probs.new_zeros(())
    probs, target = torch.where(valid, probs, zero), torch.where(valid, target, zero)
    return (probs * target).sum((2, 3)), (probs.square() + target.square()).sum((2, 3))


def _masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``values`` over the valid pixels of each class of each image, shape ``(B, K)``."""
    total = torch.where(valid, values, values.new_zeros(())).sum((2, 3))
    return total / valid.sum((2, 3)).clamp(min=1)


def _prepare(prediction: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one dtype, float32 at least; raises ValueError on shapes that do not fit."""
    if prediction.ndim != 4 or prediction.shape != target.shape:  # noqa: PLR2004 - B, K, H and W
        msg = (
            f"prediction has shape {tuple(prediction.shape)}, target {tuple(target.shape)}; "
            "expected (B, K, H, W) twice"
        )
        raise ValueError(msg)
    expected = (len(prediction), 1, *prediction.shape[2:])
    if valid.shape != expected or valid.dtype != torch.bool:
        msg = (
            f"valid has shape {tuple(valid.shape)} and dtype {valid.dtype}, "
            f"expected {expected} and torch.bool"
        )
        raise ValueError(msg)
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    return prediction.to(dtype), target.to(dtype)
