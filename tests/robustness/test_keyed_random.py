"""Keyed random numbers: the published generator, in plain integers, and their statistics."""

import hashlib
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustness.keyed_random import (
    absorb,
    counter_hashes,
    opposites,
    slice_keys,
    text_key,
    uniforms,
)
from tests.robustness.reference import WORD, chained, split_mix, word_of

SIGNED = st.integers(-(2**63), 2**63 - 1)
# The first outputs of SplitMix64 from the seed 1234567, as generally published.
PUBLISHED = (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431)
GOLDEN = 0x9E3779B97F4A7C15
AXES = ("seed", "attack", "case", "slice", "repeat", "rank")


def _unsigned(values: torch.Tensor) -> list[int]:
    return [value & WORD for value in values.flatten().tolist()]


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def test_the_finaliser_gives_the_published_numbers() -> None:
    states = [(1234567 + step * GOLDEN) & WORD for step in range(4)]
    assert tuple(split_mix(state) for state in states) == PUBLISHED
    signed = torch.tensor([_signed(state) for state in states])
    assert tuple(_unsigned(absorb(signed, 0))) == PUBLISHED


@given(SIGNED, SIGNED)
def test_absorbing_is_a_step_of_split_mix(state: int, value: int) -> None:
    expected = [split_mix((state ^ value) & WORD)]
    assert _unsigned(absorb(torch.tensor([state]), value)) == expected
    assert _unsigned(absorb(torch.tensor([state]), torch.tensor([value]))) == expected


@given(st.integers(2**63, 2**70))
def test_numbers_beyond_63_bits_are_absorbed_by_their_lowest_64(value: int) -> None:
    assert _unsigned(absorb(torch.tensor([5]), value)) == [split_mix(5 ^ (value & WORD))]


def test_absorbing_maps_different_states_to_different_ones() -> None:
    hashes = absorb(torch.arange(100_000), 7)
    assert len(set(hashes.tolist())) == 100_000


@given(st.text(max_size=20))
def test_the_key_of_a_name_is_its_blake2b(text: str) -> None:
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    key = text_key(text)
    assert key & WORD == int.from_bytes(digest, "little") == word_of(text)
    assert -(2**63) <= key < 2**63


def test_keys_are_the_same_on_every_machine() -> None:
    """`b2sum -l 64` prints e4a6a0577479b2b4 for nothing and 00894e69d700b437 for the name."""
    assert text_key("") == -5426141060434712860
    assert text_key("hippocampus_001") == 4013834093078677760


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=8),
    st.text(max_size=8),
    st.integers(0, 500),
    st.integers(0, 99),
)
def test_hashes_are_the_chain_of_their_counters(
    seed: int, name: str, case: str, index: int, repeat: int
) -> None:
    keys = slice_keys(seed, name, torch.tensor([text_key(case)]), torch.tensor([index]))
    found = _unsigned(counter_hashes(keys, repeat, 4))
    expected = [
        chained((seed, word_of(name), word_of(case), index, repeat, rank)) for rank in range(4)
    ]
    assert found == expected


@given(st.integers(0, 2**40), st.integers(1, 40), st.integers(0, 20))
def test_a_column_does_not_depend_on_how_many_are_drawn(key: int, count: int, more: int) -> None:
    keys = torch.tensor([key, key + 1])
    drawn = counter_hashes(keys, 3, count)
    assert drawn.shape == (2, count)
    assert torch.equal(drawn, counter_hashes(keys, 3, count + more)[:, :count])


@given(st.lists(SIGNED, min_size=1, max_size=20))
def test_uniforms_are_the_top_24_bits(hashes: list[int]) -> None:
    found = uniforms(torch.tensor(hashes))
    assert found.dtype == torch.float32
    assert found.tolist() == [((value & WORD) >> 40) / 2**24 for value in hashes]


def test_uniforms_reach_0_and_stay_below_1() -> None:
    ends = uniforms(torch.tensor([0, -1]))
    assert ends.tolist() == [0.0, 1 - 2**-24]


@given(st.lists(SIGNED, min_size=1, max_size=20))
def test_opposites_are_as_far_from_the_other_end(hashes: list[int]) -> None:
    drawn = uniforms(torch.tensor(hashes))
    found = opposites(drawn)
    assert found.dtype == torch.float32
    assert found.tolist() == [1 - 2**-24 - value for value in drawn.tolist()]
    assert ((found >= 0) & (found < 1)).all()
    assert torch.equal(opposites(found), drawn)


@pytest.fixture(scope="module")
def cube() -> np.ndarray:
    """Numbers of neighbouring seeds, attacks, cases, slices, repeats and ranks."""
    shape = (3, 4, 5, 8, 6, 64)
    found = np.empty(shape)
    for seed, attack, case in product(range(3), range(4), range(5)):
        case_keys = torch.full((8,), text_key(f"hippocampus_{case:03d}"))
        keys = slice_keys(seed, f"attack_{attack}/values", case_keys, torch.arange(8))
        for repeat in range(6):
            drawn = uniforms(counter_hashes(keys, repeat, 64))
            found[seed, attack, case, :, repeat] = drawn.numpy()
    return found


def test_all_numbers_together_are_uniform(cube: np.ndarray) -> None:
    assert stats.kstest(cube.ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("axis", range(6), ids=AXES)
def test_numbers_at_each_place_of_an_axis_are_uniform(cube: np.ndarray, axis: int) -> None:
    lines = np.moveaxis(cube, axis, 0).reshape(cube.shape[axis], -1)
    smallest = min(stats.kstest(line, "uniform").pvalue for line in lines)
    assert smallest > 1e-3 / len(lines)


@pytest.mark.parametrize("axis", range(6), ids=AXES)
def test_neighbours_are_not_correlated(cube: np.ndarray, axis: int) -> None:
    lines = np.moveaxis(cube, axis, 0)
    assert stats.pearsonr(lines[:-1].ravel(), lines[1:].ravel()).pvalue > 1e-3


@pytest.mark.parametrize("axis", range(6), ids=AXES)
def test_pairs_of_neighbours_fill_the_square(cube: np.ndarray, axis: int) -> None:
    """Catches dependence that is not linear."""
    lines = np.moveaxis(cube, axis, 0)
    first, second = lines[0:-1:2].ravel(), lines[1::2].ravel()[: lines[0:-1:2].size]
    cells, _, _ = np.histogram2d(first, second, bins=12, range=[[0, 1], [0, 1]])
    assert stats.chisquare(cells.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("bit", range(6))
def test_ranks_that_differ_in_one_bit_are_not_correlated(cube: np.ndarray, bit: int) -> None:
    """Counters enter by exclusive or, so these are neighbours as well."""
    ranks = np.arange(64)
    lower = ranks[(ranks >> bit) & 1 == 0]
    pair = cube[..., lower].ravel(), cube[..., lower | 1 << bit].ravel()
    assert stats.pearsonr(*pair).pvalue > 1e-3


def test_no_number_comes_back_in_another_place(cube: np.ndarray) -> None:
    """Of 184,320 draws from 2**24 values about 1,010 meet an equal one by chance."""
    repeated = cube.size - len(np.unique(cube))
    assert 900 < repeated < 1120


def test_every_bit_of_a_hash_is_a_fair_coin() -> None:
    hashes = counter_hashes(torch.arange(400), 0, 100)
    ones = np.array([int((hashes >> bit & 1).sum()) for bit in range(64)])
    assert min(stats.binomtest(count, 40_000).pvalue for count in ones.tolist()) > 1e-3 / 64
