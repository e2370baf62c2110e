"""Where the slices of a volume lie in it, and the way there and back.

Axes: a volume is ``(X, Y, Z)`` as nibabel reads it. By default its depth is the last axis and
slice ``k`` is ``volume[:, :, k]`` as it lies in the array: the rows of a slice (H, downwards) are
the voxels of the first axis, its columns (W, to the right) those of the second, and nothing is
turned or mirrored. A slice that is smaller than the size is padded at the right and the bottom.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, TypeVar

import nibabel
import numpy as np
from numpy.typing import NDArray

from datamodules.nifti_file import is_usable
from datamodules.resampling import resample

Kind = TypeVar("Kind", bound=np.generic)
Orientation = Literal["stored", "canonical"]
Larger = Literal["refuse", "crop", "tile"]
_AXES = 3


@dataclass(frozen=True)
class Window:
    """A rectangle of a plane: rows ``top`` to ``bottom`` and columns ``left`` to ``right``."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True)
class SliceGrid:
    """The slices of one volume.

    Each frame along depth is a plane of rows and columns; each plane gives one slice, or as many
    as it has tiles. Slices are ordered by frame and, within a frame, by tile in rows.

    Attributes:
        shape: Spatial lengths ``(X, Y, Z)`` of the volume, in voxels.
        size: Height and width of a slice, in pixels.
        order: Axes of the volume that are rows, columns and depth.
        reversed: Whether rows, columns and depth run against their axis.
        plane: Rows and columns of a frame once it is resampled.
        larger: What becomes of a plane that is larger than the size: ``crop`` keeps its middle,
            ``tile`` cuts it into the least number of equal pieces, none overlapping. With
            ``refuse`` there is none.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int]
    order: tuple[int, int, int] = (0, 1, 2)
    reversed: tuple[bool, bool, bool] = (False, False, False)
    plane: tuple[int, int] = (0, 0)
    larger: Larger = "refuse"

    def __post_init__(self) -> None:
        """Take the plane of the volume where none is given."""
        if self.plane == (0, 0):
            object.__setattr__(self, "plane", self.stored_plane)

    @property
    def stored_plane(self) -> tuple[int, int]:
        """Rows and columns of a frame as the volume has them, in voxels."""
        return self.shape[self.order[0]], self.shape[self.order[1]]

    @property
    def depth(self) -> int:
        """Number of frames."""
        return self.shape[self.order[2]]

    @property
    def fits(self) -> bool:
        """Whether no plane has to be refused."""
        inside = all(length <= most for length, most in zip(self.plane, self.size, strict=True))
        return inside or self.larger != "refuse"

    @property
    def is_resampled(self) -> bool:
        """Whether pixels of slices are no voxels of the volume."""
        return self.plane != self.stored_plane

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """The parts of a plane that its slices hold, in order."""
        tops, lefts = (
            _parts(length, most, self.larger)
            for length, most in zip(self.plane, self.size, strict=True)
        )
        return tuple(Window(*rows, *columns) for rows in tops for columns in lefts)

    @property
    def slices(self) -> int:
        """Number of slices."""
        return self.depth * len(self.windows)

    @property
    def slice_shapes(self) -> NDArray[np.int64]:
        """Height and width of each slice without its padding, shape ``(S, 2)``."""
        shapes = np.array([window.shape for window in self.windows])
        return np.tile(shapes, (self.depth, 1))

    def frame(self, volume: NDArray[Kind], index: int) -> NDArray[Kind]:
        """A frame of a volume, not resampled.

        Args:
            volume: Shape ``(..., X, Y, Z)``.
            index: Which, from 0.

        Returns:
            A view, shape ``(..., *stored_plane)``.
        """
        return self._turned(volume)[..., index]

    def cut(self, plane: NDArray[Kind]) -> NDArray[Kind]:
        """Cut a plane into the slices of its frame.

        Args:
            plane: Any values at its pixels, shape ``(..., *plane)``.

        Returns:
            Slices, padded with zeros, shape ``(T, ..., H, W)``.
        """
        slices = np.zeros((len(self.windows), *plane.shape[:-2], *self.size), dtype=plane.dtype)
        for piece, window in zip(slices, self.windows, strict=True):
            height, width = window.shape
            piece[..., :height, :width] = plane[
                ..., window.top : window.bottom, window.left : window.right
            ]
        return slices

    def volume(self, slices: NDArray[Kind]) -> NDArray[Kind]:
        """Put the slices of a volume together again, on the voxels of the volume.

        Args:
            slices: Any values at the pixels of all slices, shape ``(S, C, H, W)``. Where slices
                were resampled, they are numbers that can be interpolated.

        Returns:
            The same values and dtype, shape ``(X, Y, Z)``, or ``(X, Y, Z, C)`` for several
            channels; 0 where no slice lies.

        Raises:
            ValueError: If there are fewer or more slices than the volume has, or they are smaller.
        """
        if slices.ndim != _AXES + 1 or (len(slices), *slices.shape[2:]) != (
            self.slices,
            *self.size,
        ):
            msg = (
                f"slices have shape {slices.shape}, expected ({self.slices}, C, {self.size[0]}, "
                f"{self.size[1]}), those of a volume of shape {self.shape}"
            )
            raise ValueError(msg)
        channels, tiles = slices.shape[1], len(self.windows)
        volume = np.zeros((channels, *self.shape), dtype=slices.dtype)
        turned = self._turned(volume)
        plane = np.zeros((channels, *self.plane), dtype=slices.dtype)
        for index in range(self.depth):
            pieces = slices[index * tiles : (index + 1) * tiles]
            for piece, window in zip(pieces, self.windows, strict=True):
                height, width = window.shape
                plane[:, window.top : window.bottom, window.left : window.right] = piece[
                    :, :height, :width
                ]
            # Blurred on the way back, masks would lose their corners.
            turned[..., index] = (
                resample(plane, self.stored_plane, antialias=False) if self.is_resampled else plane
            )
        return volume[0] if channels == 1 else np.ascontiguousarray(np.moveaxis(volume, 0, -1))

    def locate(self, voxel: tuple[int, int, int]) -> tuple[int, int, int] | None:
        """Find the pixel that a voxel lies in.

        Args:
            voxel: Its place in the volume, inside.

        Returns:
            Slice, row and column; None where cropping left it out.
        """
        row, column, frame = (
            self.shape[axis] - 1 - voxel[axis] if is_reversed else voxel[axis]
            for axis, is_reversed in zip(self.order, self.reversed, strict=True)
        )
        top, left = (
            min(int((at + 0.5) * after / before), after - 1)
            for at, before, after in zip((row, column), self.stored_plane, self.plane, strict=True)
        )
        for tile, window in enumerate(self.windows):
            if window.top <= top < window.bottom and window.left <= left < window.right:
                return frame * len(self.windows) + tile, top - window.top, left - window.left
        return None

    def _turned(self, volume: NDArray[Kind]) -> NDArray[Kind]:
        """A view of a volume with rows, columns and depth as its last three axes."""
        leading = range(volume.ndim - _AXES)
        turned = volume.transpose(*leading, *(len(leading) + axis for axis in self.order))
        rows, columns, depth = (slice(None, None, -1 if back else 1) for back in self.reversed)
        return turned[..., rows, columns, depth]


def axes_of_slices(
    affine: NDArray[np.float64], *, axis: int, orientation: Orientation
) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Find which axes of a volume are the rows, columns and depth of its slices.

    Args:
        affine: From voxels to millimetres, shape ``(4, 4)``.
        axis: The axis along which slices are cut, 0 to 2: of the stored array, or of the canonical
            one, where 0, 1 and 2 run to the right, to the front and upwards (RAS).
        orientation: Which of the two.

    Returns:
        Axes and whether they run backwards, each for rows, columns and depth. Rows and columns
        are the other two axes in their order.

    Raises:
        ValueError: If the affine gives an axis no direction.
    """
    others = [one for one in range(_AXES) if one != axis]
    if orientation == "stored":
        return (others[0], others[1], axis), (False, False, False)
    if not is_usable(affine):
        msg = "an affine that is not finite, or flattens the volume"
        raise ValueError(msg)
    found = nibabel.io_orientation(affine)  # type: ignore[no-untyped-call]
    source = {int(target): index for index, (target, _) in enumerate(found)}
    rows, columns, depth = (source[one] for one in (*others, axis))
    against = found[:, 1] < 0
    return (rows, columns, depth), (
        bool(against[rows]),
        bool(against[columns]),
        bool(against[depth]),
    )


def resampled_plane(
    plane: tuple[int, int], spacing_mm: tuple[float, float], wanted_mm: tuple[float, float]
) -> tuple[int, int]:
    """Rows and columns that come nearest to a wanted spacing over the same lengths.

    Args:
        plane: Rows and columns there are.
        spacing_mm: Their distances.
        wanted_mm: The distances that are wanted.

    Raises:
        ValueError: If a spacing there is is not finite or not above 0.
    """
    if not all(math.isfinite(one) and one > 0 for one in spacing_mm):
        msg = f"a spacing of {spacing_mm[0]:g} x {spacing_mm[1]:g} mm"
        raise ValueError(msg)
    rows, columns = (
        max(1, round(length * there / wanted))
        for length, there, wanted in zip(plane, spacing_mm, wanted_mm, strict=True)
    )
    return rows, columns


def _parts(length: int, most: int, larger: Larger) -> list[tuple[int, int]]:
    """Beginnings and ends of the parts of one axis of a plane."""
    if length <= most:
        return [(0, length)]
    if larger == "crop":
        start = (length - most) // 2
        return [(start, start + most)]
    count = -(-length // most)
    edges = [length * index // count for index in range(count + 1)]
    return list(pairwise(edges))
