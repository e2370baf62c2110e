"""One labelled volume: image and label map read from NIfTI, checked before anything is computed."""

import gzip
import hashlib
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from datamodules.decathlon import Case
from datamodules.wrong_input import listed, wrong_input
from errors import InputError

_NIFTI2_HEADER_BYTES = 540
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
        image: Finite intensities as stored, shape ``(C, X, Y, Z)``, any real dtype.
        label: Declared labels, shape ``(X, Y, Z)``, uint8.
    """

    image: NDArray[np.generic]
    label: NDArray[np.uint8]


def read_volume(case: Case, *, channels: int, labels: Collection[int]) -> Volume:
    """Read a case and check it.

    Args:
        case: What to read.
        channels: Number of channels that the task declares; several lie in the last of four axes.
        labels: Values that the label map may hold, the background's included.

    Raises:
        InputError: If a file is damaged, the shapes don't fit, voxels are NaN or infinite, a
            channel is constant, or the label map holds values that are not declared.
    """
    image = _channels_first(_read_voxels(case.image), channels, case.image)
    label = _read_voxels(case.label)
    if label.shape != image.shape[1:]:
        raise wrong_input(
            at=case.label,
            found=f"a label map of shape {label.shape}",
            expected=f"{image.shape[1:]} as in {case.image}",
            do="export the pair again",
        )
    _check_intensities(image, case.image)
    return Volume(image=image, label=_checked_labels(label, labels, case.label))


def read_shape(case: Case, *, channels: int) -> tuple[int, int, int]:
    """Read the spatial lengths of a case in voxels, from its image's header alone.

    Args:
        case: What to read.
        channels: Number of channels that the task declares.

    Raises:
        InputError: If the file is damaged or has not the channels that the task declares.
    """
    try:
        image = nibabel.load(case.image)
    except _READ_ERRORS as error:
        raise _damaged(case.image, error) from error
    shape = image.shape if isinstance(image, nibabel.Nifti1Image) else ()
    return _spatial_shape(shape, channels, case.image)


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


def _read_voxels(path: Path) -> NDArray[np.generic]:
    """Read all voxels, through to the checksum at the end of a gz file, which nibabel skips."""
    try:
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = gzip.decompress(content)
        header_bytes = {int.from_bytes(content[:4], order) for order in ("little", "big")}
        is_second = _NIFTI2_HEADER_BYTES in header_bytes
        image = (nibabel.Nifti2Image if is_second else nibabel.Nifti1Image).from_bytes(content)
        voxels = np.asanyarray(image.dataobj)
    except _READ_ERRORS as error:
        raise _damaged(path, error) from error
    if voxels.dtype.kind not in "iuf" or voxels.size == 0:
        raise wrong_input(
            at=path,
            found=f"{voxels.size} voxels of type {voxels.dtype}",
            expected="real numbers",
            do="export the volume again",
        )
    return voxels


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
            do=f"mend the file, or modality in dataset.json, which names {channels} channel(s)",
        )
    return int(shape[0]), int(shape[1]), int(shape[2])


def _channels_first(voxels: NDArray[np.generic], channels: int, path: Path) -> NDArray[np.generic]:
    spatial = _spatial_shape(voxels.shape, channels, path)
    return np.moveaxis(voxels.reshape(*spatial, channels), -1, 0)


def _check_intensities(image: NDArray[np.generic], path: Path) -> None:
    for index, channel in enumerate(image):
        name = "" if len(image) == 1 else f" in channel {index}"
        broken = channel.size - int(np.count_nonzero(np.isfinite(channel)))
        if broken:
            raise wrong_input(
                at=path,
                found=f"{broken} NaN or infinite voxels{name}",
                expected="finite intensities",
                do="export the volume again or replace them",
            )
        low, high = float(channel.min()), float(channel.max())
        if not 0 < high - low < float("inf"):
            raise wrong_input(
                at=path,
                found=f"nothing but {low:g}{name}" if low == high else f"{low:g} to {high:g}{name}",
                expected="intensities that differ, within the range of float64",
                do="export the volume again or remove the case from dataset.json",
            )


def _checked_labels(
    label: NDArray[np.generic], declared: Collection[int], path: Path
) -> NDArray[np.uint8]:
    strange, counts = np.unique(label[~np.isin(label, list(declared))], return_counts=True)
    if strange.size:
        values = [
            f"{value:g} ({count} voxels)" for value, count in zip(strange, counts, strict=True)
        ]
        raise wrong_input(
            at=path,
            found=f"labels that dataset.json does not declare: {listed(values, _MOST_VALUES)}",
            expected=listed(map(str, sorted(declared))),
            do="mend the label map or add them to labels",
        )
    return label.astype(np.uint8)
