"""Differential evolution: its parts, and that it only gets better."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustness.attack import AttackBatch
from robustness.evolution import (
    OnePixelEvolution,
    bounding_box,
    distinct_three,
    placed,
    redrawn,
)
from tests.robustness.toy import ConvNet
from tests.robustness.toy_optima import Quadratic, toy_batch


def _batch() -> AttackBatch:
    draw = np.random.default_rng(0)
    image = torch.from_numpy(draw.random((4, 1, 8, 8), dtype=np.float32)) * 0.2
    mask = torch.from_numpy(draw.random((4, 1, 8, 8)) < 0.4).float()
    valid = torch.ones(4, 1, 8, 8, dtype=torch.bool)
    valid[1:, :, :, 6:] = False
    valid[2, :, 3, 3] = False
    return toy_batch(ConvNet().eval(), image, mask=mask, valid=valid)


@given(st.integers(3, 9), st.integers(0, 100))
def test_the_three_parents_are_distinct(population: int, seed: int) -> None:
    drawn = torch.rand(2, 3 * population, generator=torch.Generator().manual_seed(seed))
    # The largest float32 below 1 may round up to the whole population.
    drawn[0, ::3] = 1 - 2**-24
    found = distinct_three(drawn)
    assert found.shape == (2, 3, population)
    assert 0 <= found.min() <= found.max() < population
    assert all(len(set(three)) == 3 for row in found for three in row.T.tolist())


def test_every_choice_of_parents_is_as_likely() -> None:
    drawn = torch.rand(40_000, 12, generator=torch.Generator().manual_seed(0))
    first, second, third = distinct_three(drawn)[:, :, 0].T
    triples = torch.bincount(first * 16 + second * 4 + third)
    assert (triples > 0).sum() == 24
    assert stats.chisquare(triples[triples > 0].numpy()).pvalue > 1e-3


def test_positions_out_of_the_box_are_drawn_anew() -> None:
    batch = _batch()
    start, end = bounding_box(batch.valid)
    assert start.tolist() == [[0.0, 0.0]] * 4
    assert end.tolist() == [[8.0, 8.0], *([[8.0, 6.0]] * 3)]
    place = torch.tensor([[[[2.5, 7.5]]], [[[2.5, 7.5]]]])
    drawn = torch.full_like(place, 0.25)
    found = redrawn(place, drawn, (start[:2], end[:2]))
    assert found.tolist() == [[[[2.5, 7.5]]], [[[2.5, 1.5]]]]


def test_of_coinciding_pixels_the_first_counts_and_padding_stays() -> None:
    image = torch.zeros(1, 2, 3, 3)
    allowed = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    allowed[..., 2] = False
    place = torch.tensor([[[1.2, 1.9], [0.0, 2.5], [1.9, 1.1], [2.5, 0.5]]])
    values = torch.arange(1.0, 9.0).reshape(1, 4, 2)
    found = placed(image, allowed, place, values)
    expected = torch.zeros(1, 2, 3, 3)
    expected[0, :, 1, 1] = torch.tensor([1.0, 2.0])
    expected[0, :, 2, 0] = torch.tensor([7.0, 8.0])
    assert torch.equal(found, expected)


def test_more_generations_are_never_weaker() -> None:
    batch = _batch()
    values = [
        batch.value("soft_dice", next(iter(attack.disturb(batch, 0)))[2])
        for generations in (0, 3, 10, 30)
        for attack in [OnePixelEvolution("a", (1,), population=8, generations=generations)]
    ]
    for fewer, more in pairwise(values):
        assert (more >= fewer).all()
    assert (values[-1] > values[0]).all()


def test_values_inside_the_range_are_found() -> None:
    """The best value of a pixel is not at an end here, where the others search."""
    centre = torch.zeros(1, 4, 4)
    centre[0, 2, 1] = 0.13
    batch = toy_batch(Quadratic(centre), torch.zeros(2, 1, 4, 4))
    attack = OnePixelEvolution("a", (1,), objective="logit_sum", population=60, generations=60)
    ((_, _, image),) = attack.disturb(batch, 0)
    assert (image - centre).abs().max() < 1e-3
