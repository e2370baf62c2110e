"""From a volume to slices: scaled by volume, one slice for every frame along depth, zero-padded.

Axes: a volume ``(X, Y, Z)`` as nibabel reads it has its depth in the last axis, and slice ``k`` is
``volume[:, :, k]`` as it lies in the array. The rows of a slice (H, downwards) are the voxels of
the first axis, its columns (W, to the right) those of the second; nothing is turned or mirrored.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.intensities import WHOLE_RANGE, IntensityRange

SIZE_MULTIPLE = 8


def image_slices(
    image: NDArray[np.generic],
    *,
    size: tuple[int, int],
    max_pixel: float,
    intensities: IntensityRange = WHOLE_RANGE,
) -> NDArray[np.float32]:
    """Scale each channel of a volume to ``[0, max_pixel]`` and cut it into padded slices.

    ``max_pixel * ((v - low) / (high - low))``, cut to ``[0, max_pixel]``, is computed in float64
    and kept in float32: the high end becomes exactly ``max_pixel``, the low end 0.

    Args:
        image: Finite intensities, no channel constant, shape ``(C, X, Y, Z)``.
        size: Height and width of a slice in pixels, at least ``(X, Y)``.
        max_pixel: Value of the brightest voxel.
        intensities: What low and high are; the extremes of the channel's volume by default.

    Returns:
        Slices, zero-padded at the right and the bottom, shape ``(Z, C, H, W)``.

    Raises:
        ValueError: If low and high of a channel are the same.
    """
    channels, height, width, depth = image.shape
    slices = np.zeros((depth, channels, *size), dtype=np.float32)
    for index, channel in enumerate(image):
        low, high = intensities.limits(channel)
        if not low < high:
            msg = f"channel {index}: intensities from {low:g} to {high:g}, expected a range"
            raise ValueError(msg)
        for frame in range(depth):
            fraction = (channel[:, :, frame].astype(np.float64) - low) / (high - low)
            slices[frame, index, :height, :width] = max_pixel * fraction.clip(0, 1)
    return slices


def label_slices(label: NDArray[np.uint8], *, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut a label map into slices, padded with background.

    Args:
        label: Labels, shape ``(X, Y, Z)``.
        size: Height and width of a slice in pixels, at least ``(X, Y)``.

    Returns:
        Slices, shape ``(Z, H, W)``.
    """
    height, width, depth = label.shape
    slices = np.zeros((depth, *size), dtype=np.uint8)
    slices[:, :height, :width] = np.moveaxis(label, -1, 0)
    return slices


def fitting_size(shapes: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """Find the least height and width, both multiples of 8, that hold the slices of all volumes.

    Args:
        shapes: Spatial lengths ``(X, Y, Z)`` of the volumes, in voxels.
    """
    height, width = (
        SIZE_MULTIPLE * -(-max(shape[axis] for shape in shapes) // SIZE_MULTIPLE) for axis in (0, 1)
    )
    return height, width
