"""Slices lie where they should in their volume, and come back to it."""

from itertools import permutations

import nibabel
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from datamodules.slice_grid import Larger, SliceGrid, axes_of_slices, resampled_plane
from tests.datamodules.cutting import image_slices, label_slices

SIZES = st.tuples(*[st.integers(1, 3).map(lambda times: 8 * times)] * 2)
DTYPES = st.sampled_from([np.uint8, np.int16, np.float32, np.float64, np.bool_])
AXES = st.permutations((0, 1, 2)).map(lambda axes: (axes[0], axes[1], axes[2]))
TURNS = st.tuples(st.booleans(), st.booleans(), st.booleans())


def cut_volume(volume: NDArray[np.generic], grid: SliceGrid) -> NDArray[np.generic]:
    """All slices of a volume ``(C, X, Y, Z)``."""
    return np.concatenate([grid.cut(grid.frame(volume, index)) for index in range(grid.depth)])


@given(st.data(), array_shapes(min_dims=3, max_dims=3, max_side=8), SIZES)
def test_a_label_map_comes_back(
    data: st.DataObject, shape: tuple[int, int, int], size: tuple[int, int]
) -> None:
    label = data.draw(arrays(np.uint8, shape))
    back = SliceGrid(shape, size).volume(label_slices(label, size=size)[:, np.newaxis])
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, label)


