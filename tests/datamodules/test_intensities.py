"""Windows and percentiles: what becomes 0, what becomes the brightest, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from datamodules.intensities import IntensityRange, check_intensities
from datamodules.slicing import StoreSettings
from errors import InputError
from tests.datamodules.cutting import image_slices

CT = arrays(np.int16, (1, 3, 4, 2), elements=st.integers(-1024, 3000))


@given(CT, st.floats(-500, 0), st.floats(1, 500))
def test_a_window_is_the_same_for_every_volume(
    image: NDArray[np.int16], low: float, width: float
) -> None:
    window = (low, low + width)
    slices = image_slices(image, size=(8, 8), max_pixel=0.2, intensities=IntensityRange(window))
    for x, y, z in np.ndindex(image.shape[1:]):
        value = min(max(float(image[0, x, y, z]), low), low + width)
        expected = 0.2 * (value - low) / width
        assert slices[z, 0, x, y] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_percentiles_are_those_of_each_channel_and_volume() -> None:
    draw = np.random.default_rng(0)
    image = np.stack([draw.normal(0, 1, (6, 7, 5)), draw.exponential(100, (6, 7, 5))])
    image[1, 2, 3, 4] = 1e6  # one voxel that would rule the range
    slices = image_slices(
        image, size=(8, 8), max_pixel=0.2, intensities=IntensityRange(percentiles=(1, 99))
    )
    for channel in range(2):
        ordered = np.sort(image[channel].ravel())
        places = np.array([0.01, 0.99]) * (ordered.size - 1)
        low, high = np.interp(places, np.arange(ordered.size), ordered)
        scaled = 0.2 * (image[channel].clip(low, high) - low) / (high - low)
        found = np.moveaxis(slices[:, channel, :6, :7], 0, -1)
        np.testing.assert_allclose(found, scaled, rtol=1e-5, atol=1e-8)


def test_percentiles_that_are_one_value_are_refused() -> None:
    image = np.zeros((1, 4, 4, 4))
    image[0, 0, 0, 0] = 1
    wanted = IntensityRange(percentiles=(1, 90))
    with pytest.raises(ValueError, match="channel 0: intensities from 0 to 0"):
        image_slices(image, size=(8, 8), max_pixel=0.2, intensities=wanted)


def test_what_is_not_set_changes_no_fingerprint() -> None:
    plain = StoreSettings((16, 24), 0.2, check_intensities(None, None))
    assert plain.facts() == {"size": (16, 24), "max_pixel": 0.2}
    assert plain == StoreSettings((16, 24), 0.2)
    facts = [
        StoreSettings((16, 24), 0.2, check_intensities((-100.0, 100.0), None)).facts(),
        StoreSettings((16, 24), 0.2, check_intensities(None, (-0.0, 100.0))).facts(),
    ]
    assert facts[0]["window"] == (-100.0, 100.0)
    assert facts[1]["percentiles"] == (0.0, 100.0)


@pytest.mark.parametrize(
    ("window", "percentiles", "words"),
    [
        ((0.0, 1.0), (1.0, 99.0), "--data.window and --data.percentiles: .*both"),
        ((1.0, 1.0), None, r"--data.window: .*\[1.0, 1.0\]"),
        ((240.0, -160.0), None, "the lower one first"),
        ((float("nan"), 1.0), None, "two finite numbers"),
        ((0.0, float("inf")), None, "two finite numbers"),
        (None, (99.0, 1.0), "--data.percentiles"),
        (None, (-1.0, 99.0), "from 0 to 100"),
        (None, (0.0, 101.0), "from 0 to 100"),
        (None, (50.0, 50.0), "the lower one first"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(
    window: tuple[float, float] | None, percentiles: tuple[float, float] | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        check_intensities(window, percentiles)
