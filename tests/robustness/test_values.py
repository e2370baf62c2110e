"""Values of pixels against loops and numpy, and replacing pixels against a plain loop."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustness.values import (
    DRAWN_VALUES,
    directed,
    local_median,
    replace_entries,
    replace_pixels,
)


@given(
    st.lists(st.integers(0, 11), unique=True, min_size=1, max_size=12),
    st.lists(st.floats(-5, 5, width=32), min_size=12, max_size=12),
    st.booleans(),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_replacing_pixels_is_a_plain_loop(
    pixels: list[int], values: list[float], one_for_all: bool, layout: torch.memory_format
) -> None:
    clean = torch.arange(48.0).reshape(2, 2, 3, 4)
    image = clean.clone(memory_format=layout)
    drawn = [values[0 if one_for_all else rank] for rank in range(len(pixels))]
    expected = clean.clone()
    for pixel, value in zip(pixels, drawn, strict=True):
        expected[:, :, pixel // 4, pixel % 4] = value
    given_values = values[0] if one_for_all else torch.tensor([drawn] * 2)
    assert torch.equal(replace_pixels(image, torch.tensor([pixels] * 2), given_values), expected)
    assert torch.equal(image, clean)


@given(
    st.lists(st.integers(0, 23), unique=True, min_size=1, max_size=24),
    st.lists(st.floats(-5, 5, width=32), min_size=24, max_size=24),
    st.booleans(),
)
def test_replacing_entries_is_a_plain_loop(
    entries: list[int], values: list[float], one_for_all: bool
) -> None:
    image = torch.arange(48.0).reshape(2, 2, 3, 4)
    drawn = [values[0 if one_for_all else rank] for rank in range(len(entries))]
    expected = image.clone()
    for entry, value in zip(entries, drawn, strict=True):
        expected[:, entry // 12, entry % 12 // 4, entry % 4] = value
    given_values = values[0] if one_for_all else torch.tensor([drawn] * 2)
    assert torch.equal(replace_entries(image, torch.tensor([entries] * 2), given_values), expected)
    assert torch.equal(image, torch.arange(48.0).reshape(2, 2, 3, 4))


def test_each_channel_may_have_a_value_of_its_own() -> None:
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    replaced = replace_pixels(torch.zeros(1, 2, 2, 2), torch.tensor([[3, 0]]), values)
    assert replaced.flatten(2).tolist() == [[[2.0, 0.0, 0.0, 1.0], [4.0, 0.0, 0.0, 3.0]]]


@given(
    st.lists(st.floats(-1, 2, width=32), min_size=8, max_size=8),
    st.lists(st.sampled_from([-3.0, -1e-30, -0.0, 0.0, 1e-30, 2.0]), min_size=8, max_size=8),
)
def test_directed_values_are_the_end_that_the_sign_points_to(
    image: list[float], gradient: list[float]
) -> None:
    shape = (1, 2, 2, 2)
    found = directed(
        torch.tensor(image).reshape(shape), torch.tensor(gradient).reshape(shape), 0, 1
    )
    for pixel, slope, value in zip(image, gradient, found.flatten().tolist(), strict=True):
        if slope:
            assert value == (1.0 if slope > 0 else 0.0)
        else:
            assert abs(value - pixel) >= abs(1 - value - pixel)
            assert value == 1.0 or pixel > 0.5


@pytest.mark.parametrize("window", [3, 5])
def test_the_local_median_is_numpys_over_the_neighbours(window: int) -> None:
    draw = np.random.default_rng(window)
    image = draw.random((2, 2, 5, 6), dtype=np.float32)
    among = draw.random((2, 1, 5, 6)) < 0.6
    among[1] = False
    among[1, 0, 0, 0] = True
    found = local_median(torch.from_numpy(image), torch.from_numpy(among), window).numpy()
    reach = window // 2
    for one, channel, row, column in np.ndindex(image.shape):
        near = [
            image[one, channel, other_row, other_column]
            for other_row in range(max(row - reach, 0), min(row + reach + 1, 5))
            for other_column in range(max(column - reach, 0), min(column + reach + 1, 6))
            if (other_row, other_column) != (row, column) and among[one, 0, other_row, other_column]
        ]
        expected = np.median(near) if near else image[one, channel, row, column]
        assert found[one, channel, row, column] == pytest.approx(expected, abs=1e-7)


def test_a_single_bright_pixel_becomes_as_dark_as_its_surroundings() -> None:
    image = torch.full((1, 1, 5, 5), 0.25)
    image[0, 0, 2, 2] = 9.0
    everywhere = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    assert torch.equal(local_median(image, everywhere, 3), torch.full((1, 1, 5, 5), 0.25))


def test_drawn_values_reach_both_ends_evenly() -> None:
    drawn = torch.arange(4) / 4
    assert DRAWN_VALUES["uniform"](drawn, 2.0, 4.0).tolist() == [2.0, 2.5, 3.0, 3.5]
    assert DRAWN_VALUES["salt_and_pepper"](drawn, 2.0, 4.0).tolist() == [2.0, 2.0, 4.0, 4.0]
