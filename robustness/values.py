"""Replacing pixels, and what by where that is more than one level for all."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

UNIFORM = "uniform"
DIRECTED = "directed"
LOCAL_MEDIAN = "local_median"
SALT_AND_PEPPER = "salt_and_pepper"

_HALF = 0.5
# Values that a random number in [0, 1) stands for: drawn, low, high.
DRAWN_VALUES: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    UNIFORM: lambda drawn, low, high: low + (high - low) * drawn,
    SALT_AND_PEPPER: lambda drawn, low, high: torch.where(drawn < _HALF, low, high),
}
VALUES = (*DRAWN_VALUES, DIRECTED, LOCAL_MEDIAN)


def directed(image: Tensor, gradient: Tensor, low: float, high: float) -> Tensor:
    """The end of the range that the sign of a gradient points to, for each entry.

    Every channel goes to its own end. Where the gradient is zero it is the end that is farther
    away, and the high one where both are as far.

    Args:
        image: Shape ``(B, C, H, W)``.
        gradient: Of what is to be increased, same shape.
        low: Lower end, in image units.
        high: Upper end, in image units.

    Returns:
        ``low`` or ``high`` for each entry, shape ``(B, C, H, W)``.

    References:
        The sign of the gradient as a direction: Goodfellow et al., Explaining and harnessing
        adversarial examples, ICLR 2015.
    """
    middle = (low + high) / 2
    upwards = torch.where(gradient == 0, image <= middle, gradient > 0)
    return torch.where(upwards, high, low).to(image.dtype)


def local_median(image: Tensor, among: Tensor, window: int) -> Tensor:
    """Median of the neighbours of each entry in its own channel, without the entry itself.

    Of an even number of neighbours it is the mean of the two in the middle.

    Args:
        image: Shape ``(B, C, H, W)``.
        among: True for the pixels that count as neighbours, shape ``(B, 1, H, W)``; none lie
            outside of the image. A pixel without neighbours keeps its own value.
        window: Side of the neighbourhood in pixels, odd.

    Returns:
        Shape ``(B, C, H, W)``.
    """
    margin = window // 2
    height, width = image.shape[-2:]
    # What is no neighbour is sorted behind all that are.
    known = image.masked_fill(~among, torch.inf)
    known = functional.pad(known, (margin,) * 4, value=torch.inf)
    shifts = [
        known[..., row : row + height, column : column + width]
        for row in range(window)
        for column in range(window)
        if (row, column) != (margin, margin)
    ]
    ordered = torch.stack(shifts).sort(dim=0).values
    number = torch.isfinite(ordered).sum(dim=0, keepdim=True)
    lower, upper = (
        ordered.gather(0, place.clamp(0, len(shifts) - 1))
        for place in ((number - 1) // 2, number // 2)
    )
    return torch.where(number > 0, (lower + upper) / 2, image)[0]


def replace_pixels(image: Tensor, pixels: Tensor, values: Tensor | float) -> Tensor:
    """Copies of images with some pixels replaced in all channels.

    Args:
        image: Shape ``(B, C, H, W)``.
        pixels: Row-major pixel indices, each at most once per image, int64, shape ``(B, n)``.
        values: One value for all, or one for each pixel, shape ``(B, n)``, or for each of its
            channels, shape ``(B, C, n)``.

    Returns:
        Shape ``(B, C, H, W)``.
    """
    flat = image.flatten(2).clone()
    index = pixels[:, None, :].expand(-1, image.shape[1], -1)
    if isinstance(values, Tensor):
        each = values if values.dim() > pixels.dim() else values[:, None, :]
        flat.scatter_(2, index, each.to(image.dtype).expand_as(index))
    else:
        flat.scatter_(2, index, values)
    return flat.reshape(image.shape)


def replace_entries(image: Tensor, entries: Tensor, values: Tensor | float) -> Tensor:
    """Copies of images with single entries of channels replaced.

    Args:
        image: Shape ``(B, C, H, W)``.
        entries: Row-major indices in ``(C, H, W)``, each at most once per image, int64, ``(B, n)``.
        values: One value for all, or one for each entry, shape ``(B, n)``.

    Returns:
        Shape ``(B, C, H, W)``.
    """
    return replace_pixels(image.flatten(1)[:, None], entries, values).reshape(image.shape)
