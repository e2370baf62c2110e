"""How far an image may be disturbed: a ball around the clean image, cut by the range of pixels.

The budget is the set of images within epsilon of the clean one whose pixels stay between ``low``
and ``high``. A pixel that is clean outside of that range is not forced into it: it stays between
``min(low, clean)`` and ``max(high, clean)``, so that the clean image is always in the budget.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = ("linf", "l2")

# Less counts as nothing: its square would vanish in float32.
_TINY = 1e-18


def lengths(disturbance: Tensor, norm: Norm) -> Tensor:
    """Length of each image's disturbance, over its channels and pixels.

    Args:
        disturbance: Shape ``(B, C, H, W)``.
        norm: ``linf``, the largest absolute value, or ``l2``, the Euclidean length.

    Returns:
        Shape ``(B,)``, in image units.
    """
    flat = disturbance.flatten(1)
    return flat.abs().amax(dim=1) if norm == "linf" else flat.norm(dim=1)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The disturbance of length 1 that an objective's linear model rises most with.

    Args:
        gradient: Shape ``(B, C, H, W)``.
        norm: ``linf``: the gradient's sign, 0 where it is 0. ``l2``: its direction, however short
            it is; zero where it is zero everywhere.

    Returns:
        Shape ``(B, C, H, W)``.
    """
    if norm == "linf":
        return gradient.sign()
    # The squares of a gradient of 1e-23 vanish in float32; the gradient of a sure network does not.
    largest = _per_image(lengths(gradient, "linf"))
    scaled = gradient / torch.where(largest > 0, largest, 1)
    return scaled / _per_image(lengths(scaled, "l2").clamp(min=_TINY))


@dataclass(frozen=True)
class Budget:
    """Where each image of a batch may go; from :func:`budget`.

    Attributes:
        clean: The clean images, shape ``(B, C, H, W)``.
        lower: The least value of each pixel, same shape; ``clean`` where it may not change.
        upper: The greatest value of each pixel, same shape.
        epsilon: The longest disturbance, in image units.
        norm: What length means.
    """

    clean: Tensor
    lower: Tensor
    upper: Tensor
    epsilon: float
    norm: Norm

    def movable(self, image: Tensor) -> Tensor:
        """The same numbers (a gradient, noise), 0 where a pixel may not change at all."""
        return torch.where(self.lower < self.upper, image, 0)

    def project(self, image: Tensor) -> Tensor:
        """The image of the budget that is nearest in the Euclidean sense.

        In the Euclidean norm the nearest is ``clean + clip(s (image - clean))`` with the largest
        s <= 1 that epsilon allows: where pixels meet their bounds, the length they do not use goes
        to the others. Without bounds it is the usual shortening to epsilon.

        Args:
            image: Shape ``(B, C, H, W)``.

        Returns:
            Same shape. Range and padding hold exactly, epsilon up to rounding.
        """
        if self.norm == "linf":
            return image.clamp(self.lower, self.upper)
        return self._filled(image - self.clean, 1.0)

    def farthest(self, gradient: Tensor) -> Tensor:
        """The image of the budget where the linear model of an objective is highest.

        Args:
            gradient: Of the objective, shape ``(B, C, H, W)``.

        Returns:
            Same shape; the clean image where the gradient is zero.
        """
        direction = steepest(self.movable(gradient), self.norm)
        if self.norm == "linf":
            return self.project(self.clean + self.epsilon * direction)
        return self._filled(direction, float("inf"))

    def at(self, noise: Tensor, radius: Tensor) -> Tensor:
        """The point of the budget that uniform random numbers stand for.

        Args:
            noise: In the maximum norm uniform in [-1, 1); in the Euclidean norm normal, of which
                the direction counts. Shape ``(B, C, H, W)``.
            radius: Uniform in [0, 1), shape ``(B,)``; not used in the maximum norm.

        Returns:
            A point that is uniform in the ball, then projected; the same direction for each
            epsilon. Shape ``(B, C, H, W)``.
        """
        noise = self.movable(noise)
        if self.norm == "linf":
            return self.project(self.clean + self.epsilon * noise)
        dimensions = (self.lower < self.upper).flatten(1).sum(dim=1).clamp(min=1)
        share = radius ** (1 / dimensions)
        step = self.epsilon * _per_image(share) * steepest(noise, "l2")
        return self.project(self.clean + step)

    def _filled(self, way: Tensor, most: float) -> Tensor:
        """``clean + clip(s way)`` with the largest ``s <= most`` that epsilon allows."""
        lower, upper = self.lower - self.clean, self.upper - self.clean
        room = torch.where(way > 0, upper, -lower)
        scale = _largest_scale(room.flatten(1), way.abs().flatten(1), self.epsilon)
        moved = (_per_image(scale.clamp(max=most)) * way).clamp(lower, upper)
        image = _within(self.clean + moved, self.clean, moved.abs())
        return image.clamp(self.lower, self.upper)