@given(st.data(), array_shapes(min_dims=4, max_dims=4, max_side=8), SIZES)
def test_a_scaled_image_comes_back(
    data: st.DataObject, shape: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    assume(np.prod(shape[1:]) > 1)
    image = data.draw(arrays(np.int16, shape, elements=st.integers(-99, 99)))
    image[:, 0, 0, 0], image[:, -1, -1, -1] = -100, 100
    back = SliceGrid(shape[1:], size).volume(image_slices(image, size=size, max_pixel=0.2))
    scaled = (0.2 * ((image + 100.0) / 200.0)).astype(np.float32)
    expected = scaled[0] if len(image) == 1 else np.moveaxis(scaled, 0, -1)
    np.testing.assert_array_equal(back, expected)


@given(st.data(), array_shapes(min_dims=4, max_dims=4, max_side=6), DTYPES, SIZES)
def test_any_values_lie_where_they_lay(
    data: st.DataObject,
    shape: tuple[int, int, int, int],
    dtype: type[np.generic],
    size: tuple[int, int],
) -> None:
    """A volume with channels, cut here by indices alone; what is in the padding is not kept."""
    volume = data.draw(arrays(dtype, shape))
    width, height, depth, channels = shape
    slices = np.ones((depth, channels, *size), dtype)
    for x, y, z, channel in np.ndindex(shape):
        slices[z, channel, x, y] = volume[x, y, z, channel]
    back = SliceGrid((width, height, depth), size).volume(slices)
    assert back.dtype == dtype
    assert back.shape == (shape if channels > 1 else shape[:3])
    np.testing.assert_array_equal(back.reshape(shape), volume)


@given(st.data(), array_shapes(min_dims=4, max_dims=4, max_side=20), AXES, TURNS)
def test_tiles_along_any_axis_come_back(
    data: st.DataObject,
    shape: tuple[int, int, int, int],
    order: tuple[int, int, int],
    backwards: tuple[bool, bool, bool],
) -> None:
    volume = data.draw(arrays(np.uint8, shape))
    grid = SliceGrid(shape[1:], (8, 8), order, backwards, larger="tile")
    slices = cut_volume(volume, grid)
    assert slices.shape == (grid.slices, shape[0], 8, 8)
    back = grid.volume(slices)
    np.testing.assert_array_equal(
        back if shape[0] > 1 else back[..., np.newaxis], np.moveaxis(volume, 0, -1)
    )
    # Each pixel lies in exactly one slice: nothing is counted twice.
    assert int(grid.slice_shapes.prod(axis=1).sum()) == np.prod(shape[1:])


@given(
    array_shapes(min_dims=3, max_dims=3, max_side=20),
    AXES,
    TURNS,
    st.sampled_from(["tile", "crop"]),
)
def test_a_voxel_is_found_in_its_slice(
    shape: tuple[int, int, int],
    order: tuple[int, int, int],
    backwards: tuple[bool, bool, bool],
    larger: Larger,
) -> None:
    numbered = np.arange(1, np.prod(shape) + 1, dtype=np.int64).reshape(shape)
    grid = SliceGrid(shape, (8, 8), order, backwards, larger=larger)
    slices = cut_volume(numbered[np.newaxis], grid)
    for voxel in np.ndindex(shape):
        place = grid.locate(voxel)
        if place is None:
            assert numbered[voxel] not in slices
        else:
            index, row, column = place
            assert slices[index, 0, row, column] == numbered[voxel]
            height, width = grid.slice_shapes[index]
            assert row < height
            assert column < width


def test_cropping_keeps_the_middle_and_leaves_zeros_around_it() -> None:
    volume = np.ones((1, 12, 6, 2), np.uint8)
    grid = SliceGrid((12, 6, 2), (8, 8), larger="crop")
    back = grid.volume(cut_volume(volume, grid))
    assert grid.slices == 2
    np.testing.assert_array_equal(back[2:10], 1)
    assert not back[:2].any()
    assert not back[10:].any()


def test_tiles_are_the_least_number_of_equal_pieces() -> None:
    grid = SliceGrid((17, 8, 3), (8, 8), larger="tile")
    assert [window.shape for window in grid.windows] == [(5, 8), (6, 8), (6, 8)]
    assert grid.slices == 9


def test_what_is_larger_does_not_fit_unless_it_is_cut() -> None:
    assert not SliceGrid((9, 8, 3), (8, 8)).fits
    assert SliceGrid((8, 8, 3), (8, 8)).fits
    assert SliceGrid((9, 8, 3), (8, 8), larger="tile").fits
    # Along another axis the depth may be as long as it likes.
    assert SliceGrid((9, 8, 3), (8, 8), order=(1, 2, 0)).fits


@given(st.integers(9, 40), st.integers(9, 40), st.integers(1, 3))
def test_resampled_slices_come_back_to_the_voxels(height: int, width: int, depth: int) -> None:
    ramp = np.linspace(0, 1, height)[:, np.newaxis, np.newaxis] * np.ones((1, width, depth))
    plane = resampled_plane((height, width), (1.0, 1.0), (0.5, 0.5))
    grid = SliceGrid((height, width, depth), (80, 80), plane=plane)
    assert grid.plane == (2 * height, 2 * width)
    assert grid.is_resampled
    slices = np.zeros((depth, 1, 80, 80))
    slices[:, 0, : plane[0]] = (np.linspace(0, 1, 2 * height))[:, np.newaxis]
    back = grid.volume(slices)
    assert back.shape == ramp.shape
    assert np.abs(back - ramp).max() < 1 / height


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 6)])
def test_slices_of_another_volume_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="slices have shape"):
        SliceGrid(shape, (8, 8)).volume(np.zeros((5, 1, 8, 8)))
    with pytest.raises(ValueError, match="slices have shape"):
        SliceGrid((3, 4, 5), (8, 16)).volume(np.zeros((5, 1, 8, 8)))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "codes", [("L", "P", "S"), ("A", "R", "I"), ("I", "L", "A"), ("R", "A", "S")]
)
def test_canonical_axes_are_those_of_nibabel(codes: tuple[str, str, str], axis: int) -> None:
    voxels = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.int16)
    affine = nibabel.orientations.inv_ornt_aff(  # type: ignore[no-untyped-call]
        nibabel.orientations.axcodes2ornt(tuple(codes)),  # type: ignore[no-untyped-call]
        voxels.shape,
    )
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels, np.linalg.inv(affine)))  # type: ignore[no-untyped-call]
    expected = np.moveaxis(np.asanyarray(canonical.dataobj), axis, -1)
    order, backwards = axes_of_slices(np.linalg.inv(affine), axis=axis, orientation="canonical")
    grid = SliceGrid((4, 5, 6), (8, 8), order, backwards)
    frames = np.stack([grid.frame(voxels, index) for index in range(grid.depth)], axis=-1)
    np.testing.assert_array_equal(frames, expected)


def test_stored_axes_stay_in_order() -> None:
    found = {axes_of_slices(np.eye(4), axis=axis, orientation="stored") for axis in (0, 1, 2)}
    assert found == {(order, (False,) * 3) for order in [(1, 2, 0), (0, 2, 1), (0, 1, 2)]}
    assert {order for order, _ in found} < set(permutations((0, 1, 2)))


def test_an_affine_without_directions_has_no_canonical_axes() -> None:
    for broken in (np.zeros((4, 4)), np.full((4, 4), np.nan)):
        with pytest.raises(ValueError, match="affine"):
            axes_of_slices(broken, axis=2, orientation="canonical")
        assert axes_of_slices(broken, axis=2, orientation="stored")


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_a_spacing_that_is_none_is_refused(wrong: float) -> None:
    for spacing in ((1.0, wrong), (wrong, 1.0), (wrong, wrong)):
        with pytest.raises(ValueError, match="spacing"):
            resampled_plane((8, 8), spacing, (1.0, 1.0))
