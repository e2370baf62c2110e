"""Each kind of corruption against a reference of its own: what it does, and to what."""

import math

import numpy as np
import pytest
import torch
from monai.transforms.intensity.array import KSpaceSpikeNoise
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.stats import norm

from robustness.corruption_kinds import KINDS
from tests.robustness.reference import Slice
from tests.robustness.scans import (
    HIGH,
    batch_of,
    corrupt,
    like,
    one_scan,
    scans,
    smooth_scan,
    spectrum,
)


def test_gaussian_noise_has_the_mean_and_the_deviation_that_are_stated() -> None:
    batch = one_scan(np.full((1, 200, 200), 0.1))
    images = corrupt(batch, "gaussian_noise")
    for image, strength in zip(images, KINDS["gaussian_noise"].strengths, strict=True):
        noise = ((image - batch.image) / (strength * HIGH)).double()
        assert noise.mean() == pytest.approx(0, abs=4 / 200)
        assert noise.std() == pytest.approx(1, abs=4 / 200 / math.sqrt(2))
        assert (noise**4).mean() == pytest.approx(3, abs=0.2)
    first, last = (images[index] - batch.image for index in (0, 4))
    ratio = KINDS["gaussian_noise"].strengths[4] / KINDS["gaussian_noise"].strengths[0]
    torch.testing.assert_close(last, first * ratio, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_rician_noise_has_the_moments_of_its_distribution(low: float) -> None:
    signal = np.zeros((1, 200, 200))
    signal[:, 100:] = 0.02
    batch = one_scan(signal + low)
    image = corrupt(batch, "rician_noise", severities=(5,), low=low, high=low + HIGH)[0]
    sigma = KINDS["rician_noise"].strengths[4] * HIGH
    magnitude = (image[0, 0] - low).double()
    assert magnitude.min() >= 0
    for rows, true in ((magnitude[:100], 0.0), (magnitude[100:], 0.02)):
        expected = true**2 + 2 * sigma**2
        assert (rows**2).mean() == pytest.approx(expected, rel=0.03)
    # Without signal the magnitude is Rayleigh distributed.
    assert magnitude[:100].mean() == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=0.02)


def test_blur_is_a_gaussian_filter_that_mirrors_at_the_edge() -> None:
    scan = smooth_scan()
    images = corrupt(one_scan(scan), "blur")
    for image, sigma in zip(images, KINDS["blur"].strengths, strict=True):
        edges = np.arange(-8, 9) - 0.5
        kernel = np.diff(norm.cdf(edges, scale=sigma))
        expected = correlate1d(scan, kernel, axis=1, mode="reflect")
        expected = correlate1d(expected, kernel, axis=2, mode="reflect")
        np.testing.assert_allclose(image[0], expected, rtol=2e-4)
        # A pixel's width adds a twelfth to the variance.
        width = math.sqrt(sigma**2 + 1 / 12)
        near = gaussian_filter(scan, (0, width, width), mode="reflect")
        np.testing.assert_allclose(image[0], near, atol=1.5e-3)


def test_blur_leaves_a_constant_scan_alone_to_its_edge() -> None:
    batch = one_scan(np.full((1, 9, 7), 0.1))
    for image in corrupt(batch, "blur"):
        torch.testing.assert_close(image, batch.image, rtol=2e-4, atol=0)


@pytest.mark.parametrize("seed", range(6))
def test_ghosting_weakens_every_nth_line_of_k_space_and_nothing_else(seed: int) -> None:
    scan = smooth_scan()
    before = spectrum(scan)
    patterns = []
    images = corrupt(one_scan(scan), "ghosting", seed=seed)
    for image, strength in zip(images, KINDS["ghosting"].strengths, strict=True):
        after = spectrum(image[0])
        weak = np.abs(after / before - 1) > strength / 2
        np.testing.assert_allclose(after, np.where(weak, 1 - strength, 1) * before, atol=2e-6)
        patterns.append(weak)
    assert all(np.array_equal(pattern, patterns[0]) for pattern in patterns)
    weak = patterns[0][0]
    along = 0 if weak.all(axis=1).any() else 1
    lines = weak.all(axis=1 - along)
    assert np.array_equal(weak, np.broadcast_to(np.expand_dims(lines, 1 - along), weak.shape))
    frequency = np.rint(np.fft.fftfreq(len(lines)) * len(lines)).astype(int)
    period = np.abs(frequency[lines]).min()
    assert period in {3, 4, 5, 6}
    assert np.array_equal(lines, (frequency % period == 0) & (frequency != 0))


