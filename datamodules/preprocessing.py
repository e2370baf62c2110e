"""From a volume to slices: scaled by volume, resampled if asked, cut and zero-padded."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.intensities import WHOLE_RANGE, IntensityRange
from datamodules.resampling import resample, resample_labels
from datamodules.slice_grid import SliceGrid

SIZE_MULTIPLE = 8


def image_frames(
    image: NDArray[np.generic],
    grid: SliceGrid,
    *,
    max_pixel: float,
    intensities: IntensityRange = WHOLE_RANGE,
) -> Iterator[NDArray[np.float32]]:
    """Scale each channel of a volume to ``[0, max_pixel]`` and cut it into slices, by frame.

    ``max_pixel * ((v - low) / (high - low))``, cut to ``[0, max_pixel]``, is computed in float64
    and kept in float32: the high end becomes exactly ``max_pixel``, the low end 0. A frame at a
    time is held beside the volume.

    Args:
        image: Finite intensities, no channel constant, shape ``(C, X, Y, Z)``.
        grid: Where the slices lie.
        max_pixel: Value of the brightest voxel.
        intensities: What low and high are; the extremes of the channel's volume by default.

    Yields:
        The slices of each frame, zero-padded at the right and the bottom, shape ``(T, C, H, W)``.

    Raises:
        ValueError: If low and high of a channel are the same.
    """
    limits = np.array([intensities.limits(channel) for channel in image])
    for index, (low, high) in enumerate(limits):
        if not low < high:
            msg = f"channel {index}: intensities from {low:g} to {high:g}, expected a range"
            raise ValueError(msg)
    low, high = limits.T[..., np.newaxis, np.newaxis]
    for index in range(grid.depth):
        fraction = (grid.frame(image, index).astype(np.float64) - low) / (high - low)
        scaled = max_pixel * fraction.clip(0, 1)
        if grid.is_resampled:
            # Sums of weights may round to more than 1.
            scaled = resample(scaled, grid.plane).clip(0, max_pixel)
        yield grid.cut(scaled.astype(np.float32))


def label_frames(label: NDArray[np.uint8], grid: SliceGrid) -> Iterator[NDArray[np.uint8]]:
    """Cut a label map into slices, padded with background.

    Args:
        label: Labels, shape ``(X, Y, Z)``.
        grid: Where the slices lie.

    Yields:
        The slices of each frame, shape ``(T, H, W)``.
    """
    for index in range(grid.depth):
        yield grid.cut(resample_labels(grid.frame(label, index), grid.plane))


def fitting_size(planes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Find the least height and width, both multiples of 8, that hold the frames of all volumes.

    Args:
        planes: Rows and columns of the frames of each volume, in pixels.
    """
    height, width = (
        SIZE_MULTIPLE * -(-max(plane[axis] for plane in planes) // SIZE_MULTIPLE) for axis in (0, 1)
    )
    return height, width
