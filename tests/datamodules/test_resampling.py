"""Resampling keeps what it must keep, and agrees with PyTorch's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from datamodules.resampling import resample, resample_labels, resampling_matrix

LENGTHS = st.integers(1, 40)
PLANES = st.tuples(LENGTHS, LENGTHS)


@given(LENGTHS, LENGTHS)
def test_weights_are_shares(before: int, after: int) -> None:
    weights = resampling_matrix(before, after)
    assert weights.shape == (after, before)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    if before == after:
        np.testing.assert_array_equal(weights, np.eye(before))
    plain = resampling_matrix(before, after, antialias=False)
    np.testing.assert_allclose(plain.sum(axis=1), 1)
    assert (np.count_nonzero(plain, axis=1) <= 2).all()
    # Nothing is mirrored: the axis from its other end gives the same.
    np.testing.assert_allclose(weights[::-1, ::-1], weights, atol=1e-12)


@given(PLANES, PLANES, st.integers(0, 99))
def test_it_is_what_pytorch_does(
    before: tuple[int, int], after: tuple[int, int], seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(2, *before))
    expected = interpolate(
        torch.from_numpy(values[np.newaxis]),
        size=after,
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    np.testing.assert_allclose(resample(values, after), expected[0].numpy(), atol=1e-9)


@given(PLANES, PLANES, st.floats(-5, 5))
def test_a_constant_stays(before: tuple[int, int], after: tuple[int, int], value: float) -> None:
    np.testing.assert_allclose(resample(np.full(before, value), after), value, atol=1e-12)


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))), PLANES)
def test_labels_stay_labels(label: NDArray[np.uint8], after: tuple[int, int]) -> None:
    found = resample_labels(label, after)
    assert found.dtype == np.uint8
    assert found.shape == after
    assert set(np.unique(found)) <= set(np.unique(label))


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_labels_of_the_same_plane_are_the_same(label: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(resample_labels(label, label.shape), label)


def test_each_pixel_takes_the_label_with_the_largest_share() -> None:
    label = np.array([[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2]], np.uint8)
    np.testing.assert_array_equal(resample_labels(label, (1, 2)), [[1, 2]])
    # An even split goes to the lower label.
    np.testing.assert_array_equal(resample_labels(np.array([[3, 7]], np.uint8), (1, 1)), [[3]])


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 2.0])
def test_a_disc_keeps_its_middle_and_its_area(factor: float) -> None:
    rows, columns = np.ogrid[:80, :90]
    disc = ((rows - 33) ** 2 + (columns - 52) ** 2 < 20**2).astype(np.uint8)
    plane = (round(80 * factor), round(90 * factor))
    found = resample_labels(disc, plane)
    middle = (np.argwhere(found).mean(axis=0) + 0.5) * (80 / plane[0], 90 / plane[1]) - 0.5
    np.testing.assert_allclose(middle, [33, 52], atol=0.25)
    assert found.mean() == pytest.approx(disc.mean(), rel=0.05)
