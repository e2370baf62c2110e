"""What an inspection finds out about a case, and what in it is wrong or looks so."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.nifti_file import is_usable
from datamodules.printable import printable

__all__ = [
    "CaseFacts",
    "ChannelFacts",
    "ImageFacts",
    "LabelFacts",
    "Problem",
    "SlicePicture",
    "printable",
]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a case, or looks so.

    Attributes:
        kind: What it is, in the words that are the same for all cases that have it.
        reason: What was found in this case, in words.
        blocks: Whether no network can be trained with the case.
    """

    kind: str
    reason: str
    blocks: bool = False


@dataclass(frozen=True)
class ChannelFacts:
    """Intensities of a channel: extremes and percentiles of its finite voxels, NaN without any.

    Attributes:
        minimum: The smallest.
        p1: The 1st percentile.
        median: The 50th percentile.
        p99: The 99th percentile.
        maximum: The largest.
        broken: Number of voxels that are NaN or infinite.
    """

    minimum: float
    p1: float
    median: float
    p99: float
    maximum: float
    broken: int


@dataclass(frozen=True)
class ImageFacts:
    """An image.

    Attributes:
        shape: As stored in its first file, the axis of channels included where there is one.
        spacing_mm: Lengths of a voxel along the three axes, by the affine.
        orientation: Where the axes point to, such as ``RAS``.
        dtype: Type of the stored numbers; several where the files of the channels differ.
        affine: From voxels to millimetres, shape ``(4, 4)``.
        channels: Intensities by channel; none where the shape is not that of the task.
        sha256: Hash of shape and voxels, as the slice store has it; empty without channels.
    """

    shape: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    orientation: str
    dtype: str
    affine: NDArray[np.float64]
    channels: tuple[ChannelFacts, ...] = ()
    sha256: str = ""

    @property
    def is_left_handed(self) -> bool | None:
        """Whether the axes mirror the volume; None where the affine does not say."""
        if not is_usable(self.affine):
            return None
        return float(np.linalg.det(self.affine[:3, :3])) < 0

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres; NaN where the affine is not finite."""
        if not np.isfinite(self.affine).all():
            return float("nan")
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


@dataclass(frozen=True)
class LabelFacts:
    """A label map.

    Attributes:
        shape: Lengths ``(X, Y, Z)`` in voxels.
        dtype: Type of the stored numbers.
        voxels: Number of voxels by value, for whole numbers.
        strange: Number of voxels that are no whole number, NaN and infinite ones among them.
        frame_areas: Voxels of foreground in each frame along depth: neither background nor those of
            a label that is to be ignored.
        touched: Borders of the volume with foreground, such as ``start of axis 1``.
        sha256: Hash of shape and voxels.
    """

    shape: tuple[int, ...]
    dtype: str
    voxels: dict[int, int]
    strange: int
    frame_areas: tuple[int, ...]
    touched: tuple[str, ...]
    sha256: str

    @property
    def total(self) -> int:
        """Number of voxels."""
        return sum(self.voxels.values()) + self.strange

    @property
    def foreground(self) -> int:
        """Number of voxels that are neither background nor ignored."""
        return sum(self.frame_areas)

    @property
    def foreground_slices(self) -> int:
        """Number of frames along depth that hold foreground."""
        return sum(area > 0 for area in self.frame_areas)


@dataclass(frozen=True)
class SlicePicture:
    """The slice of a case with the most foreground, ready to be shown.

    Attributes:
        slice_index: Its place along depth, from 0.
        depth: Number of slices of the case.
        gray: The first channel, black to white, shape ``(H, W)``, uint8.
        marks: 0 for background, ``k`` for the k-th label of the task, 65535 for anything else that
            stands in the label map, shape ``(H, W)``, uint16.
        is_ct: Whether ``gray`` is a window in Hounsfield units.
    """

    slice_index: int
    depth: int
    gray: NDArray[np.uint8]
    marks: NDArray[np.uint16]
    is_ct: bool


@dataclass(frozen=True)
class CaseFacts:
    """A case.

    Attributes:
        name: Its name, or the place in the list where it has none.
        image: None where it cannot be read, or the case is listed wrongly.
        label: None where it cannot be read, is no volume of real numbers or is listed wrongly.
        problems: All that is wrong or looks so.
        picture: None where none was asked for or the image cannot be shown.
    """

    name: str
    image: ImageFacts | None = None
    label: LabelFacts | None = None
    problems: tuple[Problem, ...] = ()
    picture: SlicePicture | None = None

    @property
    def usable(self) -> bool:
        """Whether a network can be trained with it."""
        return not any(problem.blocks for problem in self.problems)
