"""Losses that weigh a wrong pixel by its distance to an outline, in pixels.

Distances are computed without gradient by SciPy. That takes a copy of masks to the host and of
distances back in every step, which on a GPU waits for it.
"""

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from lightning_module.losses.term import BackgroundTerm, masked_mean, number


class Boundary(BackgroundTerm):
    """Mean over pixels of probability times the signed distance to the outline of the truth.

    Outside the truth the distance is that to its nearest pixel; inside it is 1 minus the distance
    to the nearest pixel outside, so 0 along the inner edge and negative further in. Only valid
    pixels are looked at, on either side. The minimum, at the perfect prediction, is the mean of the
    negative distances. A class that an image does not hold, or that fills it, has no outline: its
    loss is 0 without gradient. Add a term that sees false positives there.

    Args:
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    References:
        Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019.

    Example:
        >>> target = torch.tensor([[[[1.0, 0.0, 0.0]]]])
        >>> Boundary()(torch.zeros(1, 1, 1, 3), target, target.isfinite())
        tensor([[0.5000]])
    """

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in pixels, shape ``(B, K)``; 0 for an image without valid pixels."""
        inside = target > 0.5  # noqa: PLR2004 - half way
        distance = outline_distance(inside, valid).to(logits)
        signed = torch.where(inside, -(distance - 1).clamp(min=0), distance)
        return masked_mean(signed * self.probabilities(logits), valid)


class Hausdorff(BackgroundTerm):
    """Mean over pixels of ``(p - y)^2 (d_p^alpha + d_y^alpha)``, an estimate of that distance.

    ``d_y`` is the distance from a pixel to the nearest one on the other side of the outline of the
    truth, ``d_p`` likewise of the prediction cut at 0.5, both among valid pixels. A mask without
    an outline, empty or full, has distances of 0: in an image that does not hold the class
    only predictions above 0.5 cost anything.

    Args:
        alpha: Exponent of the distances, at least 0.5; higher ones punish far errors more.
        background: Whether the background counts, where it is a class.
        exclusive: See ``Term``.

    Raises:
        ValueError: If ``alpha`` is out of range.

    References:
        Karimi and Salcudean, Reducing the Hausdorff distance in medical image segmentation with
        convolutional neural networks, IEEE TMI 2020: the
        variant by distance transforms.

    Example:
        >>> target = torch.tensor([[[[1.0, 0.0, 0.0]]]])
        >>> Hausdorff()(torch.tensor([[[[50.0, -50.0, 50.0]]]]), target, target.isfinite())
        tensor([[1.6667]])
    """

    def __init__(
        self, alpha: float = 2.0, *, background: bool = True, exclusive: bool = False
    ) -> None:
        super().__init__(background=background, exclusive=exclusive)
        self.alpha = number("alpha", alpha, low=0.5)

    def reduce_pixels(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None
    ) -> Tensor:
        """Loss in pixels to the power of alpha, ``(B, K)``; 0 for an image of no valid pixels."""
        probs = self.probabilities(logits)
        distances = [
            outline_distance(mask > 0.5, valid).to(logits).pow(self.alpha)  # noqa: PLR2004
            for mask in (probs, target)
        ]
        return masked_mean((probs - target).square() * (distances[0] + distances[1]), valid)


@torch.no_grad()
def outline_distance(mask: Tensor, valid: Tensor) -> Tensor:
    """Euclidean distance of each pixel to the nearest valid one on the other side of the outline.

    Args:
        mask: Shape ``(B, K, H, W)``, bool.
        valid: Pixels that count, shape ``(B, 1, H, W)``, bool.

    Returns:
        Distances in pixels on the CPU, same shape as ``mask``, float64: at least 1 in valid
        pixels, and 0 throughout an image whose valid pixels are all on one side.
    """
    inside, outside = (side.cpu().numpy() for side in (mask & valid, ~mask & valid))
    distances = np.zeros(mask.shape)
    for image in np.ndindex(mask.shape[0], mask.shape[1]):
        if inside[image].any() and outside[image].any():
            distances[image] = sum(
                distance_transform_edt(~side[image]) for side in (inside, outside)
            )
    return torch.from_numpy(distances)