def test_ghosts_lie_on_both_axes_at_several_distances() -> None:
    scan = smooth_scan(1)
    slices = [Slice(f"case_{number}", 0, *like(scan)) for number in range(60)]
    image = corrupt(batch_of(slices), "ghosting", severities=(5,))[0]
    seen = set()
    for one in image:
        weak = np.abs(spectrum(one[0]) / spectrum(scan[0])) < 0.5
        rows = bool(weak.all(axis=1).any())
        seen.add((rows, int(weak.all(axis=int(rows)).argmax())))
    assert seen == {(rows, period) for rows in (True, False) for period in (3, 4, 5, 6)}


def test_a_bias_field_is_a_polynomial_of_degree_three_without_a_constant() -> None:
    height, width = 21, 33
    scan = np.full((2, height, width), 0.1)
    rows, columns = np.meshgrid(
        np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"
    )
    powers = [(i, j) for i in range(4) for j in range(4 - i)]
    basis = np.stack([(rows**i * columns**j).ravel() for i, j in powers], axis=1)
    for seed in range(5):
        images = corrupt(one_scan(scan), "bias_field", seed=seed)
        for image, strength in zip(images, KINDS["bias_field"].strengths, strict=True):
            field = np.log(image[0].double().numpy() / 0.1)
            np.testing.assert_array_equal(field[0], field[1])
            assert np.abs(field).max() == pytest.approx(strength, rel=1e-5)
            fitted, *_ = np.linalg.lstsq(basis, field[0].ravel(), rcond=None)
            np.testing.assert_allclose(basis @ fitted, field[0].ravel(), atol=1e-6)
            # Neither axis alone explains the field, nor a polynomial of a lower degree.
            assert min(field[0].std(axis=0).max(), field[0].std(axis=1).max()) > 0.01 * strength
            # The constant of a sum of Legendre polynomials is its mean over the square.
            gauss, weights = np.polynomial.legendre.leggauss(8)
            mean = sum(
                fitted[place] * (weights @ gauss**i) * (weights @ gauss**j) / 4
                for place, (i, j) in enumerate(powers)
            )
            assert mean == pytest.approx(0, abs=1e-6)


def test_a_bias_field_multiplies_the_signal_above_low() -> None:
    scan = smooth_scan(1)
    shifted = corrupt(one_scan(scan - 5), "bias_field", low=-5.0, high=-5.0 + HIGH)
    for image, other in zip(corrupt(one_scan(scan), "bias_field"), shifted, strict=True):
        torch.testing.assert_close(other + 5, image, rtol=0, atol=3e-6)


@pytest.mark.parametrize("seed", range(8))
def test_a_spike_is_one_point_of_k_space_and_its_mirror(seed: int) -> None:
    scan = smooth_scan()
    pixels = scan[0].size
    images = corrupt(one_scan(scan), "spike", seed=seed)
    places = []
    for image, strength in zip(images, KINDS["spike"].strengths, strict=True):
        change = np.abs(spectrum(image[0]) - spectrum(scan)) / pixels
        found = np.argwhere(change > 1e-4 * strength)
        places.append(found.tolist())
        rows, columns = found[found[:, 0] == 0][:, 1:].T
        assert (rows.sum() % 20, columns.sum() % 26) == (0, 0) or len(rows) == 1
        assert len(rows) in {1, 2}
        assert (0, 0) not in set(zip(rows.tolist(), columns.tolist(), strict=True))
        for channel in change:
            assert channel[rows, columns].sum() == pytest.approx(strength * HIGH, rel=1e-3)
    assert all(place == places[0] for place in places)


