"""The grid of slices that settings make of a volume, whatever its axes and spacings are."""

from itertools import permutations, product
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.preprocessing import image_frames
from datamodules.slice_grid import Orientation
from datamodules.slicing import StoreSettings, check_slicing
from errors import InputError
from tests.datamodules.tiny import refusal

SIZE = (128, 128)
SHAPE = (12, 18, 30)
SPACING_MM = (3.0, 0.5, 1.25)  # of the three stored axes, all different
CODES = [*product("RL", "AP", "SI")]


def affine_of(codes: tuple[str, ...]) -> NDArray[np.float64]:
    """Axes that point to ``codes``, with the spacings above, by hand."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (code, spacing) in enumerate(zip(codes, SPACING_MM, strict=True)):
        space = next(index for index, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        affine[space, axis] = spacing if code in "RAS" else -spacing
    affine[:3, 3] = (7, -5, 11)
    return affine


def settings(**options: Any) -> StoreSettings:  # noqa: ANN401
    return StoreSettings(size=SIZE, max_pixel=1.0, **options)


@pytest.mark.parametrize("orientation", ["stored", "canonical"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_plane_has_the_wanted_spacing(axis: int, orientation: Orientation) -> None:
    """Rows and columns are resampled by their own distances, wherever they lie in the file."""
    wanted = (0.75, 2.5)
    for order in permutations(range(3)):
        for signs in CODES:
            codes = tuple(signs[index] for index in order)
            affine = affine_of(codes)
            grid = settings(axis=axis, orientation=orientation, spacing_mm=wanted).grid(
                SHAPE, affine
            )
            lengths = [length * mm for length, mm in zip(SHAPE, SPACING_MM, strict=True)]
            if orientation == "canonical":
                lengths = [lengths[order.index(index)] for index in range(3)]
            rows, columns = (lengths[index] for index in range(3) if index != axis)
            assert grid.plane == (round(rows / wanted[0]), round(columns / wanted[1]))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("codes", [("R", "A", "S"), ("S", "L", "P"), ("P", "I", "R")])
def test_resampled_pixels_lie_where_they_lay_in_space(codes: tuple[str, ...], axis: int) -> None:
    """Each voxel holds its place along one axis of space, which linear resampling keeps."""
    affine, wanted = affine_of(codes), (0.3, 0.45)
    grid = settings(axis=axis, orientation="canonical", spacing_mm=wanted).grid(SHAPE, affine)
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    places = nibabel.affines.apply_affine(affine, voxels)  # type: ignore[no-untyped-call]
    others = [one for one in range(3) if one != axis]
    height, width = grid.plane
    for direction, space in enumerate((*others, axis)):
        there = places[..., space]
        low, high = float(there.min()), float(there.max())
        frames = np.concatenate(list(image_frames(there[np.newaxis], grid, max_pixel=1.0)))
        found = frames[:, 0, :height, :width] * (high - low) + low
        count = found.shape[(1, 2, 0)[direction]]
        half = SPACING_MM[grid.order[direction]] / 2
        edges = np.linspace(low - half, high + half, count + 1)
        # Beyond the outermost centres of voxels nothing is known but their own value.
        line = ((edges[:-1] + edges[1:]) / 2).clip(low, high)
        along = {0: line[:, np.newaxis], 1: line, 2: line[:, np.newaxis, np.newaxis]}
        np.testing.assert_allclose(found, np.broadcast_to(along[direction], found.shape), atol=1e-4)


def test_what_is_as_by_default_changes_no_fingerprint() -> None:
    assert settings().facts() == {"size": SIZE, "max_pixel": 1.0}
    chosen = {"axis": 1, "orientation": "canonical", "spacing_mm": (1.0, 2.0), "larger": "tile"}
    assert settings(**chosen).facts() == {"size": SIZE, "max_pixel": 1.0, **chosen}


def test_an_affine_that_does_not_say_what_is_needed_is_refused() -> None:
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    assert settings().grid(SHAPE, flat).plane == SHAPE[:2]
    with pytest.raises(ValueError, match="flattens"):
        settings(orientation="canonical").grid(SHAPE, flat)
    with pytest.raises(ValueError, match="a spacing of 1 x 0 mm"):
        settings(axis=0, spacing_mm=(1.0, 1.0)).grid(SHAPE, flat)


@pytest.mark.parametrize(
    ("size", "axis", "spacing_mm", "said"),
    [
        ((64, 60), 2, None, "--data.size: found [64, 60]"),
        ((0, 8), 2, None, "--data.size: found [0, 8]"),
        ((8, 8), 3, None, "--data.axis: found 3"),
        ((8, 8), 2, (1.0, -1.0), "--data.spacing_mm: found [1.0, -1.0]"),
        ((8, 8), 2, (float("inf"), 1.0), "--data.spacing_mm: found [inf, 1.0]"),
    ],
)
def test_settings_that_make_no_slices(
    size: tuple[int, int], axis: int, spacing_mm: tuple[float, float] | None, said: str
) -> None:
    check_slicing((8, 16), 0, (0.1, 40.0))
    with pytest.raises(InputError) as caught:
        check_slicing(size, axis, spacing_mm)
    assert refusal(caught).startswith(said)
