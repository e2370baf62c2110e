"""The strongest of several images, slice by slice: what every search and every restart keeps."""

import torch
from torch import Tensor


class Best:
    """The strongest of the images that are shown to it, slice by slice.

    Attributes:
        image: Shape ``(B, C, H, W)``; the clean images before any other is shown.
        value: Their objective, shape ``(B,)``; minus infinity before any other is shown.
    """

    def __init__(self, clean: Tensor) -> None:
        self.image = clean
        self.value = clean.new_full(clean.shape[:1], -torch.inf)

    def show(self, image: Tensor, value: Tensor) -> Tensor:
        """Keep what is stronger than before.

        Args:
            image: Shape ``(B, C, H, W)``.
            value: Its objective, shape ``(B,)``; NaN is not stronger than anything.

        Returns:
            True for the slices whose best image is now this one, shape ``(B,)``.
        """
        better = value > self.value
        self.value = torch.where(better, value, self.value)
        self.image = chosen(better, image, self.image)
        return better


def chosen(condition: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The images of one batch where a condition holds, else those of another.

    Args:
        condition: bool, shape ``(B,)``.
        first: Shape ``(B, C, H, W)``.
        second: Same shape.

    Returns:
        Same shape.
    """
    return torch.where(condition[:, None, None, None], first, second)
