"""A NIfTI file as it is: its header, its voxels, its affine, and the type of its numbers."""

import gzip
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

MOST_VOXELS = 2**32
_HEADER_BYTES = 348
_NIFTI2_HEADER_BYTES = 540
_CHUNK = 1 << 20
_MOST_DEFLATED = 1032  # bytes that deflate can make of one, by its format
_AXES = 3


class FileHeader(NamedTuple):
    """What a file says of its voxels.

    Attributes:
        shape: As stored, the axis of channels included where there is one.
        affine: From voxels to millimetres, shape ``(4, 4)``.
        dtype: Type of the stored numbers, in NIfTI's words.
        is_real: Whether these are real numbers, not complex ones or colours.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    dtype: str
    is_real: bool


class OpenedVolume(NamedTuple):
    """A volume.

    Attributes:
        voxels: As the file's scale factor makes them; mapped where the file is not compressed.
        affine: From voxels to millimetres, shape ``(4, 4)``.
        dtype: Type of the stored numbers, in NIfTI's words.
    """

    voxels: NDArray[np.generic]
    affine: NDArray[np.float64]
    dtype: str


def read_file_header(path: Path) -> FileHeader:
    """Read the header of a NIfTI file and nothing else of it.

    Raises:
        ValueError: If it declares more than 2^32 voxels, a negative number of them or more than the
            file can hold by its length.
        Exception: Of one of many types, if it is no NIfTI file or a damaged one.
    """
    with _bytes_of(path) as file:
        header = _parsed(file)
    is_real = header.get_data_dtype().kind in "iuf"
    shape = _claim(header, path).shape
    return FileHeader(shape, _affine(header), _type_name(header), is_real)


def check_whole(path: Path) -> None:
    """Read a NIfTI file through as :func:`open_volume` does, and keep nothing of it.

    Raises:
        ValueError: If it holds fewer voxels than it declares, or declares too many.
        Exception: Of one of many types, if it is no NIfTI file or a damaged one.
    """
    with _bytes_of(path) as file:
        claim = _claim(_parsed(file), path)
        # The length of other files has told it already.
        if _is_gz(path):
            held = file.tell()
            while found := file.read(_CHUNK):
                held += len(found)
            claim.check(held)


def open_volume(path: Path) -> OpenedVolume:
    """Open a NIfTI file, through to the checksum at the end of a gz file.

    No more is kept in memory than its header declares, once, and nothing is read where that is more
    than 2^32 voxels or more than the file can hold.

    Raises:
        ValueError: If it holds fewer voxels than it declares, or declares too many.
        Exception: Of one of many types, if it is no NIfTI file or a damaged one.
    """
    with _bytes_of(path) as file:
        header = _parsed(file)
        claim, dtype = _claim(header, path), header.get_data_dtype()
        if _is_gz(path):
            content = np.empty(claim.needed, np.uint8)
            claim.check(_fill(content, file, claim.start))
            voxels = content.view(dtype).reshape(claim.shape, order="F")
    if not claim.needed:
        voxels = np.empty(claim.shape, dtype)
    elif not _is_gz(path):
        voxels = np.memmap(path, dtype, mode="r", offset=claim.start, shape=claim.shape, order="F")
    scaled = voxels
    if dtype.kind in "iuf":
        scaled = apply_read_scaling(voxels, *header.get_slope_inter())
    return OpenedVolume(scaled, _affine(header), _type_name(header))


def spacing(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Lengths of a voxel along the three axes, in millimetres."""
    first, second, third = map(float, np.linalg.norm(affine[:3, :3], axis=0))
    return first, second, third


def orientation(affine: NDArray[np.float64]) -> str:
    """Where the axes of a volume point to, such as ``RAS``; ``?`` for an axis that has no length.

    Args:
        affine: From voxels to millimetres, shape ``(4, 4)``.
    """
    if not np.isfinite(affine).all():
        return "???"
    return "".join(code or "?" for code in nibabel.aff2axcodes(affine))  # type: ignore[no-untyped-call]


