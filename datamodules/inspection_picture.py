"""The slice that stands for a case in the sheet of pictures."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.inspection_facts import ChannelFacts, SlicePicture

CT_WINDOW_HU = (-160.0, 240.0)
OTHER_MARK = 65535
_CT_BELOW_HU = -500.0
_WHITE = 255


def take_picture(
    channel: NDArray[np.generic],
    facts: ChannelFacts,
    label: NDArray[np.generic] | None,
    areas: Sequence[int],
    values: Sequence[int],
) -> SlicePicture:
    """Take the slice with the most foreground, of equal ones the first; the middle one without any.

    A channel with intensities below -500 is taken for CT and shown in a window of soft tissue;
    any other from the 1st to the 99th percentile of its volume.

    Args:
        channel: Intensities, shape ``(X, Y, Z)``.
        facts: What was measured of them.
        label: Label map of the same shape; None where there is none that fits.
        areas: Voxels of foreground in each slice of the label map.
        values: Values of the labels that the task declares.
    """
    depth = channel.shape[-1]
    index = depth // 2
    marks = np.zeros(channel.shape[:2], np.uint16)
    if label is not None and any(areas):
        index = int(np.argmax(areas))
        there = np.asarray(label[..., index])
        marks[there != 0] = OTHER_MARK
        for place, value in enumerate(values, start=1):
            marks[there == value] = place
    in_window = is_ct(facts)
    low, high = CT_WINDOW_HU if in_window else (facts.p1, facts.p99)
    if not low < high:
        low, high = facts.minimum, facts.maximum
    frame = np.nan_to_num(channel[..., index].astype(np.float64), nan=low, posinf=high, neginf=low)
    share = (frame - low) / (high - low) if low < high else np.zeros(frame.shape)
    gray = np.rint(_WHITE * np.clip(share, 0, 1)).astype(np.uint8)
    return SlicePicture(index, depth, gray, marks, in_window)


def is_ct(facts: ChannelFacts) -> bool:
    """Whether intensities look like Hounsfield units: some lie below -500, as those of air do."""
    return facts.minimum < _CT_BELOW_HU
