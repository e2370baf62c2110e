"""Whole volumes cut into slices, as the store does it frame by frame."""

import numpy as np
from numpy.typing import NDArray

from datamodules.intensities import WHOLE_RANGE, IntensityRange
from datamodules.preprocessing import image_frames, label_frames
from datamodules.slice_grid import SliceGrid


def image_slices(
    image: NDArray[np.generic],
    *,
    size: tuple[int, int],
    max_pixel: float,
    intensities: IntensityRange = WHOLE_RANGE,
) -> NDArray[np.float32]:
    """Slices ``(Z, C, H, W)`` of an image ``(C, X, Y, Z)``, along its last axis."""
    _, x, y, z = image.shape
    frames = image_frames(
        image, SliceGrid((x, y, z), size), max_pixel=max_pixel, intensities=intensities
    )
    return np.concatenate(list(frames))


def label_slices(label: NDArray[np.uint8], *, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Slices ``(Z, H, W)`` of a label map ``(X, Y, Z)``, along its last axis."""
    x, y, z = label.shape
    return np.concatenate(list(label_frames(label, SliceGrid((x, y, z), size))))
