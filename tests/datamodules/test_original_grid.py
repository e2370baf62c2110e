"""A file of a volume lies where its source lies."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.original_grid import write_volume


def tilted(*, shift: float = 0.0) -> NDArray[np.float64]:
    """Turned about two axes, of other lengths along each, and mirrored."""
    a, b = 0.3, -0.7
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([-0.7, 1.3, 2.6])
    affine[:3, 3] = [-31.3, 12.9, 7.1 + shift]
    return affine


def save_source(
    path: Path,
    shape: tuple[int, ...],
    *,
    codes: tuple[int, int] = (1, 2),
    kind: type[nibabel.Nifti1Image] = nibabel.Nifti1Image,
    order: str = "<",
) -> None:
    """An image whose two forms differ, with what a header may tell of people."""
    header = kind.header_class(endianness=order)  # type: ignore[no-untyped-call]
    image = kind(np.zeros(shape, np.int16), None, header)
    image.set_qform(tilted(shift=5.0), code=codes[0])  # type: ignore[no-untyped-call]
    image.set_sform(tilted(), code=codes[1])  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("micron", "sec")  # type: ignore[no-untyped-call]
    image.header["descrip"] = b"Jane Doe"
    image.header["aux_file"] = b"Jane Doe"
    image.header["cal_max"] = 7
    nibabel.save(image, path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (1, 2), (3, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_lies_where_its_source_lies(
    channels: int,
    codes: tuple[int, int],
    kind: type[nibabel.Nifti1Image],
    order: str,
    tmp_path: Path,
) -> None:
    shape = (5, 7, 3)
    source, path = tmp_path / "source.nii.gz", tmp_path / "map.nii.gz"
    save_source(source, shape, codes=codes, kind=kind, order=order)
    values = np.random.default_rng(0).normal(size=(*shape, channels)).astype(np.float32)
    volume = values[..., 0] if channels == 1 else values
    write_volume(path, volume, source, description="a" * 100)

    written, original = nibabel.load(path), nibabel.load(source)
    assert type(written) is type(original) is kind
    assert isinstance(written, nibabel.Nifti1Image)
    np.testing.assert_array_equal(np.asarray(written.dataobj), volume)
    assert written.get_data_dtype() == np.float32  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(written.affine, original.affine)
    for name in ("qform_code", "sform_code"):
        assert written.header[name] == original.header[name]
    for form in ("get_qform", "get_sform"):
        np.testing.assert_array_equal(
            getattr(written.header, form)(), getattr(original.header, form)()
        )
    np.testing.assert_array_equal(written.header["pixdim"][:4], original.header["pixdim"][:4])
    units = written.header.get_xyzt_units()  # type: ignore[no-untyped-call]
    assert units == ("micron", "unknown")
    assert bytes(written.header["descrip"]).rstrip(b"\0") == b"a" * 79
    assert b"Jane" not in written.to_bytes()
    assert written.header["cal_max"] == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float64, np.bool_])
def test_a_dtype_is_kept_and_truth_values_become_0_and_1(
    dtype: type[np.generic], tmp_path: Path
) -> None:
    save_source(tmp_path / "source.nii", (5, 7, 3))
    mask = (np.arange(105).reshape(5, 7, 3) % 3 == 0).astype(dtype)
    write_volume(tmp_path / "mask.nii.gz", mask, tmp_path / "source.nii", description="mask")
    written = nibabel.load(tmp_path / "mask.nii.gz")
    stored = np.asarray(written.dataobj)  # type: ignore[attr-defined]
    assert stored.dtype == (np.uint8 if dtype is np.bool_ else dtype)
    np.testing.assert_array_equal(stored, mask)


def test_the_same_volume_gives_the_same_bytes(tmp_path: Path) -> None:
    save_source(tmp_path / "source.nii.gz", (5, 7, 3))
    for name in ("one.nii.gz", "two.nii.gz"):
        write_volume(
            tmp_path / name, np.ones((5, 7, 3)), tmp_path / "source.nii.gz", description="ones"
        )
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


@pytest.mark.parametrize("shape", [(5, 7, 4), (7, 5, 3), (5, 7)])
def test_a_volume_of_another_shape_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    save_source(tmp_path / "source.nii", (5, 7, 3))
    with pytest.raises(ValueError, match="volume has shape"):
        write_volume(
            tmp_path / "map.nii.gz", np.zeros(shape), tmp_path / "source.nii", description=""
        )
    assert not (tmp_path / "map.nii.gz").exists()
