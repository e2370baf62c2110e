"""The batch: what the data hands to the network, the losses and the evaluation."""

from typing import TypedDict

from torch import Tensor


class Batch(TypedDict):
    """B slices with their truth.

    Attributes:
        image: Scaled intensities, 0 in padding, shape ``(B, C, H, W)``, float32.
        mask: Truth of 0 and 1, one channel a class, shape ``(B, K, H, W)``, float32.
        valid: False in padding, shape ``(B, 1, H, W)``, bool.
        case: Name of the case of each slice, B strings.
        slice_index: Index of each slice along the depth of its volume, shape ``(B,)``, int64.
    """

    image: Tensor
    mask: Tensor
    valid: Tensor
    case: list[str]
    slice_index: Tensor
