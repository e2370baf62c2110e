"""A volume as a NIfTI file that lies where its source lies."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from datamodules.whole_file import write_whole

# Where voxels lie. They are copied bit by bit, since setting an affine would round it, and would
# change the codes; nothing else is, for headers can hold names of people.
_PLACE = (
    *("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("sform_code", "srow_x", "srow_y", "srow_z"),
)
_ZOOMS = 4  # handedness of the axes and three lengths
_SPATIAL_UNIT = 7  # the bits of xyzt_units that are not the unit of time
_LONGEST = 79  # bytes of a description: 80 with the zero at its end
_SPATIAL_AXES = 3


def write_volume(
    path: Path, volume: NDArray[np.generic], source: Path, *, description: str
) -> None:
    """Write a volume as compressed NIfTI that lies where its source lies.

    Affine, codes of both of its forms, lengths of voxels, spatial unit and the version of NIfTI
    are those of the source. The same volume gives the same bytes.

    Args:
        path: The file, ``.nii.gz``.
        volume: Shape ``(X, Y, Z)`` or ``(X, Y, Z, C)``, stored in its dtype; bool as uint8.
        source: A readable NIfTI image of the same X, Y and Z.
        description: What the volume is; the first 79 characters go to the header.

    Raises:
        ValueError: If the source has another shape, or NIfTI has not the dtype.
        OSError: If the file cannot be written; what was there before is then still there.
    """
    image = nibabel.load(source)
    shape = image.shape if isinstance(image, nibabel.Nifti1Image) else ()
    if not isinstance(image, nibabel.Nifti1Image) or shape[:_SPATIAL_AXES] != volume.shape[:3]:
        msg = f"volume has shape {volume.shape}, expected that of {source}, {shape}"
        raise ValueError(msg)
    voxels = volume.astype(np.uint8) if volume.dtype == np.bool_ else volume
    header = type(image.header)()
    header.set_data_dtype(voxels.dtype)  # type: ignore[no-untyped-call]
    header.set_data_shape(voxels.shape)  # type: ignore[no-untyped-call]
    for name in _PLACE:
        header[name] = image.header[name]
    header["pixdim"][:_ZOOMS] = image.header["pixdim"][:_ZOOMS]
    header["xyzt_units"] = image.header["xyzt_units"] & _SPATIAL_UNIT
    header["descrip"] = description.encode("ascii", "replace")[:_LONGEST]
    # Without an affine of its own, the image keeps the header's.
    content = type(image)(voxels, None, header).to_bytes()
    write_whole(path, gzip.compress(content, mtime=0))