def is_usable(affine: NDArray[np.float64]) -> bool:
    """Whether an affine is finite and does not flatten the volume."""
    return bool(np.isfinite(affine).all() and np.linalg.det(affine[:3, :3]) != 0)


def corner_distance(
    shape: tuple[int, ...], one: NDArray[np.float64], other: NDArray[np.float64]
) -> float:
    """How far apart two affines put a corner of a volume at most, in shortest edges of a voxel.

    Args:
        shape: Spatial lengths ``(X, Y, Z)`` of the volume, in voxels.
        one: From voxels to millimetres, shape ``(4, 4)``; the edges are those of this one.
        other: Likewise.

    Returns:
        NaN where one of them is not usable, by :func:`is_usable`.
    """
    if not (is_usable(one) and is_usable(other)):
        return float("nan")
    corners = np.array([(*end, 1) for end in np.ndindex(2, 2, 2)]) * (*np.array(shape) - 1, 1)
    shifts = np.linalg.norm(corners @ (one - other).T, axis=1)
    return float(shifts.max()) / min(spacing(one))


class _Claim(NamedTuple):
    """What a header declares: the voxels' shape, where their bytes begin and how many they are."""

    shape: tuple[int, ...]
    start: int
    needed: int

    def check(self, held: int, at_most: str = "") -> None:
        if self.start + self.needed > held:
            msg = (
                f"the header declares {self.shape} voxels in {self.needed} bytes, the file holds "
                f"{at_most}{held} bytes"
            )
            raise ValueError(msg)


def _claim(header: Any, path: Path) -> _Claim:  # noqa: ANN401
    """Take what a header declares, which the file must be long enough for."""
    shape = _shape(header)
    needed = math.prod(shape) * int(header.get_data_dtype().itemsize)
    claim = _Claim(shape, header.get_data_offset() or header.single_vox_offset, needed)
    held = path.stat().st_size
    if _is_gz(path):
        claim.check(held * _MOST_DEFLATED, "at most ")
    else:
        claim.check(held)
    return claim


def _is_gz(path: Path) -> bool:
    return path.name.endswith(".gz")


def _bytes_of(path: Path) -> io.BufferedReader | gzip.GzipFile:
    return gzip.open(path) if _is_gz(path) else path.open("rb")


def _parsed(file: io.BufferedReader | gzip.GzipFile) -> Any:  # noqa: ANN401
    """Parse a header without the extensions behind it, which may be long."""
    block = file.read(_HEADER_BYTES)
    kind: Any = nibabel.Nifti1Header
    if _NIFTI2_HEADER_BYTES in {int.from_bytes(block[:4], order) for order in ("little", "big")}:
        kind = nibabel.Nifti2Header
        block += file.read(_NIFTI2_HEADER_BYTES - _HEADER_BYTES)
    header = kind(block)
    if header["magic"].item() != header.single_magic:
        msg = "the header is that of a pair of files, not of one"
        raise ValueError(msg)
    return header


def _shape(header: Any) -> tuple[int, ...]:  # noqa: ANN401
    shape = tuple(map(int, header.get_data_shape()))
    if min(shape) < 0 or math.prod(shape) > MOST_VOXELS:
        msg = f"the header declares {shape} voxels, which is below 0 or above 2^32"
        raise ValueError(msg)
    return shape


def _affine(header: Any) -> NDArray[np.float64]:  # noqa: ANN401
    return np.asarray(header.get_best_affine(), np.float64)


def _type_name(header: Any) -> str:  # noqa: ANN401
    return str(header.get_value_label("datatype"))


def _fill(content: NDArray[np.uint8], file: io.BufferedReader | gzip.GzipFile, start: int) -> int:
    """Read the bytes from ``start`` on, and the rest of the file; tell how many it held by then."""
    held = file.tell()
    while held < start and (skipped := file.read(min(_CHUNK, start - held))):
        held += len(skipped)
    target = content.data
    while target and (count := file.readinto(target[:_CHUNK])):
        target, held = target[count:], held + count
    while file.read(_CHUNK):  # the checksum is looked at when all is read
        pass
    return held
