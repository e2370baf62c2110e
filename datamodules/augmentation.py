"""Slices changed at random to train on, by MONAI's transforms, the same whoever draws them."""

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

# What is changed: nothing, the place of pixels, their intensities, or both.
Recipe = Literal["none", "spatial", "intensity", "all"]

# Share of the samples that each change befalls; the others stay exact, also unblurred by sampling.
SPATIAL_SHARE = 0.5
INTENSITY_SHARE = 0.25
ROTATION_DEGREES = 15.0
SCALES = (0.9, 1.1)
SHIFT = 0.05  # of the height and width of the slice without its padding
NOISE = 0.05  # highest standard deviation, of max_pixel
SMOOTHING_PIXELS = (0.3, 1.0)  # standard deviation of the Gaussian
BRIGHTNESS = (0.8, 1.25)
GAMMAS = (0.7, 1.5)

_Slice = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]


class Augmentation:
    """Changes a slice by what seed, epoch and index of the sample say, and by nothing else.

    Any process, in any order, before and after a resume, makes the same of a sample: all numbers
    are drawn here, and MONAI's transforms without randomness of their own carry them out.

    - ``spatial``: half of the samples are turned by up to 15 degrees, scaled by 0.9 to 1.1 and
      shifted by up to 5 % about the middle of the slice, which is not that of its padded frame.
      Nothing is mirrored: anatomy has sides. A mirrored scan shows a liver on the left, labels
      such as left and right would swap, and what a loss learns of position is part of what is
      compared here.
    - ``intensity``: each of noise, smoothing, brightness and gamma befalls a quarter of the
      samples, the same for all channels but for the noise. The ranges are customary ones, not
      tuned to any task; who asks how a network takes noise should know that it has seen some.
    - ``all``: both, the spatial change first.

    Args:
        recipe: What is changed.
        seed: Seed of the changes, 0 or more.
        max_pixel: Value of the brightest pixel there can be.

    Raises:
        ValueError: If there is no such recipe.
    """

    def __init__(self, recipe: Recipe, *, seed: int, max_pixel: float) -> None:
        """Keep the settings; MONAI is imported with the first sample that it changes."""
        if recipe not in get_args(Recipe):
            message = f"recipe is {recipe!r}, expected one of {', '.join(get_args(Recipe))}"
            raise ValueError(message)
        self.recipe = recipe
        self.seed = seed
        self.max_pixel = max_pixel

    def __call__(
        self,
        image: NDArray[np.float32],
        label: NDArray[np.uint8],
        valid: NDArray[np.bool_],
        *,
        epoch: int,
        index: int,
    ) -> _Slice:
        """Change one slice; the arrays that come in stay as they are.

        Args:
            image: Values in [0, max_pixel], 0 in padding, shape ``(C, H, W)``.
            label: Values of labels, shape ``(H, W)``.
            valid: False in padding, shape ``(H, W)``.
            epoch: Epoch of the sample.
            index: Number of the sample within the task's training slices.

        Returns:
            The same three, of the same shapes and types. What comes from outside the slice is 0,
            background and not valid. What is not changed may be the array that came in.
        """
        if self.recipe == "none":
            return image, label, valid
        random = np.random.default_rng([self.seed, epoch, index])
        # All are drawn, whatever the recipe: "all" is "spatial", then "intensity".
        turned, *changed = random.random(5) < [SPATIAL_SHARE, *[INTENSITY_SHARE] * 4]
        places, intensities = random.spawn(2)
        if self.recipe in {"spatial", "all"} and turned:
            image, label, valid = _moved(image, label, valid, places)
        if self.recipe in {"intensity", "all"} and any(changed):
            image = self._recoloured(image, valid, changed, intensities)
        return image, label, valid

    def _recoloured(
        self,
        image: NDArray[np.float32],
        valid: NDArray[np.bool_],
        changed: list[np.bool_],
        random: np.random.Generator,
    ) -> NDArray[np.float32]:
        from monai.transforms.intensity.array import AdjustContrast, ScaleIntensity  # noqa: PLC0415

        noisy, smooth, bright, contrast = changed
        result = image
        if noisy:
            spread = np.float32(random.uniform(0, NOISE * self.max_pixel))
            result = result + spread * random.standard_normal(image.shape, dtype=np.float32)
        if smooth:
            result = _smoothed(result, valid, random.uniform(*SMOOTHING_PIXELS))
        # Only from 0 upwards are there powers, and only below max_pixel are they what they were.
        result = np.clip(result, 0, self.max_pixel)
        if bright:
            scale = ScaleIntensity(minv=None, maxv=None, factor=random.uniform(*BRIGHTNESS) - 1)
            result = np.asarray(scale(result))
        if contrast:
            result = np.asarray(AdjustContrast(random.uniform(*GAMMAS))(result))
        return np.where(valid, np.clip(result, 0, self.max_pixel), 0).astype(np.float32)


def _moved(
    image: NDArray[np.float32],
    label: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    random: np.random.Generator,
) -> _Slice:
    from monai.transforms.spatial.array import AffineGrid, Resample  # noqa: PLC0415

    matrix = _matrix(valid, random)
    grid, _ = AffineGrid(affine=matrix)(spatial_size=label.shape)
    resample = Resample(padding_mode="zeros", dtype=np.float32)
    # Copies: arrays from a memory map cannot be written, and tensors on them are warned of.
    marks = torch.from_numpy(np.stack([label, valid]).astype(np.float32))
    label_moved, valid_moved = np.asarray(resample(marks, grid, mode="nearest"))
    image_moved = np.asarray(resample(torch.from_numpy(image.copy()), grid, mode="bilinear"))
    inside = valid_moved > 0
    return np.where(inside, image_moved, 0), label_moved.astype(np.uint8), inside


def _matrix(valid: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.float64]:
    """Draw where each pixel comes from: matrix on (row, column, 1) from the frame's middle."""
    angle = np.deg2rad(random.uniform(-ROTATION_DEGREES, ROTATION_DEGREES))
    scale = random.uniform(*SCALES)
    shift = random.uniform(-SHIFT, SHIFT, size=2)
    middle, extent = _middle_and_extent(valid)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = middle - turn @ (middle + shift * extent)
    return matrix


def _middle_and_extent(
    valid: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find where the slice lies in its frame, in pixels from the frame's middle."""
    frame = np.array(valid.shape)
    rows, columns = np.nonzero(valid.any(axis=1))[0], np.nonzero(valid.any(axis=0))[0]
    if not len(rows):
        return np.zeros(2), frame.astype(np.float64)
    first, last = np.array([rows[0], columns[0]]), np.array([rows[-1], columns[-1]])
    return (first + last) / 2 - (frame - 1) / 2, (last - first + 1).astype(np.float64)


def _smoothed(
    image: NDArray[np.float32], valid: NDArray[np.bool_], sigma: float
) -> NDArray[np.float32]:
    """Blur the slice alone: a blur that takes in the padding would darken its border."""
    from monai.transforms.intensity.array import GaussianSmooth  # noqa: PLC0415

    weight = valid.astype(np.float32)
    stack = np.concatenate([image * weight, weight[np.newaxis]])
    blurred: NDArray[np.float32] = np.asarray(GaussianSmooth(sigma)(stack))
    # What is left of a valid pixel's own weight is far above this, which only spares 0 / 0.
    smooth: NDArray[np.float32] = blurred[:-1] / np.maximum(blurred[-1], np.float32(1e-6))
    return smooth