@pytest.mark.parametrize("seed", range(4))
def test_a_spike_is_that_of_monai(seed: int) -> None:
    """MONAI is told where and how bright; what comes out is the same."""
    scan = smooth_scan()
    batch = one_scan(scan)
    (image,) = corrupt(batch, "spike", severities=(5,), seed=seed)
    before = np.fft.fftshift(spectrum(scan), axes=(1, 2))
    change = np.abs(np.fft.fftshift(spectrum(image[0]), axes=(1, 2)) - before)[0]
    added = KINDS["spike"].strengths[4] * HIGH * change.size
    row, column = np.argwhere(change > change.max() / 2)[0].tolist()
    places = tuple((channel, row, column) for channel in range(len(scan)))
    brighter = np.log(np.abs(before[:, row, column]) + added).tolist()
    expected = KSpaceSpikeNoise(places, brighter)(batch.image[0].double())
    np.testing.assert_allclose(image[0], expected, atol=1e-6)


def test_gamma_is_a_power_of_the_place_in_the_range() -> None:
    values = np.linspace(-0.02, 0.22, 30, dtype=np.float32).reshape(1, 5, 6)
    images = corrupt(one_scan(values), "gamma")
    for image, exponent in zip(images, KINDS["gamma"].strengths, strict=True):
        place = values.astype(np.float64) / HIGH
        expected = HIGH * np.sign(place) * np.abs(place) ** exponent
        np.testing.assert_allclose(image[0], expected, rtol=1e-5)
    for image in corrupt(one_scan(np.array([[[-1.0, 3.0]]])), "gamma", low=-1.0, high=3.0):
        assert image.flatten().tolist() == [-1.0, 3.0]


def test_low_resolution_is_the_mean_over_larger_pixels_on_the_old_grid() -> None:
    height, width = 20, 26
    scan = smooth_scan(1, height, width)
    image = corrupt(one_scan(scan), "low_resolution", severities=(3,))[0]
    assert KINDS["low_resolution"].strengths[2] == 2.0
    coarse = scan[0].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    fine = [(np.arange(side) + 0.5) / 2 - 0.5 for side in (height, width)]
    rows = np.stack([np.interp(fine[0], np.arange(height // 2), line) for line in coarse.T]).T
    expected = np.stack([np.interp(fine[1], np.arange(width // 2), line) for line in rows])
    np.testing.assert_allclose(image[0, 0], expected, atol=1e-7)


def test_a_shift_adds_a_share_of_the_range() -> None:
    batch = batch_of(scans(2))
    images = corrupt(batch, "intensity_shift", low=-1.0, high=3.0)
    for image, share in zip(images, KINDS["intensity_shift"].strengths, strict=True):
        expected = torch.where(batch.valid, batch.image + share * 4, batch.image)
        torch.testing.assert_close(image, expected)


@pytest.mark.parametrize("seed", range(5))
def test_occlusion_is_one_box_that_grows_about_its_centre(seed: int) -> None:
    height, width = 40, 30
    batch = one_scan(np.full((2, height, width), 0.1))
    covered = np.zeros((height, width), dtype=bool)
    for image, share in zip(
        corrupt(batch, "occlusion", seed=seed, low=-0.05, high=0.15),
        KINDS["occlusion"].strengths,
        strict=True,
    ):
        found = image[0].numpy()
        box: np.ndarray = np.asarray((found != np.float32(0.1)).all(axis=0))
        assert set(found[:, box].ravel().tolist()) == {np.float32(-0.05)}
        rows, columns = np.flatnonzero(box.any(axis=1)), np.flatnonzero(box.any(axis=0))
        assert (len(rows), len(columns)) == (round(share * height), round(share * width))
        assert box.sum() == len(rows) * len(columns)
        assert (box | covered).sum() == box.sum()
        covered = box
