"""Random search: its schedule, its moves, and that it only gets better."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from robustness.attack import AttackBatch
from robustness.sparse_search import SparseRandomSearch
from tests.robustness.toy import CallCounter, ConvNet
from tests.robustness.toy_optima import Linear, sparse_linear_optimum, toy_batch


def _batch(network: object = None, channels: int = 1) -> AttackBatch:
    draw = np.random.default_rng(0)
    image = torch.from_numpy(draw.random((4, channels, 8, 8), dtype=np.float32)) * 0.2
    mask = torch.from_numpy(draw.random((4, 1, 8, 8)) < 0.4).float()
    return toy_batch(ConvNet(channels).eval(), image, mask=mask)


def test_the_schedule_is_the_published_one_stretched_to_the_queries() -> None:
    attack = SparseRandomSearch("a", (1,), queries=10_000, alpha=1.0)
    starts = (0, 1, 50, 51, 200, 201, 500, 501, 1000, 1001, 2001, 4001, 6001, 8000, 8001, 9999)
    divisors = (1, 2, 2, 4, 4, 5, 5, 6, 6, 8, 10, 12, 15, 15, 20, 20)
    assert [attack.exchanged(start, 1200) for start in starts] == [1200 // by for by in divisors]
    short = SparseRandomSearch("a", (1,), queries=100, alpha=0.3)
    assert [short.exchanged(query, 1000) for query in (1, 2, 3, 99)] == [75, 75, 60, 15]
    assert short.exchanged(99, 3) == 1


def test_entries_are_at_either_end_of_the_range() -> None:
    batch = _batch(channels=3)
    attack = SparseRandomSearch("a", (6,), low=-1.0, high=2.0, queries=30)
    ((_, _, image),) = attack.disturb(batch, 0)
    changed = (image != batch.image).any(dim=1)
    assert changed.flatten(1).sum(dim=1).tolist() == [6] * 4
    values = image.transpose(0, 1)[:, changed]
    assert set(values.flatten().tolist()) == {-1.0, 2.0}
    assert (values[0] != values[1]).any()


def test_more_queries_are_never_weaker_with_one_schedule() -> None:
    """The first queries are the same ones where the share does not shrink."""
    batch = _batch()
    values = [
        batch.value("soft_dice", next(iter(attack.disturb(batch, 0)))[2])
        for queries in (1, 5, 25, 100)
        for attack in [SparseRandomSearch("a", (3,), queries=queries)]
    ]
    for fewer, more in pairwise(values):
        assert (more >= fewer).all()
    assert (values[-1] > values[0]).all()


def test_where_no_pixel_is_left_the_ends_alone_are_searched() -> None:
    draw = np.random.default_rng(1)
    weight = draw.normal(size=(1, 3, 3)).astype(np.float32)
    batch = toy_batch(Linear(torch.from_numpy(weight)), torch.full((1, 1, 3, 3), 0.1))
    attack = SparseRandomSearch("a", (9,), objective="logit_sum", queries=400)
    ((_, _, image),) = attack.disturb(batch, 0)
    assert torch.equal(image > 0.1, torch.from_numpy(weight)[None] > 0)


@pytest.mark.parametrize("count", [1, 4])
def test_on_a_linear_network_it_finds_the_optimum(count: int) -> None:
    draw = np.random.default_rng(2)
    weight = draw.normal(size=(2, 6, 6)).astype(np.float32)
    clean = (draw.random((2, 6, 6)) * 0.2).astype(np.float32)
    network = CallCounter(Linear(torch.from_numpy(weight)))
    batch = toy_batch(network, torch.from_numpy(clean)[None])
    attack = SparseRandomSearch("a", (count,), objective="logit_sum", queries=3000)
    ((_, _, image),) = attack.disturb(batch, 0)
    # Both channels of a pixel go to an end, whether it is of use or not.
    ends = np.where(weight > 0, 0.2, 0.0)
    gain = np.sort((weight * (ends - clean)).sum(axis=0).ravel())[-count:].sum()
    assert (weight * (image[0].numpy() - clean)).sum() == pytest.approx(gain, rel=1e-4)
    optimum = sparse_linear_optimum(weight, clean, count, low=0.0, high=0.2)
    assert image[0].numpy() == pytest.approx(optimum, abs=1e-6)
    assert (network.forwards, network.backwards) == (3000, 0)
