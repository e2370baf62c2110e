"""Tests of scaling, cutting and padding."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from datamodules.preprocessing import fitting_size
from tests.datamodules.cutting import image_slices, label_slices

VOLUMES = arrays(
    np.float64,
    array_shapes(min_dims=4, max_dims=4, max_side=5),
    elements=st.floats(-1e6, 1e6, width=32),
).filter(lambda image: all(channel.min() < channel.max() for channel in image))


def test_rows_are_the_first_axis_and_columns_the_second() -> None:
    image = np.arange(2 * 3 * 4, dtype=np.int16).reshape(1, 2, 3, 4)
    slices = image_slices(image, size=(8, 8), max_pixel=23.0)
    assert slices.shape == (4, 1, 8, 8)
    for x in range(2):
        for y in range(3):
            for z in range(4):
                assert slices[z, 0, x, y] == image[0, x, y, z]
    assert not slices[:, :, 2:].any()
    assert not slices[:, :, :, 3:].any()


@given(VOLUMES, st.floats(0.01, 10))
def test_the_formula_voxel_by_voxel(image: NDArray[np.float64], max_pixel: float) -> None:
    slices = image_slices(image, size=(8, 16), max_pixel=max_pixel)
    for channel, x, y, z in np.ndindex(image.shape):
        low, high = image[channel].min(), image[channel].max()
        expected = max_pixel * (image[channel, x, y, z] - low) / (high - low)
        assert slices[z, channel, x, y] == pytest.approx(expected, rel=2e-7, abs=1e-12)


@given(VOLUMES, st.floats(0.01, 10))
def test_the_range_is_met_exactly(image: NDArray[np.float64], max_pixel: float) -> None:
    height, width, _ = image.shape[1:]
    slices = image_slices(image, size=(8, 8), max_pixel=max_pixel)[:, :, :height, :width]
    assert slices.dtype == np.float32
    for channel in range(len(image)):
        assert slices[:, channel].min() == 0
        assert slices[:, channel].max() == np.float32(max_pixel)


@given(arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=7)))
def test_label_slices_are_the_frames(label: NDArray[np.uint8]) -> None:
    height, width, depth = label.shape
    slices = label_slices(label, size=(8, 8))
    assert slices.shape == (depth, 8, 8)
    for frame in range(depth):
        np.testing.assert_array_equal(slices[frame, :height, :width], label[:, :, frame])
    assert int(slices.sum()) == int(label.sum())


@given(st.lists(st.tuples(*[st.integers(1, 100)] * 2), min_size=1))
def test_the_fitting_size_is_the_least(shapes: list[tuple[int, int]]) -> None:
    size = fitting_size(shapes)
    for axis in (0, 1):
        largest = max(shape[axis] for shape in shapes)
        assert size[axis] % 8 == 0
        assert size[axis] - 8 < largest <= size[axis]


@pytest.mark.real
def test_a_real_volume_keeps_its_intensities_up_to_scale(real_data: Path) -> None:
    path = real_data / "Task04_Hippocampus/imagesTr/hippocampus_003.nii.gz"
    voxels = nibabel.load(path).get_fdata()  # type: ignore[attr-defined]
    slices = image_slices(voxels[np.newaxis], size=(64, 64), max_pixel=0.2)
    height, width, depth = voxels.shape
    assert slices.shape == (depth, 1, 64, 64)
    assert (slices.min(), slices.max()) == (0, np.float32(0.2))
    fitted = np.polyfit(voxels.ravel(), np.moveaxis(slices[:, 0, :height, :width], 0, 2).ravel(), 1)
    assert fitted[0] == pytest.approx(0.2 / (voxels.max() - voxels.min()), rel=1e-5)
