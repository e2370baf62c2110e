"""Files of one case that lie at different places, or have different shapes."""

import gzip
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.task import Case
from datamodules.volumes import read_header, read_volume
from errors import InputError
from tests.datamodules.tiny import case_in, refusal, volume, write_nifti, write_task

LABELS = (0, 1, 2)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return case_in(write_task(tmp_path, cases=1))


def place(case: Case, image: NDArray[np.float64], label: NDArray[np.float64]) -> None:
    for path, voxels, affine in zip(
        (case.image, case.label), volume(0), (image, label), strict=True
    ):
        made = nibabel.Nifti1Image(voxels, affine)  # type: ignore[no-untyped-call]
        path.write_bytes(gzip.compress(made.to_bytes()))


@pytest.mark.parametrize("shift", [0.2, 0.9])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_label_map_half_a_voxel_away_is_refused(case: Case, shift: float, axis: int) -> None:
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    other = affine.copy()
    other[axis, 3] += shift
    place(case, affine, other)
    if shift < 0.5 * 1.5:
        read = read_volume(case, channels=1, labels=LABELS)
        np.testing.assert_array_equal(read.affine, affine)
        return
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    message = refusal(caught)
    assert message.startswith(str(case.label))
    assert "a corner of the volume 0.6 voxel edges away" in message


def test_a_label_map_that_is_turned_is_refused(case: Case) -> None:
    turn = np.radians(10)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    place(case, affine, affine)
    assert read_volume(case, channels=1, labels=LABELS).image.shape == (1, 10, 12, 4)
    place(case, affine, np.eye(4))
    with pytest.raises(InputError, match=r"voxel edges away from where that of .*tiny_00"):
        read_volume(case, channels=1, labels=LABELS)


def write_affine(path: Path, value: float) -> None:
    """Sets the rows of an affine, which nibabel itself would not write."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[280:328] = struct.pack("<12f", *[value] * 12)
    path.write_bytes(gzip.compress(bytes(content)))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("part", ["image", "label"])
def test_without_a_usable_affine_places_are_not_compared(
    case: Case, value: float, part: str
) -> None:
    write_affine(getattr(case, part), value)
    read = read_volume(case, channels=1, labels=LABELS)
    rows = read.affine[:3]
    assert np.array_equal(rows, np.full((3, 4), value), equal_nan=True) == (part == "image")
    np.testing.assert_array_equal(read_header(case, channels=1).affine, read.affine)


def split_channels(case: Case, *affines: NDArray[np.float64]) -> Case:
    """Write the image of a case as one file a channel."""
    images = []
    for index, affine in enumerate(affines):
        path = case.image.with_name(f"channel_{index}.nii.gz")
        made = nibabel.Nifti1Image(volume(index)[0], affine)  # type: ignore[no-untyped-call]
        path.write_bytes(gzip.compress(made.to_bytes()))
        images.append(path)
    return Case(case.name, tuple(images), case.label)


def test_channels_in_files_of_their_own(case: Case) -> None:
    read = read_volume(split_channels(case, *[np.eye(4)] * 3), channels=3, labels=LABELS)
    for index in range(3):
        np.testing.assert_array_equal(read.image[index], volume(index)[0])


def test_channels_on_different_grids_are_refused(case: Case) -> None:
    moved = np.eye(4)
    moved[0, 3] = 2
    turned = np.eye(4)[[1, 0, 2, 3]]
    for other in (moved, turned):
        wrong = split_channels(case, np.eye(4), other)
        for read in (
            lambda wrong=wrong: read_volume(wrong, channels=2, labels=LABELS),
            lambda wrong=wrong: read_header(wrong, channels=2),
        ):
            with pytest.raises(InputError) as caught:
                read()
            assert refusal(caught).startswith(f"{wrong.images[1]}: found an affine")
    right = split_channels(case, np.eye(4), np.eye(4))
    write_nifti(right.images[1], volume(1, (10, 12, 5))[0])
    with pytest.raises(InputError, match=r"found a channel of shape \(10, 12, 5\)") as caught:
        read_volume(right, channels=2, labels=LABELS)
    assert refusal(caught).startswith(str(right.images[1]))


def test_the_file_of_a_channel_that_is_wrong_is_named(case: Case) -> None:
    wrong = split_channels(case, np.eye(4), np.eye(4))
    write_nifti(wrong.images[1], np.full((10, 12, 4), np.nan))
    with pytest.raises(InputError) as caught:
        read_volume(wrong, channels=2, labels=LABELS)
    start = f"{wrong.images[1]}: found 480 NaN or infinite voxels in channel 1"
    assert refusal(caught).startswith(start)
