"""Resampling of slices along rows and columns, as products with two small matrices.

Linear interpolation between the centres of pixels. Where pixels become larger, the triangle can
widen with them, so that every old pixel has its share in a new one and nothing is aliased.
"""

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Kind = TypeVar("Kind", bound=np.generic)


@lru_cache(maxsize=64)
def resampling_matrix(before: int, after: int, *, antialias: bool = True) -> NDArray[np.float64]:
    """The weights that turn one axis of pixels into another over the same length.

    Args:
        before: Number of pixels there are.
        after: Number of pixels there will be.
        antialias: Whether the triangle widens where pixels become larger.

    Returns:
        Shape ``(after, before)``; each row sums to 1. It is the identity where both are the same.
        At the ends the triangle is cut off and its weights are scaled up to that sum.
    """
    ratio = before / after
    centres = (np.arange(after) + 0.5) * ratio - 0.5
    distance = np.abs(centres[:, np.newaxis] - np.arange(before))
    distance /= max(1.0, ratio) if antialias else 1.0
    weights: NDArray[np.float64] = np.maximum(0.0, 1.0 - distance)
    weights /= weights.sum(axis=1, keepdims=True)
    weights.setflags(write=False)
    return weights


def resample(
    values: NDArray[np.generic], plane: tuple[int, int], *, antialias: bool = True
) -> NDArray[np.float64]:
    """Resample numbers such as intensities, probabilities or logits.

    Args:
        values: Shape ``(..., H, W)``.
        plane: Rows and columns to come.
        antialias: As in :func:`resampling_matrix`.

    Returns:
        Shape ``(..., *plane)``.
    """
    numbers = np.asarray(values, dtype=np.float64)
    height, width = numbers.shape[-2:]
    rows = resampling_matrix(height, plane[0], antialias=antialias)
    columns = resampling_matrix(width, plane[1], antialias=antialias)
    resampled: NDArray[np.float64] = rows @ numbers @ columns.T
    return resampled


def resample_labels(labels: NDArray[np.uint8], plane: tuple[int, int]) -> NDArray[np.uint8]:
    """Resample labels: each pixel takes the label with the largest share in it.

    Args:
        labels: Shape ``(H, W)``.
        plane: Rows and columns to come.

    Returns:
        Shape ``plane``; of equal shares the lowest label wins.
    """
    if labels.shape == plane:
        return labels
    values = np.unique(labels)
    if len(values) == 1:
        return np.full(plane, values[0], dtype=np.uint8)
    shares = resample(labels == values[:, np.newaxis, np.newaxis], plane)
    # Shares of 1/3 and the like are equal but for rounding.
    best: NDArray[np.uint8] = values[shares.round(9).argmax(axis=0)]
    return best
