"""Slices changed at random: the same for whoever draws them, and image, label and valid as one."""

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from datamodules.augmentation import (
    INTENSITY_SHARE,
    ROTATION_DEGREES,
    SCALES,
    SHIFT,
    SPATIAL_SHARE,
    Augmentation,
    Recipe,
)

MAX_PIXEL = 0.2
LABELS = (0, 1, 2, 7, 255)
Slice = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]


def _slice(
    frame: tuple[int, int] = (32, 40),
    shape: tuple[int, int] = (24, 31),
    channels: int = 1,
    seed: int = 0,
) -> Slice:
    """Make a slice at the top left of its frame, which cannot be written to."""
    random = np.random.default_rng(seed)
    valid = np.zeros(frame, dtype=bool)
    valid[: shape[0], : shape[1]] = True
    image = random.uniform(0, MAX_PIXEL, (channels, *frame)).astype(np.float32) * valid
    label = random.choice(LABELS, frame).astype(np.uint8) * valid
    for array in (image, label, valid):
        array.flags.writeable = False
    return image, label, valid


def _changed(recipe: Recipe, given_slice: Slice, *, epoch: int, index: int, seed: int = 0) -> Slice:
    augmentation = Augmentation(recipe, seed=seed, max_pixel=MAX_PIXEL)
    return augmentation(*given_slice, epoch=epoch, index=index)


def _digest(changed: Slice) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in changed)).hexdigest()


def _digests(augmentation: Augmentation, threads: int) -> dict[int, str]:
    """Hash samples, the last first: in a process of its own, where all generators start anew."""
    torch.set_num_threads(threads)
    given_slice = _slice(channels=2)
    return {
        index: _digest(augmentation(*given_slice, epoch=3, index=index))
        for index in reversed(range(40))
    }


def _equal(one: Slice, other: Slice) -> bool:
    return all(np.array_equal(one[part], other[part]) for part in range(3))


def test_another_process_draws_the_same() -> None:
    augmentation = Augmentation("all", seed=5, max_pixel=MAX_PIXEL)
    here = {
        index: _digest(augmentation(*_slice(channels=2), epoch=3, index=index))
        for index in range(40)
    }
    assert len(set(here.values())) > 25
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert pool.submit(_digests, augmentation, 1).result() == here
        assert pool.submit(_digests, augmentation, 2).result() == here


def test_generators_of_others_do_not_matter_and_are_left_alone() -> None:
    from monai.utils.misc import set_determinism  # noqa: PLC0415

    given_slice = _slice()
    seen = set()
    for seed in range(3):
        set_determinism(seed)
        before = repr(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
        seen.add(
            "".join(
                _digest(_changed("all", given_slice, epoch=0, index=index)) for index in range(12)
            )
        )
        after = repr(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
        assert before[0] == after[0]
        assert torch.equal(before[1], after[1])
    set_determinism(None)
    assert len(seen) == 1


def test_seed_epoch_and_index_each_give_other_changes() -> None:
    given_slice = _slice()

    def row(seed: int, epoch: int, first: int) -> str:
        return "".join(
            _digest(_changed("all", given_slice, seed=seed, epoch=epoch, index=index))
            for index in range(first, first + 8)
        )

    rows = [row(*place) for place in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 8), (0, 8, 0))]
    assert len(set(rows)) == len(rows)


