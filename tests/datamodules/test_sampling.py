"""Tests of the order of samples and of how processes share them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sampling import OrderedSampler, ShuffledSampler, process_position
from errors import InputError
from tests.datamodules.tiny import refusal

LENGTHS = st.integers(1, 200)
WORLDS = st.integers(1, 6)


def _epoch(length: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1) -> list[int]:
    sampler = ShuffledSampler(length, seed=seed, rank=rank, world_size=world_size)
    sampler.set_epoch(epoch)
    return list(sampler)


@given(LENGTHS, WORLDS, st.integers(0, 99), st.integers(0, 99))
def test_processes_get_equal_shares_of_one_order(
    length: int, world_size: int, seed: int, epoch: int
) -> None:
    shares = [_epoch(length, seed, epoch, rank, world_size) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    dealt = [index for turn in zip(*shares, strict=True) for index in turn]
    order = _epoch(length, seed, epoch)
    assert sorted(order) == list(range(length))
    assert dealt[:length] == order
    assert len(dealt) - length < world_size
    assert all(index in order for index in dealt)
    sampler = ShuffledSampler(length, seed=seed, rank=0, world_size=world_size)
    assert len(sampler) == len(shares[0])


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    resumed = ShuffledSampler(50, seed=3, rank=0, world_size=1)
    for _ in range(7):
        list(resumed)
    resumed.set_epoch(2)
    assert list(resumed) == _epoch(50, 3, 2) == list(resumed)
    orders = {tuple(_epoch(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_is_what_it_was() -> None:
    # Fixed for good: a checkpoint of an older version is resumed with the same order.
    assert _epoch(8, 0, 0) == [2, 4, 3, 6, 5, 0, 1, 7]


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
