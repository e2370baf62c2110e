"""Gradients of an objective with respect to the input, image by image in one backward pass."""

from collections.abc import Callable

import torch
from torch import Tensor

from robustness.objectives import Objective

Forward = Callable[[Tensor], Tensor]


def input_gradient(
    forward: Forward, objective: Objective, image: Tensor, target: Tensor, valid: Tensor
) -> Tensor:
    """Gradient of an objective with respect to each input pixel.

    Works inside ``no_grad`` and inside inference mode, and touches no parameter's ``.grad``.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images.
        objective: Gives one scalar per image, shape ``(B,)``.
        image: Shape ``(B, C, H, W)``, float32.
        target: Mask of 0 and 1, shape ``(B, K, H, W)``.
        valid: False in padding, shape ``(B, 1, H, W)``.

    Returns:
        Signed gradient, shape ``(B, C, H, W)``, float32, in units of the objective per intensity.

    Raises:
        ValueError: If the objective does not give one scalar per image, if it does not depend on
            the image, or if a gradient is not finite.

    References:
        Simonyan et al., Deep inside convolutional networks, 2013, section 3.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf = image.detach().clone().requires_grad_()
        scalars = objective(forward(leaf).float(), target.clone(), valid.clone())
        if scalars.shape != (image.shape[0],):
            msg = (
                f"objective gives shape {tuple(scalars.shape)}, "
                f"expected one scalar per image: ({image.shape[0]},)"
            )
            raise ValueError(msg)
        gradient = None
        if scalars.requires_grad:
            (gradient,) = torch.autograd.grad(scalars.sum(), leaf, allow_unused=True)
    if gradient is None:
        msg = "the objective does not depend on the image, so it has no gradient"
        raise ValueError(msg)
    if not torch.isfinite(gradient).all():
        msg = "the gradient of the objective holds NaN or infinite values"
        raise ValueError(msg)
    return gradient
