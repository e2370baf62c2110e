"""The batch: what the data hands to the network, the losses and the evaluation."""

from typing import NotRequired, TypedDict

from torch import Tensor


class Batch(TypedDict):
    """B slices with their truth.

    Attributes:
        image: Scaled intensities, 0 in padding, shape ``(B, C, H, W)``, float32.
        mask: Truth of 0 and 1, one channel a class, shape ``(B, K, H, W)``, float32.
        valid: False in padding, shape ``(B, 1, H, W)``, bool.
        case: Name of the case of each slice, B strings.
        slice_index: Index of each slice along the depth of its volume, shape ``(B,)``, int64.
        ignored: True where the truth is not known and nothing is to be counted, shape
            ``(B, 1, H, W)``, bool; only where a label says so.
        sample_weight: Weight of each slice in the loss, shape ``(B,)``, float32; only in training,
            and only where cases are weighed.
    """

    image: Tensor
    mask: Tensor
    valid: Tensor
    case: list[str]
    slice_index: Tensor
    ignored: NotRequired[Tensor]
    sample_weight: NotRequired[Tensor]
