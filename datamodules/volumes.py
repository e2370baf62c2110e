"""One labelled volume: image and label map read from NIfTI, checked before anything is computed."""

import hashlib
import math
import struct
import zlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from datamodules.nifti_file import (
    OpenedVolume,
    check_whole,
    corner_distance,
    open_volume,
    read_file_header,
)
from datamodules.task import Case
from datamodules.wrong_input import counted, listed, wrong_input
from errors import InputError

FARTHEST_CORNER = 0.5  # of the shortest edge of a voxel
_LABELS = 256
_SPATIAL_AXES = 3
_MOST_VALUES = 6
_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    zlib.error,
    struct.error,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
)


@dataclass(frozen=True)
class Volume:
    """An image and its label map, on the same voxels.

    Attributes:
        image: Finite intensities as stored, shape ``(C, X, Y, Z)``, any real dtype; it may be a
            map of the file that cannot be written.
        label: Declared labels, shape ``(X, Y, Z)``, uint8; likewise.
        affine: From voxels to millimetres, the image's, shape ``(4, 4)``; as it is stored, also
            where it is not finite or flattens the volume.
    """

    image: NDArray[np.generic]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Header:
    """What the headers of an image say.

    Attributes:
        shape: Spatial lengths ``(X, Y, Z)``, in voxels.
        affine: From voxels to millimetres, shape ``(4, 4)``.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


def read_volume(case: Case, *, channels: int, labels: Collection[int]) -> Volume:
    """Read a case and check it.

    Args:
        case: What to read.
        channels: Number of channels that the task declares.
        labels: Values that the label map may hold, the background's included.

    Raises:
        InputError: If a file is damaged or declares more than 2^32 voxels, the files don't fit
            each other in shape or place, voxels are NaN or infinite, a channel is constant, or the
            label map holds values that are not declared.
    """
    image, affine = _read_image(case, channels)
    opened = as_label_map(_read_voxels(case.label))
    if opened.voxels.shape != image.shape[1:]:
        raise wrong_input(
            at=case.label,
            found=f"a label map of shape {opened.voxels.shape}",
            expected=f"{image.shape[1:]} as in {case.image}",
            do="export the pair again",
        )
    _check_place(image.shape[1:], affine, opened.affine, case.label, case.image)
    _check_intensities(image, case)
    return Volume(image, _checked_labels(opened.voxels, labels, case.label), affine)


def read_header(case: Case, *, channels: int) -> Header:
    """Read where the voxels of a case's image lie, from the headers of its files alone.

    Args:
        case: What to read.
        channels: Number of channels that the task declares.

    Raises:
        InputError: If a file is damaged, declares more than 2^32 voxels, none or more than its
            length has room for, holds no real numbers or has not the channels that the task
            declares, or the files differ in shape or place.
    """
    headers = []
    for path in case.images:
        try:
            header = read_file_header(path)
        except _READ_ERRORS as error:
            raise _damaged(path, error) from error
        _check_real(header.shape, header.dtype, path, is_real=header.is_real)
        shape = _spatial_shape(header.shape, _held_channels(case, channels), path)
        headers.append(Header(shape, header.affine))
    for path, other in zip(case.images[1:], headers[1:], strict=True):
        _check_same_grid(headers[0], other, path, case.image)
    return headers[0]


def check_image_files(case: Case) -> None:
    """Read the files of a case's image through, and keep nothing of them.

    Raises:
        InputError: If one is damaged or holds fewer voxels than it declares.
    """
    for path in case.images:
        try:
            check_whole(path)
        except _READ_ERRORS as error:
            raise _damaged(path, error) from error


def as_label_map(opened: OpenedVolume) -> OpenedVolume:
    """Leave out the last of four axes where its length is 1, as some programs write label maps.

    Args:
        opened: Voxels ``(X, Y, Z)`` or ``(X, Y, Z, 1)``; those of other shapes stay as they are.
    """
    if opened.voxels.shape[_SPATIAL_AXES:] != (1,):
        return opened
    return opened._replace(voxels=opened.voxels[..., 0])


def content_hash(array: NDArray[np.generic]) -> str:
    """Hash shape and values of voxels (sha256), whatever dtype and memory order they come in.

    Args:
        array: Voxels, depth last, shape ``(..., Z)``.
    """
    digest = hashlib.sha256(repr(array.shape).encode())
    for index in range(array.shape[-1]):
        # Adding 0 makes the two zeros of floating point one.
        frame = array[..., index].astype("<f8") + 0.0
        digest.update(frame.tobytes())
    return digest.hexdigest()


def _read_image(case: Case, channels: int) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Intensities ``(C, X, Y, Z)`` and affine of an image in one file or several."""
    held = _held_channels(case, channels)
    opened = _read_voxels(case.image)
    affine = opened.affine
    first = _channels_first(opened.voxels, held, case.image)
    if len(case.images) == 1:
        return first, affine
    shape = read_header(case, channels=channels).shape
    # Each channel lies in one piece; what is read of a file goes before the next is.
    image = np.empty((channels, *shape[::-1]), first.dtype).transpose(0, 3, 2, 1)
    image[0] = first[0]
    del first, opened
    for index, path in enumerate(case.images[1:], start=1):
        channel = _channels_first(_read_voxels(path).voxels, held, path)[0]
        image = image.astype(np.result_type(image, channel), copy=False)
        image[index] = channel
    return image, affine


def _held_channels(case: Case, channels: int) -> int:
    """Number of channels that each file of a case holds."""
    return channels if len(case.images) == 1 else 1


