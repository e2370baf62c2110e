"""Gradients of an objective with respect to the input, image by image in one backward pass."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robustness.objectives import Objective

Forward = Callable[[Tensor], Tensor]


class Ascent(NamedTuple):
    """What one forward and one backward pass tell about each image of a batch.

    Attributes:
        value: The objective, shape ``(B,)``, detached.
        gradient: Its gradient, shape ``(B, C, H, W)``, in units of the objective per intensity.
        logits: Shape ``(B, K, H, W)``, float32, detached.
    """

    value: Tensor
    gradient: Tensor
    logits: Tensor


def ascent(
    forward: Forward, objective: Objective, image: Tensor, target: Tensor, valid: Tensor
) -> Ascent:
    """Value and gradient of an objective at each image.

    Works inside ``no_grad`` and inside inference mode, and touches no parameter's ``.grad``.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images.
        objective: Gives one scalar per image, shape ``(B,)``.
        image: Shape ``(B, C, H, W)``, float32.
        target: Mask of 0 and 1, shape ``(B, K, H, W)``.
        valid: Pixels that count in the objective, shape ``(B, 1, H, W)``.

    Returns:
        Value, signed gradient and logits.

    Raises:
        ValueError: If the logits have another shape than the masks, if the objective does not give
            one scalar per image or does not depend on the image, or if a gradient is not finite.

    References:
        Simonyan et al., Deep inside convolutional networks, 2013, section 3.
    """
    return ascents(forward, (objective,), image, target, valid)[0]


def ascents(
    forward: Forward,
    objectives: Sequence[Objective],
    image: Tensor,
    target: Tensor,
    valid: Tensor,
) -> tuple[Ascent, ...]:
    """Values and gradients of several objectives: one forward pass, a backward pass for each.

    Args:
        forward: As in :func:`ascent`.
        objectives: One or more; each gives one scalar per image, shape ``(B,)``.
        image: As in :func:`ascent`.
        target: As in :func:`ascent`.
        valid: As in :func:`ascent`.

    Returns:
        What :func:`ascent` gives for each objective, in order.

    Raises:
        ValueError: As in :func:`ascent`.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf = image.detach().clone().requires_grad_()
        logits = forward(leaf).float()
        check_logits(logits, target)
        truth, counted = target.clone(), valid.clone()
        found = []
        for left, objective in zip(range(len(objectives))[::-1], objectives, strict=True):
            scalars = objective(logits, truth, counted)
            gradient = _gradient(scalars, leaf, keep_graph=left > 0)
            found.append(Ascent(scalars.detach(), gradient, logits.detach()))
    return tuple(found)


def input_gradient(
    forward: Forward, objective: Objective, image: Tensor, target: Tensor, valid: Tensor
) -> Tensor:
    """The gradient of :func:`ascent` alone, shape ``(B, C, H, W)``."""
    return ascent(forward, objective, image, target, valid).gradient


def _gradient(scalars: Tensor, leaf: Tensor, *, keep_graph: bool) -> Tensor:
    if scalars.shape != (leaf.shape[0],):
        msg = (
            f"objective gives shape {tuple(scalars.shape)}, "
            f"expected one scalar per image: ({leaf.shape[0]},)"
        )
        raise ValueError(msg)
    gradient = None
    if scalars.requires_grad:
        (gradient,) = torch.autograd.grad(
            scalars.sum(), leaf, allow_unused=True, retain_graph=keep_graph
        )
    if gradient is None:
        msg = "the objective does not depend on the image, so it has no gradient"
        raise ValueError(msg)
    if not torch.isfinite(gradient).all():
        msg = "the gradient of the objective holds NaN or infinite values"
        raise ValueError(msg)
    return gradient


def check_logits(logits: Tensor, mask: Tensor) -> None:
    """Refuse a network that gives anything but one logit for each pixel and class.

    Raises:
        ValueError: If the shapes differ.
    """
    if logits.shape != mask.shape:
        msg = (
            f"the network gives logits of shape {tuple(logits.shape)}, "
            f"expected that of the masks: {tuple(mask.shape)}"
        )
        raise ValueError(msg)
