"""Tests of the order of samples and of how processes share them."""

from collections import Counter
from itertools import chain
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from datamodules.sampling import RUN, OrderedSampler, ShuffledSampler, process_position
from errors import InputError
from tests.datamodules.tiny import refusal

LENGTHS = st.integers(1, 200)
WORLDS = st.integers(1, 6)
SMALL = st.integers(0, 99)
FLAGS = st.lists(st.booleans(), min_size=1, max_size=200).map(np.array)
WINDOWS = st.none() | st.integers(1, 250)


def _epoch(
    length: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    *,
    window: int | None = None,
    empty: NDArray[np.bool_] | None = None,
    keep_empty: float = 1.0,
) -> list[int]:
    sampler = ShuffledSampler(
        length,
        seed=seed,
        rank=rank,
        world_size=world_size,
        window=window,
        empty=empty,
        keep_empty=keep_empty,
    )
    sampler.set_epoch(epoch)
    values = list(sampler)
    assert len(values) == len(sampler)
    assert {value // length for value in values} == {epoch}
    return [value % length for value in values]


@given(LENGTHS, WORLDS, SMALL, SMALL, WINDOWS)
def test_processes_get_equal_shares_of_one_order(
    length: int, world_size: int, seed: int, epoch: int, window: int | None
) -> None:
    shares = [
        _epoch(length, seed, epoch, rank, world_size, window=window) for rank in range(world_size)
    ]
    assert len({len(share) for share in shares}) == 1
    dealt = [index for turn in zip(*shares, strict=True) for index in turn]
    order = _epoch(length, seed, epoch, window=window)
    assert sorted(order) == list(range(length))
    assert dealt[:length] == order
    assert len(dealt) - length < world_size
    assert all(index in order for index in dealt)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    empty = np.arange(300) % 3 == 0
    for window in (None, 64):
        settings = {"window": window, "empty": empty, "keep_empty": 0.3}
        resumed = ShuffledSampler(300, seed=3, rank=0, world_size=1, **settings)
        for epoch in range(7):
            resumed.set_epoch(epoch)
            list(resumed)
        resumed.set_epoch(2)
        again = [2 * 300 + index for index in _epoch(300, 3, 2, **settings)]
        assert list(resumed) == again == list(resumed)
        orders = {
            tuple(_epoch(300, seed, epoch, **settings)) for seed in range(3) for epoch in range(3)
        }
        assert len(orders) == 9


def test_the_order_is_what_it_was() -> None:
    # Fixed for good: a checkpoint of an older version is resumed with the same order.
    assert _epoch(8, 0, 0) == [2, 4, 3, 6, 5, 0, 1, 7]
    assert _epoch(8, 0, 1) == [1, 3, 7, 6, 0, 4, 2, 5]
    assert _epoch(8, 5, 3) == [7, 1, 0, 3, 4, 2, 6, 5]
    sampler = ShuffledSampler(8, seed=0, rank=1, world_size=3)
    sampler.set_epoch(1)
    assert list(sampler) == [8 + 3, 8 + 0, 8 + 5]


@given(FLAGS, SMALL, SMALL, st.integers(0, 50))
def test_a_wide_window_and_all_of_the_empty_ones_change_nothing(
    empty: NDArray[np.bool_], seed: int, epoch: int, more: int
) -> None:
    length = len(empty)
    expected = np.random.default_rng([seed, epoch]).permutation(length).tolist()
    assert _epoch(length, seed, epoch) == expected
    assert _epoch(length, seed, epoch, window=length + more) == expected
    assert _epoch(length, seed, epoch, empty=empty) == expected
    none_empty = np.zeros(length, dtype=bool)
    assert _epoch(length, seed, epoch, empty=none_empty, keep_empty=0.1) == expected


@given(st.integers(1, 3000), SMALL, SMALL, st.integers(1, 600), st.integers(1, 400))
def test_a_stretch_reads_from_few_runs(
    length: int, seed: int, epoch: int, window: int, stretch: int
) -> None:
    order = np.array(_epoch(length, seed, epoch, window=window))
    assert sorted(order) == list(range(length))
    if window >= length:
        return
    runs_in_window = max(1, window // RUN)
    # Windows are of nearly equal length: one run apart, and the last run may be short.
    runs = ceil(length / RUN)
    shortest = max(1, (runs // ceil(runs / runs_in_window) - 1) * RUN + 1)
    for start in range(0, length, 37):
        touched = len(set((order[start : start + stretch] // RUN).tolist()))
        assert touched <= runs_in_window * (stretch // shortest + 2)
    # A run is read within one window: between its first and last sample lie few others.
    spans = [np.ptp(np.flatnonzero(order // RUN == run)) for run in set(order // RUN)]
    assert max(spans) < runs_in_window * RUN


def test_a_windowed_order_is_shuffled_well() -> None:
    length, window = 40 * 256, 512
    orders = [_epoch(length, 1, epoch, window=window) for epoch in range(12)]
    positions = [np.argsort(order) for order in [*orders, list(range(length))]]
    pairs = [(a, b) for a in range(len(positions)) for b in range(a)]
    correlations = np.array([spearmanr(positions[a], positions[b]).statistic for a, b in pairs])
    # 320 runs move as wholes, so the spread of a single correlation is near 1 / sqrt(320).
    assert abs(correlations.mean()) < 0.02
    assert abs(correlations).max() < 0.25
    # A batch holds slices of many runs, and two neighbours seldom follow each other.
    batches = np.array(orders[0]).reshape(-1, 32)
    assert min(len(set((batch // RUN).tolist())) for batch in batches) >= 6
    follow = np.mean(np.abs(np.diff(np.concatenate(orders))) == 1)
    assert follow < 0.01


@given(FLAGS, st.floats(0, 1), SMALL, WINDOWS, WORLDS)
def test_an_epoch_takes_all_full_and_a_share_of_the_empty_samples(
    empty: NDArray[np.bool_], share: float, seed: int, window: int | None, world_size: int
) -> None:
    full, empties = np.flatnonzero(~empty).tolist(), int(empty.sum())
    expected = max(1, len(full) + round(share * empties))
    for epoch in range(4):
        shares = [
            _epoch(
                len(empty),
                seed,
                epoch,
                rank,
                world_size,
                window=window,
                empty=empty,
                keep_empty=share,
            )
            for rank in range(world_size)
        ]
        dealt = list(chain.from_iterable(zip(*shares, strict=True)))
        assert len(set(dealt)) == expected
        assert len(set(dealt[:expected])) == expected
        assert set(full) <= set(dealt)


@given(st.integers(1, 60), st.integers(0, 20), st.floats(0.02, 0.99), SMALL)
def test_every_empty_sample_comes_round(empties: int, full: int, share: float, seed: int) -> None:
    empty = np.arange(empties + full) < empties
    taken = min(empties, max(round(share * empties), 0 if full else 1))
    if not taken:
        return
    epochs = -(-empties // taken)
    for first in (0, epochs, 5 * epochs):
        seen = Counter(
            index
            for epoch in range(first, first + epochs)
            for index in _epoch(len(empty), seed, epoch, empty=empty, keep_empty=share)
            if empty[index]
        )
        assert set(seen) == set(range(empties))
        assert max(seen.values()) <= 2


def test_empty_samples_are_drawn_at_random() -> None:
    empty = np.arange(400) % 2 == 0
    drawn = [
        frozenset(i for i in _epoch(400, 7, epoch, empty=empty, keep_empty=0.25) if i % 2 == 0)
        for epoch in range(400)
    ]
    assert len(set(drawn)) == 400
    counts = np.array(list(Counter(chain.from_iterable(drawn)).values()))
    assert counts.tolist() == [100] * 200
    # Two of a round never meet, two of different rounds do so at random: a quarter of each.
    overlaps = [len(a & b) for a, b in zip(drawn[:-4], drawn[4:], strict=True)]
    assert 11 < np.mean(overlaps) < 14


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"window": 0}, "window is 0"),
        ({"keep_empty": 1.1}, "keep_empty is 1.1"),
        ({"keep_empty": float("nan")}, "keep_empty is nan"),
        ({"empty": np.zeros(4, dtype=bool)}, r"shape \(4,\), expected \(5,\)"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ShuffledSampler(5, seed=0, rank=0, world_size=1, **wrong)  # type: ignore[arg-type]


@given(LENGTHS, WORLDS)
def test_evaluation_takes_every_sample_once_and_in_order(length: int, world_size: int) -> None:
    if length < world_size:
        with pytest.raises(InputError) as caught:
            OrderedSampler(length, rank=0, world_size=world_size)
        assert f"{world_size} processes for {length} slices" in refusal(caught)
        return
    samplers = [
        OrderedSampler(length, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    shares = [list(sampler) for sampler in samplers]
    assert sorted(index for share in shares for index in share) == list(range(length))
    assert all(share == sorted(share) for share in shares)
    assert [len(sampler) for sampler in samplers] == [len(share) for share in shares]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_on_its_own() -> None:
    assert process_position() == (0, 1)
