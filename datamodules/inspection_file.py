"""A NIfTI file as it is: its voxels, its affine, and the type of its numbers."""

import gzip
import io
import math
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from numpy.typing import NDArray

_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_CHUNK = 1 << 24


class OpenedVolume(NamedTuple):
    """A volume.

    Attributes:
        voxels: As the file's scale factor makes them; mapped where the file is not compressed.
        affine: From voxels to millimetres, shape ``(4, 4)``.
        dtype: Type of the stored numbers.
    """

    voxels: NDArray[np.generic]
    affine: NDArray[np.float64]
    dtype: str


def open_volume(path: Path) -> OpenedVolume:
    """Open a NIfTI file, through to the checksum at the end of a gz file.

    No more is read into memory than its header declares, and nothing where the file holds less.

    Raises:
        ValueError: If it holds fewer voxels than it declares.
        Exception: Of one of many types, if it is no NIfTI file or a damaged one.
    """
    is_gz = path.name.endswith(".gz")
    content = io.BytesIO()
    with gzip.open(path) if is_gz else path.open("rb") as file:
        content.write(file.read(_HEADER_BYTES))
        sizes = {int.from_bytes(content.getvalue()[:4], order) for order in ("little", "big")}
        kind = nibabel.Nifti2Image if _HEADER_BYTES in sizes else nibabel.Nifti1Image
        content.seek(0)
        header = kind.header_class.from_fileobj(content, check=False)  # type: ignore[no-untyped-call]
        shape = tuple(map(int, header.get_data_shape()))
        needed = math.prod(shape) * int(header.get_data_dtype().itemsize)
        end = int(header["vox_offset"]) + needed
        held = path.stat().st_size
        if is_gz:
            held = content.seek(0, io.SEEK_END)
            while held < end and (chunk := file.read(min(_CHUNK, end - held))):
                held += content.write(chunk)
            while file.read(_CHUNK):  # the checksum is looked at when all is read
                pass
    if held < end:
        msg = f"the header declares {shape} voxels in {needed} bytes, the file holds {held} bytes"
        raise ValueError(msg)
    content.seek(0)
    image = kind.from_stream(content) if is_gz else kind.from_filename(path)
    name = str(header.get_value_label("datatype"))
    return OpenedVolume(np.asanyarray(image.dataobj), np.asarray(image.affine, float), name)


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
