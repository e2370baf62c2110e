"""Where a volume lies in space, and what looks wrong about it."""

import numpy as np
from numpy.typing import NDArray

from datamodules.inspection_facts import ImageFacts, Problem
from datamodules.nifti_file import corner_distance, is_usable
from datamodules.volumes import FARTHEST_CORNER

_MOST_DEGREES = 1.0
_MOST_SHIFT = 0.01  # of the shortest edge of a voxel
_AXES = 3


def affine_problems(affine: NDArray[np.float64]) -> list[Problem]:
    """What looks wrong about the place of an image.

    Args:
        affine: From voxels to millimetres, shape ``(4, 4)``.
    """
    matrix = affine[:3, :3]
    if not is_usable(affine):
        return [Problem("no usable affine", "the affine is not finite, or flattens the volume")]
    found = []
    cosines = np.abs(matrix / np.linalg.norm(matrix, axis=0)).max(axis=0)
    degrees = float(np.degrees(np.arccos(np.clip(cosines.min(), 0, 1))))
    if degrees > _MOST_DEGREES:
        reason = f"an axis of the volume is {degrees:.1f} degrees off the nearest axis of space"
        found.append(Problem("rotated affine", reason))
    return found


def place_problems(image: ImageFacts, affine: NDArray[np.float64], what: str) -> list[Problem]:
    """Tell how far another file of a case lies from its image, and whether that is too far.

    Args:
        image: The image, or the file of its first channel.
        affine: Of the other file, shape ``(4, 4)``.
        what: What the other file is, in words.
    """
    if len(image.shape) < _AXES or not is_usable(image.affine):
        return []
    if not is_usable(affine):
        reason = f"the affine of the {what} is not finite, or flattens the volume"
        return [Problem("no usable affine", reason)]
    distance = corner_distance(image.shape[:_AXES], image.affine, affine)
    if distance <= _MOST_SHIFT:
        return []
    millimetres = distance * min(image.spacing_mm)
    reason = (
        f"the affines put a corner of the volume {millimetres:.3g} mm apart, which is "
        f"{distance:.2g} of the shortest edge of a voxel"
    )
    return [Problem(f"image and {what} differ in affine", reason, distance > FARTHEST_CORNER)]
