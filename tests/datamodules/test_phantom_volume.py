"""Tests of a made-up volume: its anatomy, its scanner, its seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, label, sobel

from datamodules.phantom_volume import make_volume

Made = tuple[NDArray[np.float32], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def volumes() -> list[Made]:
    return [make_volume(np.random.default_rng([5, index]), 2) for index in range(12)]


def _relative(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scale to the middle 98 % of the intensities, so that volumes can be compared."""
    low, high = np.percentile(image, [1, 99]).tolist()
    return np.asarray((image.astype(np.float64) - low) / (high - low))


@settings(max_examples=8)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_size_and_labels(seed: int, classes: int) -> None:
    image, labels = make_volume(np.random.default_rng(seed), classes)
    assert image.shape == labels.shape
    for length, least, most in zip(image.shape, (31, 40, 24), (43, 59, 47), strict=True):
        assert least <= length <= most
    assert image.dtype == np.float32
    assert labels.dtype == np.uint8
    assert np.isfinite(image).all()
    assert np.array_equal(image, np.rint(image))
    assert set(np.unique(labels)) == set(range(classes + 1))


def test_the_same_seed_gives_the_same_bits() -> None:
    first, second, other = (make_volume(np.random.default_rng(seed), 2) for seed in (3, 3, 4))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()
    assert first[0].tobytes() != other[0].tobytes()


def test_the_structure_fills_as_much_as_a_hippocampus(volumes: list[Made]) -> None:
    shares = [float((labels > 0).mean()) for _, labels in volumes]
    assert min(shares) > 0.03
    assert max(shares) < 0.075
    empty = np.concatenate([(labels > 0).sum((0, 1)) == 0 for _, labels in volumes])
    assert 0.2 < empty.mean() < 0.38


def test_parts_touch_and_each_is_a_large_share(volumes: list[Made]) -> None:
    for _, labels in volumes:
        front, behind = labels == 1, labels == 2
        assert 0.25 < front.sum() / (labels > 0).sum() < 0.75
        assert (binary_dilation(front) & behind).sum() > 20


def test_the_structure_is_one_bent_piece(volumes: list[Made]) -> None:
    for _, labels in volumes:
        pieces, count = label(labels > 0)
        largest = np.bincount(pieces.ravel())[1:].max() if count else 0
        assert largest > 0.97 * (labels > 0).sum()
        # A straight rod of the same ends would hold the middle of the line between its parts.
        assert np.ptp(np.argwhere(labels > 0), axis=0).min() > 12


def test_neighbours_look_alike(volumes: list[Made]) -> None:
    """Many voxels outside have the intensities of those inside: a threshold finds nothing."""
    for image, labels in volumes:
        inside = labels > 0
        low, high = np.percentile(image[inside], [10, 90])
        chosen = (image >= low) & (image <= high)
        overlap = 2 * (chosen & inside).sum() / (chosen.sum() + inside.sum())
        assert overlap < 0.45


def test_most_of_the_surface_shows_an_edge(volumes: list[Made]) -> None:
    """What cannot be seen cannot be learned: gradients are larger at the surface than inside."""
    at_surface, deep = [], []
    for image, labels in volumes:
        relative, inside = _relative(image), labels > 0
        steep = np.sqrt(sum(np.square(sobel(relative, axis)) for axis in range(3)))
        surface = binary_dilation(inside) & ~binary_erosion(inside)
        at_surface.append(steep[surface].mean())
        deep.append(steep[binary_erosion(inside, iterations=2)].mean())
    assert np.mean(at_surface) > 1.4 * np.mean(deep)


def test_intensities_differ_between_volumes(volumes: list[Made]) -> None:
    largest = [float(image.max()) for image, _ in volumes]
    assert max(largest) > 20 * min(largest)
    inside = [
        float(((image - image.min()) / (image.max() - image.min()))[labels > 0].mean())
        for image, labels in volumes
    ]
    assert max(inside) > 1.4 * min(inside)