@settings(deadline=None)
@given(
    st.sampled_from(get_args(Recipe)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.integers(1, 3),
    st.integers(0, 10**6),
)
def test_what_always_holds(
    recipe: Recipe,
    frame: tuple[int, int],
    share: tuple[float, float],
    channels: int,
    index: int,
) -> None:
    shape = (round(frame[0] * share[0]), round(frame[1] * share[1]))
    given_slice = _slice(frame, shape, channels, seed=index)
    kept = tuple(array.copy() for array in given_slice)
    image, label, valid = _changed(recipe, given_slice, epoch=1, index=index)
    assert _equal(given_slice, kept)  # type: ignore[arg-type]
    assert (image.shape, label.shape, valid.shape) == ((channels, *frame), frame, frame)
    assert [array.dtype.name for array in (image, label, valid)] == ["float32", "uint8", "bool"]
    assert np.isfinite(image).all()
    assert image.min() >= 0
    assert image.max() <= np.float32(MAX_PIXEL)
    assert set(np.unique(label)) <= set(np.unique(given_slice[1])) | {0}
    assert not image[:, ~valid].any()
    assert not label[~valid].any()
    if recipe in {"none", "intensity"}:
        assert np.array_equal(label, given_slice[1])
        assert np.array_equal(valid, given_slice[2])
    if recipe == "none":
        assert np.array_equal(image, given_slice[0])


def test_all_is_spatial_and_then_intensity() -> None:
    given_slice = _slice(channels=2)
    for index in range(40):
        moved = _changed("spatial", given_slice, epoch=0, index=index)
        both = _changed("intensity", moved, epoch=0, index=index)
        assert _equal(_changed("all", given_slice, epoch=0, index=index), both)


def test_shares_of_the_samples_that_are_changed() -> None:
    given_slice = _slice((16, 16), (16, 16))
    shares = {
        recipe: np.mean(
            [
                not np.array_equal(
                    _changed(recipe, given_slice, epoch=0, index=index)[0], given_slice[0]
                )
                for index in range(500)
            ]
        )
        for recipe in get_args(Recipe)
    }
    # Of 500 draws the standard deviation is 0.022 at most.
    quiet = (1 - INTENSITY_SHARE) ** 4
    expected = (0, SPATIAL_SHARE, 1 - quiet, 1 - (1 - SPATIAL_SHARE) * quiet)
    assert list(shares.values()) == pytest.approx(expected, abs=0.08)


FRAME, SHAPE = (60, 80), (40, 50)


def _ramps() -> Slice:
    """Make an image whose channels hold the row and the column of each pixel."""
    valid = np.zeros(FRAME, dtype=bool)
    valid[: SHAPE[0], : SHAPE[1]] = True
    image = np.indices(FRAME).astype(np.float32) * valid
    return image, valid.astype(np.uint8), valid


def _movement(index: int) -> NDArray[np.float64] | None:
    """Find where pixels came from: matrix (2, 3) on (row, column, 1), which ramps give away."""
    ramps = _ramps()
    image, _, valid = Augmentation("spatial", seed=1, max_pixel=100.0)(*ramps, epoch=0, index=index)
    if np.array_equal(image, ramps[0]):
        return None
    inner = ndimage.binary_erosion(valid, iterations=2)
    places = np.column_stack([*np.nonzero(inner), np.ones(inner.sum())])
    solution, *_ = np.linalg.lstsq(places, image[:, inner].T)
    # Interpolation keeps a linear function, so the fit is exact.
    np.testing.assert_allclose(places @ solution, image[:, inner].T, atol=1e-3)
    matrix: NDArray[np.float64] = solution.T
    return matrix


def test_slices_are_turned_scaled_and_shifted_about_their_own_middle() -> None:
    found = [matrix for matrix in map(_movement, range(300)) if matrix is not None]
    linear = np.array([matrix[:, :2] for matrix in found])
    scales = 1 / np.sqrt(np.linalg.det(linear))
    angles = np.rad2deg(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    # Turned and scaled alone: rows at right angles, of equal length, and nothing mirrored.
    squares = np.einsum("nij,nik->njk", linear, linear) * scales[:, np.newaxis, np.newaxis] ** 2
    np.testing.assert_allclose(squares, np.broadcast_to(np.eye(2), squares.shape), atol=1e-3)
    middle = (np.array(SHAPE) - 1) / 2
    shifts = np.array([np.linalg.solve(m[:, :2], middle - m[:, 2]) - middle for m in found]) / SHAPE
    for drawn, low, high in (
        (angles, -ROTATION_DEGREES, ROTATION_DEGREES),
        (scales, *SCALES),
        (shifts[:, 0], -SHIFT, SHIFT),
        (shifts[:, 1], -SHIFT, SHIFT),
    ):
        span = high - low
        assert drawn.min() >= low - 1e-3 * span
        assert drawn.max() <= high + 1e-3 * span
        # Uniform: about 150 draws reach near both ends, and their mean has a deviation of 0.024.
        assert drawn.min() < low + 0.1 * span
        assert drawn.max() > high - 0.1 * span
        assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.1 * span)


def test_image_label_and_valid_move_as_scipy_moves_them() -> None:
    random = np.random.default_rng(3)
    valid = _ramps()[2]
    smooth = ndimage.gaussian_filter(random.random(FRAME), 2)
    blob = ndimage.gaussian_filter(random.random(FRAME), 4)
    label = (blob > np.median(blob)).astype(np.uint8) * valid
    image = (np.stack([smooth, 0.5 * smooth]) * valid).astype(np.float32)
    augmentation = Augmentation("spatial", seed=1, max_pixel=100.0)
    compared = 0
    for index in range(20):
        matrix = _movement(index)
        if matrix is None:
            continue
        moved, moved_label, moved_valid = augmentation(image, label, valid, epoch=0, index=index)
        linear, offset = matrix[:, :2], matrix[:, 2]
        for before, after in ((label, moved_label), (valid.astype(np.uint8), moved_valid)):
            expected = ndimage.affine_transform(
                before, linear, offset, order=0, mode="grid-constant"
            )
            # Where a pixel comes from the middle between two, rounding decides.
            assert np.mean(expected != after) < 0.003
        expected = ndimage.affine_transform(
            image[0].astype(np.float64), linear, offset, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(moved[0], expected * moved_valid, atol=1e-3)
        np.testing.assert_allclose(moved[1], 0.5 * moved[0], atol=1e-6)
        compared += 1
    assert compared >= 5


def test_a_disc_of_image_and_label_stays_one() -> None:
    rows, columns = np.indices((64, 64))
    distance = np.hypot(rows - 20, columns - 30)
    label = (distance < 9).astype(np.uint8)
    image = (MAX_PIXEL * expit(2 * (9 - distance)))[np.newaxis].astype(np.float32)
    valid = np.ones((64, 64), dtype=bool)
    centres = set()
    for index in range(30):
        moved, moved_label, _ = _changed("spatial", (image, label, valid), epoch=0, index=index)
        seen = moved[0] > MAX_PIXEL / 2
        both, either = np.sum(seen & (moved_label > 0)), np.sum(seen | (moved_label > 0))
        assert both / either > 0.9
        centre = ndimage.center_of_mass(moved_label)
        assert ndimage.center_of_mass(seen) == pytest.approx(centre, abs=0.3)
        centres.add((round(centre[0]), round(centre[1])))
    assert len(centres) > 8


def test_smoothing_does_not_darken_the_border_of_a_slice() -> None:
    valid = np.zeros((24, 24), dtype=bool)
    valid[:16, :20] = True
    image = np.where(valid, np.float32(0.1), np.float32(0))[np.newaxis]
    quiet = 0
    for index in range(100):
        values = _changed("intensity", (image, valid.astype(np.uint8), valid), epoch=0, index=index)
        inner, border = values[0][0, 5:11, 5:15], values[0][0, :16, :20]
        if np.ptp(inner) < 1e-6:
            assert np.ptp(border) < 1e-6
            quiet += 1
    # Without noise, which befalls a quarter.
    assert 60 <= quiet <= 90


def test_intensities_stay_about_where_they_are() -> None:
    given_slice = _slice((32, 32), (32, 32))
    means = [
        _changed("intensity", given_slice, epoch=0, index=index)[0].mean() for index in range(300)
    ]
    assert np.mean(means) == pytest.approx(given_slice[0].mean(), rel=0.05)
    assert min(means) > 0.6 * given_slice[0].mean()
    assert max(means) < 1.4 * given_slice[0].mean()


def test_an_unknown_recipe() -> None:
    with pytest.raises(ValueError, match="'mirror', expected one of none, spatial, intensity, all"):
        Augmentation("mirror", seed=0, max_pixel=0.2)  # type: ignore[arg-type]
