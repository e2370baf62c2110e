"""Scores of volumes against a count of voxels and against distances from every surface voxel."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import distance

from lightning_module.volume_scores import volume_scores

SPACING = (0.5, 1.5, 3.0)
Mask = NDArray[np.bool_]


def blob(seed: int) -> Mask:
    """A lump with a rough border."""
    draw = np.random.default_rng(seed)
    grid = np.indices((14, 16, 9))
    middle = np.array([7.0, 8.0, 4.0]) + draw.uniform(-1, 1, 3)
    far = ((grid - middle[:, None, None, None]) ** 2).sum(axis=0)
    mask: Mask = far + draw.normal(0, 3, far.shape) < 14
    return mask


def surface(mask: Mask) -> NDArray[np.float64]:
    """Places in mm of the voxels of a mask that have a face outside."""
    inside = ndimage.binary_erosion(mask)
    places: NDArray[np.float64] = np.argwhere(mask & ~inside) * np.array(SPACING)
    return places


@pytest.mark.parametrize("seed", range(4))
def test_overlap_and_distances_are_those_of_all_pairs(seed: int) -> None:
    predicted, truth = blob(seed), blob(seed + 10)
    found = volume_scores(predicted, truth, SPACING, tolerance_mm=1.6)
    hits, wrong = int((predicted & truth).sum()), int((predicted ^ truth).sum())
    assert found.dice == pytest.approx(2 * hits / (2 * hits + wrong))
    assert found.true_ml == pytest.approx(truth.sum() * 0.5 * 1.5 * 3.0 / 1000)
    assert found.predicted_ml == pytest.approx(predicted.sum() * 0.5 * 1.5 * 3.0 / 1000)
    pairs = distance.cdist(surface(predicted), surface(truth))
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    expected = max(np.percentile(there, 95), np.percentile(back, 95))
    assert found.hd95_mm == pytest.approx(float(expected), rel=1e-5)
    near = (there <= 1.6).sum() + (back <= 1.6).sum()
    assert found.nsd == pytest.approx(near / (len(there) + len(back)), rel=1e-5)


def test_a_perfect_prediction() -> None:
    truth = blob(0)
    found = volume_scores(truth, truth, SPACING)
    assert (found.dice, found.hd95_mm, found.nsd) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (True, False, (0.0, math.nan, 0.0)),
        (False, True, (0.0, math.nan, 0.0)),
        (False, False, (math.nan, math.nan, math.nan)),
    ],
)
def test_what_is_not_there_has_no_surface(
    predicted: bool, truth: bool, expected: tuple[float, float, float]
) -> None:
    lump, nothing = blob(0), np.zeros((14, 16, 9), dtype=bool)
    found = volume_scores(lump if predicted else nothing, lump if truth else nothing, SPACING)
    np.testing.assert_array_equal((found.dice, found.hd95_mm, found.nsd), expected)


def test_where_a_lump_lies_does_not_matter() -> None:
    """The frame of a volume is no border of what fills it, and cutting to the lump changes none."""
    predicted, truth = blob(1), blob(2)
    wide, wider = (np.pad(mask, ((5, 0), (0, 7), (3, 9))) for mask in (predicted, truth))
    assert volume_scores(wide, wider, SPACING) == volume_scores(predicted, truth, SPACING)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected that of the truth"):
        volume_scores(blob(0), blob(0)[1:], SPACING)
