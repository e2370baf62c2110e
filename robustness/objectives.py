"""What a gradient is taken of: scalars per image, computed from logits and truth.

An objective is ``objective(logits, target, valid) -> (B,)``, and attacks increase it. It is summed
over pixels and classes and never averaged over the batch: an image's gradient does not depend on
the batch it sits in, and does not shrink as batches or images grow.

Below, z is a logit, y its truth, p = sigmoid(z), t = (2y - 1) z the logit of the truth and
q = sigmoid(t) the probability of the truth. All sums run over the pixels that count (``valid``).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
PixelLoss = Callable[[Tensor, Tensor, Tensor], Tensor]

# How far, in logits, a pixel is driven beyond the threshold before it is no longer rewarded.
MARGIN = 1.0
SMOOTH = 1e-5
LOG_2 = math.log(2)


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


def bce(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy: sum of -log q.

    Args:
        logits: Shape ``(B, K, H, W)``.
        target: Mask of 0 and 1, same shape.
        valid: True where pixels count, shape ``(B, 1, H, W)``.

    Returns:
        Shape ``(B,)``, in nats.
    """
    return sum_where(valid, pixel_bce(logits, target, valid))


def balanced_bce(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy in which foreground and background weigh the same.

    For each image and class ``n / 2 (mean of -log q over the foreground + the same over the
    background)`` with n pixels that count, summed over classes. Where one of the two is absent its
    mean is 0, and the other keeps its half. With equal areas it is :func:`bce`.

    Args:
        logits: Shape ``(B, K, H, W)``.
        target: Mask of 0 and 1, same shape.
        valid: True where pixels count, shape ``(B, 1, H, W)``.

    Returns:
        Shape ``(B,)``, in nats.

    References:
        Xie, Tu: Holistically-nested edge detection, ICCV 2015, equation 2 (there without n / 2,
        and each part weighed by the share of the other).
    """
    return sum_where(valid, pixel_balanced_bce(logits, target, valid))


def soft_dice(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """One minus the soft Dice of each class, summed over classes.

    ``1 - (2 sum(p y) + s) / (sum(p^2) + sum(y^2) + s)`` with s = 1e-5 pixels. Where the truth is
    empty it is near 1 as soon as any pixel is found, and its gradient all but gone.

    Args:
        logits: Shape ``(B, K, H, W)``.
        target: Mask of 0 and 1, same shape.
        valid: True where pixels count, shape ``(B, 1, H, W)``.

    Returns:
        Shape ``(B,)``, between 0 and the number of classes.

    References:
        Milletari et al., V-Net, 3DV 2016, section 3.
    """
    probs = torch.where(valid, logits.sigmoid(), 0).flatten(2)
    truth = torch.where(valid, target, 0).flatten(2).to(probs.dtype)
    overlap = 2 * (probs * truth).sum(dim=2) + SMOOTH
    total = (probs**2).sum(dim=2) + (truth**2).sum(dim=2) + SMOOTH
    return (1 - overlap / total).sum(dim=1)


def margin(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Sum of min(-t, 1): no pixel is rewarded for being wrong by more than one logit.

    Args:
        logits: Shape ``(B, K, H, W)``.
        target: Mask of 0 and 1, same shape.
        valid: True where pixels count, shape ``(B, 1, H, W)``.

    Returns:
        Shape ``(B,)``, in logits.

    References:
        After Carlini, Wagner: Towards evaluating the robustness of neural networks, S&P 2017,
        objective f6, with two classes and the confidence 1.
    """
    return sum_where(valid, pixel_margin(logits, target, valid))


def masked_bce(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy of the pixels that are still right: sum of -log q there.

    A pixel is right where z > 0 and y = 1, or z <= 0 and y = 0. Wrong ones give log 2, the most a
    right one can give, rather than the source's 0: the gradient is the same, and the value rises
    with each pixel that falls, so that the best of several images can be told by it.

    Args:
        logits: Shape ``(B, K, H, W)``.
        target: Mask of 0 and 1, same shape.
        valid: True where pixels count, shape ``(B, 1, H, W)``.

    Returns:
        Shape ``(B,)``, in nats.

    References:
        Croce, Singh, Hein: Towards reliable evaluation and fast training of robust semantic
        segmentation models, ECCV 2024, section 3 (masked cross-entropy).
    """
    return sum_where(valid, pixel_masked_bce(logits, target, valid))


def js(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Jensen-Shannon divergence of (p, 1 - p) and (y, 1 - y), summed.

    ``log 2 + (q log q - (1 + q) log(1 + q)) / 2``: between 0 where q = 1 and log 2 where q = 0.
    Its gradient fades both for pixels that are surely right and for those that are surely wrong.

    Args:
        logits: Shape ``(B, K, H, W)``.
        target: Mask of 0 and 1, same shape.
        valid: True where pixels count, shape ``(B, 1, H, W)``.

    Returns:
        Shape ``(B,)``, in nats.

    References:
        Croce, Singh, Hein: Towards reliable evaluation and fast training of robust semantic
        segmentation models, ECCV 2024, section 3 (Jensen-Shannon divergence).
    """
    return sum_where(valid, pixel_js(logits, target, valid))


def pixel_bce(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """-log q of each pixel and class; its gradient stays exact where q is near 1.

    As all the losses below it knows which pixels count, although its value does not depend on it,
    and has the shape of the logits.
    """
    return -logsigmoid(truth_logits(logits, target))


def pixel_balanced_bce(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """-log q of each pixel and class times n / (2 m), as in :func:`balanced_bce`.

    n is how many pixels of the image count, m how many of them have the same truth for that class.
    """
    counted = valid.sum(dim=(2, 3), keepdim=True, dtype=logits.dtype)
    front, back = (
        (valid & side).sum(dim=(2, 3), keepdim=True, dtype=logits.dtype).clamp(min=1)
        for side in (target > 0, target <= 0)
    )
    alike = torch.where(target > 0, front, back)
    return counted / (2 * alike) * pixel_bce(logits, target, valid)


def pixel_margin(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """min(-t, 1) of each pixel and class."""
    return (-truth_logits(logits, target)).clamp(max=MARGIN)


def pixel_masked_bce(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """-log q of each pixel and class that is right, log 2 elsewhere."""
    return torch.where(is_right(logits, target), pixel_bce(logits, target, valid), LOG_2)


def pixel_js(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Jensen-Shannon divergence from the truth of each pixel and class."""
    truth = truth_logits(logits, target)
    # In r = 1 - q, which float32 can tell from 0 where it cannot tell q from 1: otherwise the
    # gradient of a sure pixel would have the wrong sign.
    wrong = (-truth).sigmoid()
    entropy = (1 - wrong) * logsigmoid(truth)
    return (wrong * LOG_2 + entropy - (2 - wrong) * torch.log1p(-wrong / 2)) / 2


def truth_logits(logits: Tensor, target: Tensor) -> Tensor:
    """The logit of the truth, t = (2y - 1) z: above 0 where the network is right."""
    return (2 * target.to(logits.dtype) - 1) * logits


def is_right(logits: Tensor, target: Tensor) -> Tensor:
    """True where the prediction, z > 0, is the truth; same shape."""
    return (logits > 0) == (target > 0)


def sum_where(valid: Tensor, values: Tensor) -> Tensor:
    """Sum over the pixels that count, all classes.

    Args:
        valid: Shape ``(B, 1, H, W)``, bool.
        values: Shape ``(B, K, H, W)``.

    Returns:
        Shape ``(B,)``.
    """
    return torch.where(valid, values, 0).flatten(1).sum(dim=1)


OBJECTIVES: dict[str, Objective] = {
    "probability_sum": probability_sum,
    "logit_sum": logit_sum,
    "bce": bce,
    "balanced_bce": balanced_bce,
    "soft_dice": soft_dice,
    "margin": margin,
    "masked_bce": masked_bce,
    "js": js,
}

# The objectives that are a sum over pixels, before they are summed.
PIXEL_LOSSES: dict[str, PixelLoss] = {
    "bce": pixel_bce,
    "balanced_bce": pixel_balanced_bce,
    "margin": pixel_margin,
    "masked_bce": pixel_masked_bce,
    "js": pixel_js,
}