def _read_voxels(path: Path) -> OpenedVolume:
    try:
        opened = open_volume(path)
    except _READ_ERRORS as error:
        raise _damaged(path, error) from error
    is_real = opened.voxels.dtype.kind in "iuf"
    _check_real(opened.voxels.shape, opened.dtype, path, is_real=is_real)
    return opened


def _check_real(shape: tuple[int, ...], dtype: str, path: Path, *, is_real: bool) -> None:
    voxels = math.prod(shape)
    if not is_real or voxels == 0:
        raise wrong_input(
            at=path,
            found=f"{counted(voxels, 'voxel')} of type {dtype}" if voxels else f"shape {shape}",
            expected="real numbers" if voxels else "one voxel or more along each axis",
            do="export the volume again",
        )


def _damaged(path: Path, error: BaseException) -> InputError:
    return wrong_input(
        at=path,
        found=f"a file that cannot be read ({type(error).__name__}: {error})",
        expected="a whole NIfTI volume",
        do="copy or download it again",
    )


def _spatial_shape(shape: tuple[int, ...], channels: int, path: Path) -> tuple[int, int, int]:
    found = (*shape, 1) if len(shape) == _SPATIAL_AXES else shape
    if len(found) != _SPATIAL_AXES + 1 or found[-1] != channels:
        raise wrong_input(
            at=path,
            found=f"shape {shape}",
            expected="(X, Y, Z)" if channels == 1 else f"(X, Y, Z, {channels})",
            do=f"mend the file, or the channels in dataset.json, for {channels} in a file",
        )
    return shape[0], shape[1], shape[2]


def _channels_first(voxels: NDArray[np.generic], channels: int, path: Path) -> NDArray[np.generic]:
    spatial = _spatial_shape(voxels.shape, channels, path)
    return np.moveaxis(voxels.reshape((*spatial, channels), order="F"), -1, 0)


def _check_same_grid(first: Header, header: Header, path: Path, image: Path) -> None:
    if header.shape != first.shape:
        raise wrong_input(
            at=path,
            found=f"a channel of shape {header.shape}",
            expected=f"{first.shape} as in {image}",
            do="export the channels again, on one grid",
        )
    _check_place(first.shape, first.affine, header.affine, path, image)


def _check_place(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    other: NDArray[np.float64],
    path: Path,
    image: Path,
) -> None:
    """Refuse two files of a case that lie at different places, where their affines tell any."""
    distance = corner_distance(shape, affine, other)
    if distance > FARTHEST_CORNER:
        raise wrong_input(
            at=path,
            found=f"an affine that puts a corner of the volume {distance:.3g} voxel edges away "
            f"from where that of {image} does",
            expected=f"at most {FARTHEST_CORNER}",
            do="export or resample the files of the case on one grid",
        )


def _check_intensities(image: NDArray[np.generic], case: Case) -> None:
    for index, channel in enumerate(image):
        path = case.images[index] if len(case.images) > 1 else case.image
        name = "" if len(image) == 1 else f" in channel {index}"
        with np.errstate(invalid="ignore"):
            low, high = float(channel.min()), float(channel.max())
        # The extremes of a channel are finite only if all of it is.
        broken = 0 if math.isfinite(low) and math.isfinite(high) else _broken(channel)
        if broken:
            raise wrong_input(
                at=path,
                found=f"{broken} NaN or infinite voxel{'s' * (broken != 1)}{name}",
                expected="finite intensities",
                do="export the volume again or replace them",
            )
        if not 0 < high - low < float("inf"):
            raise wrong_input(
                at=path,
                found=f"nothing but {low:g}{name}" if low == high else f"{low:g} to {high:g}{name}",
                expected="intensities that differ, within the range of float64",
                do="export the volume again or remove the case from dataset.json",
            )


def _broken(channel: NDArray[np.generic]) -> int:
    """Count voxels that are NaN or infinite."""
    frames = (channel[..., index] for index in range(channel.shape[-1]))
    return sum(frame.size - int(np.count_nonzero(np.isfinite(frame))) for frame in frames)


def _checked_labels(
    label: NDArray[np.generic], declared: Collection[int], path: Path
) -> NDArray[np.uint8]:
    is_declared = np.zeros(_LABELS, dtype=np.bool_)
    is_declared[list(declared)] = True
    frames = range(label.shape[-1])
    with np.errstate(invalid="ignore"):
        in_range = bool(label.min() >= 0 and label.max() < _LABELS)  # NaN is neither
    if in_range:
        plain = label.astype(np.uint8, copy=False)
        is_whole = label.dtype.kind in "iu" or all(
            np.array_equal(plain[..., index], label[..., index]) for index in frames
        )
        if is_whole and all(is_declared[plain[..., index]].all() for index in frames):
            return plain
    strange: Counter[float] = Counter()
    nan = 0
    for index in frames:
        frame = label[..., index]
        values, counts = np.unique(frame[~np.isin(frame, list(declared))], return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            if math.isnan(value):
                nan += count
            else:
                strange[value] += count
    known = [*sorted(strange.items()), *[(math.nan, nan)] * (nan > 0)]
    words = [f"{value:g} ({counted(count, 'voxel')})" for value, count in known]
    could_be_declared = all(value in range(_LABELS) for value, _ in known)
    raise wrong_input(
        at=path,
        found=f"labels that dataset.json does not declare: {listed(words, _MOST_VALUES)}",
        expected=listed(map(str, sorted(declared))),
        do=f"mend the label map{' or add them to labels' * could_be_declared}",
    )
