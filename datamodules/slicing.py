"""How volumes become slices, as the user sets it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.intensities import WHOLE_RANGE, IntensityRange
from datamodules.preprocessing import SIZE_MULTIPLE
from datamodules.slice_grid import (
    Larger,
    Orientation,
    SliceGrid,
    axes_of_slices,
    resampled_plane,
)
from datamodules.wrong_input import wrong_input

_LAST_AXIS = 2
_FINEST_MM = 0.05  # finer than any scanner of patients


@dataclass(frozen=True)
class StoreSettings:
    """How volumes become slices.

    Attributes:
        size: Height and width of a slice, in pixels.
        max_pixel: Value of the brightest pixels.
        intensities: Which intensities become 0 and ``max_pixel``.
        axis: Axis along which slices are cut, 0 to 2.
        orientation: Whether that is an axis of the array as stored, or turned to RAS.
        spacing_mm: Distances of rows and of columns to which slices are resampled; None for those
            of the volume.
        larger: What becomes of slices that are larger than the size.
    """

    size: tuple[int, int]
    max_pixel: float
    intensities: IntensityRange = WHOLE_RANGE
    axis: int = _LAST_AXIS
    orientation: Orientation = "stored"
    spacing_mm: tuple[float, float] | None = None
    larger: Larger = "refuse"

    def facts(self) -> dict[str, Any]:
        """Plain values; what is as by default is left out, and changes no fingerprint."""
        chosen = {
            "window": (self.intensities.window, None),
            "percentiles": (self.intensities.percentiles, None),
            "axis": (self.axis, _LAST_AXIS),
            "orientation": (self.orientation, "stored"),
            "spacing_mm": (self.spacing_mm, None),
            "larger": (self.larger, "refuse"),
        }
        return {
            "size": self.size,
            "max_pixel": self.max_pixel,
            **{name: value for name, (value, default) in chosen.items() if value != default},
        }

    def grid(self, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> SliceGrid:
        """Find the slices of a volume.

        Args:
            shape: Spatial lengths ``(X, Y, Z)`` in voxels.
            affine: From voxels to millimetres, shape ``(4, 4)``.

        Raises:
            ValueError: If the affine does not say what the settings need.
        """
        order, backwards = axes_of_slices(affine, axis=self.axis, orientation=self.orientation)
        plane = (shape[order[0]], shape[order[1]])
        if self.spacing_mm is not None:
            lengths = np.linalg.norm(affine[:3, :3], axis=0)
            there = (float(lengths[order[0]]), float(lengths[order[1]]))
            plane = resampled_plane(plane, there, self.spacing_mm)
        return SliceGrid(shape, self.size, order, backwards, plane, self.larger)


def check_slicing(size: tuple[int, int], axis: int, spacing_mm: tuple[float, float] | None) -> None:
    """Refuse settings that make no slices.

    Args:
        size: ``--data.size``.
        axis: ``--data.axis``.
        spacing_mm: ``--data.spacing_mm``.

    Raises:
        InputError: If one of them is out of range.
    """
    if any(length < 1 or length % SIZE_MULTIPLE for length in size):
        raise wrong_input(
            at="--data.size",
            found=list(size),
            expected=f"height and width in multiples of {SIZE_MULTIPLE} pixels",
            do="set for example [64,64]",
        )
    if axis not in range(_LAST_AXIS + 1):
        raise wrong_input(
            at="--data.axis",
            found=axis,
            expected="0, 1 or 2, the axis along which slices are cut",
            do="set 2 for depth as stored",
        )
    if spacing_mm is not None and not all(_FINEST_MM <= one < float("inf") for one in spacing_mm):
        raise wrong_input(
            at="--data.spacing_mm",
            found=list(spacing_mm),
            expected=f"distances of rows and of columns in mm, both at least {_FINEST_MM}",
            do="set for example [1.0,1.0], or null for those of each volume",
        )
