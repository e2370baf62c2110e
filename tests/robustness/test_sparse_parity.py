"""Parity with an exhaustive search over all sets of pixels of tiny images."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.evolution import OnePixelEvolution
from robustness.greedy import GreedyCountAttack, JsmaAttack
from robustness.sparse import PgdL0, SparseAttack
from robustness.sparse_search import SparseRandomSearch
from tests.robustness.toy_optima import Linear, toy_batch

SIDE = 4
LOW, HIGH = 0.0, 0.2


class Hidden:
    """One hidden layer over all pixels: convex in the image where no output weight is negative."""

    def __init__(self, seed: int, *, convex: bool) -> None:
        draw = np.random.default_rng(seed)
        self.first = torch.from_numpy(draw.normal(size=(24, SIDE**2))).float()
        self.bias = torch.from_numpy(0.2 * draw.normal(size=24)).float()
        second = draw.normal(size=(SIDE**2, 24))
        self.second = torch.from_numpy(np.abs(second) if convex else 2 * second).float()

    def __call__(self, image: Tensor) -> Tensor:
        hidden = torch.relu(image.flatten(1) @ self.first.T + self.bias)
        return (hidden @ self.second.T).reshape(-1, 1, SIDE, SIDE)


def _batch(seed: int, *, convex: bool) -> AttackBatch:
    draw = np.random.default_rng(seed)
    image = torch.from_numpy(draw.random((3, 1, SIDE, SIDE), dtype=np.float32)) * HIGH
    mask = torch.from_numpy(draw.random((3, 1, SIDE, SIDE)) < 0.5).float()
    valid = torch.ones(3, 1, SIDE, SIDE, dtype=torch.bool)
    valid[2, :, :, 3] = False
    return toy_batch(Hidden(seed, convex=convex), image, mask=mask, valid=valid)


def _exhaustive(batch: AttackBatch, objective: str, count: int) -> np.ndarray:
    """The highest objective over all sets of ``count`` valid pixels at the ends of the range."""
    best = np.full(len(batch.image), -np.inf)
    for pixels in combinations(range(SIDE**2), count):
        for values in product((LOW, HIGH), repeat=count):
            image = batch.image.clone()
            for pixel, value in zip(pixels, values, strict=True):
                image[:, 0, pixel // SIDE, pixel % SIDE] = value
            taken = batch.valid.flatten(1)[:, list(pixels)].all(dim=1).numpy()
            found = batch.value(objective, image).numpy()
            best = np.where(taken, np.maximum(best, found), best)
    return best


def _found(attack: SparseAttack, batch: AttackBatch, objective: str) -> np.ndarray:
    """The highest objective over the repeats of an attack with one point."""
    values = [batch.value(objective, image).numpy() for _, _, image in attack.disturb(batch, 0)]
    best: np.ndarray = np.max(values, axis=0)
    return best


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("objective", ["soft_dice", "bce"])
def test_random_search_finds_the_best_set(seed: int, count: int, objective: str) -> None:
    """Of two pixels one at a time is exchanged, which may end at a set with no better neighbour."""
    batch = _batch(seed, convex=False)
    attack = SparseRandomSearch("a", (count,), objective, LOW, HIGH, queries=400, repeats=2 * count)
    best = _exhaustive(batch, objective, count)
    assert _found(attack, batch, objective) == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [1, 2])
def test_evolution_finds_the_best_set(seed: int, count: int) -> None:
    """A convex objective is highest at ends of the range, although values between are tried."""
    batch = _batch(seed, convex=True)
    attack = OnePixelEvolution(
        "a", (count,), "logit_sum", LOW, HIGH, repeats=4, population=40, generations=20 * count
    )
    best = _exhaustive(batch, "logit_sum", count)
    assert _found(attack, batch, "logit_sum") == pytest.approx(best, rel=1e-3)


def _gradient_attacks(count: int) -> list[SparseAttack]:
    return [
        JsmaAttack("jsma", (count,), "logit_sum", LOW, HIGH),
        GreedyCountAttack(
            "greedy", (count,), "logit_sum", LOW, HIGH, valid_only=True, score="gain"
        ),
        PgdL0("pgd", (count,), "logit_sum", LOW, HIGH, restarts=3, step_size=3.0),
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [1, 2])
def test_gradient_attacks_find_the_best_set_of_a_linear_network(seed: int, count: int) -> None:
    weight = np.random.default_rng(seed).normal(size=(1, SIDE, SIDE)).astype(np.float32)
    batch = replace(_batch(seed, convex=True), forward=Linear(torch.from_numpy(weight)))
    best = _exhaustive(batch, "logit_sum", count)
    for attack in _gradient_attacks(count):
        assert _found(attack, batch, "logit_sum") == pytest.approx(best, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_gradient_attacks_come_close_on_a_curved_network_and_never_beat_it(count: int) -> None:
    shares = []
    for seed in range(6):
        batch = _batch(seed, convex=True)
        clean = batch.value("logit_sum", batch.image).numpy()
        best = _exhaustive(batch, "logit_sum", count)
        for attack in _gradient_attacks(count):
            shares.append((_found(attack, batch, "logit_sum") - clean) / (best - clean))
            assert shares[-1].max() <= 1 + 1e-4
    assert np.mean(shares) > 0.85
    assert np.min(shares) > 0.5