def budget(
    clean: Tensor, movable: Tensor, low: float, high: float, epsilon: float, norm: Norm
) -> Budget:
    """The budget around clean images.

    Args:
        clean: Shape ``(B, C, H, W)``, float32.
        movable: True where pixels may change, shape ``(B, 1, H, W)``.
        low: Lower end of the range, in image units.
        high: Upper end of the range, in image units.
        epsilon: The longest disturbance, in image units.
        norm: ``linf`` or ``l2``.

    Returns:
        The budget. In the maximum norm its bounds are pixels that float32 can tell to be within
        epsilon of the clean ones.
    """
    lower, upper = clean.clamp(max=low), clean.clamp(min=high)
    if norm == "linf":
        lower = torch.maximum(lower, _within(clean - epsilon, clean, epsilon))
        upper = torch.minimum(upper, _within(clean + epsilon, clean, epsilon))
    lower = torch.where(movable, lower, clean)
    upper = torch.where(movable, upper, clean)
    return Budget(clean, lower, upper, epsilon, norm)


def _within(image: Tensor, clean: Tensor, reach: Tensor | float) -> Tensor:
    """The same pixels, or the numbers next to them where rounding has put them out of reach."""
    return torch.where((image - clean).abs() > reach, torch.nextafter(image, clean), image)


def _largest_scale(room: Tensor, size: Tensor, epsilon: float) -> Tensor:
    """The s at which ``min(s size, room)`` has the length epsilon, or has met all its bounds.

    The length grows with s, and one pixel after the other meets its bound. Up to the last meeting
    that epsilon allows they are held; the others share what is left of it.

    Args:
        room: How far each pixel may go, 0 or more, shape ``(B, n)``.
        size: How fast it goes, 0 or more, same shape.
        epsilon: The length.

    Returns:
        Shape ``(B,)``; 0 where nothing moves.
    """
    moving = size > _TINY
    meeting = torch.where(moving, room / size.clamp(min=_TINY), torch.inf)
    sorted_meeting, order = meeting.sort(dim=1)
    held = room.gather(1, order).square().cumsum(dim=1)
    speeds = torch.where(moving, size, 0).gather(1, order).square()
    free = speeds.flip(1).cumsum(dim=1).flip(1) - speeds
    at = torch.where(sorted_meeting.isfinite(), sorted_meeting, 0)
    allowed = sorted_meeting.isfinite() & (held + at.square() * free <= epsilon**2)
    last = torch.where(allowed, at, -1).amax(dim=1, keepdim=True)
    met = meeting <= last
    left = (epsilon**2 - torch.where(met, room, 0).norm(dim=1).square()).clamp(min=0).sqrt()
    length = torch.where(moving & ~met, size, 0).norm(dim=1)
    return torch.where(length > 0, left / length.clamp(min=_TINY), last[:, 0].clamp(min=0))


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
