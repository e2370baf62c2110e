"""Greedy attacks: nested pixels, renewed rankings, and the saliency of JSMA against loops."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.greedy import GreedyAttack, GreedyCountAttack, JsmaAttack
from robustness.pixel_attacks import CountAttack
from tests.robustness.toy import ConvNet, make_slices
from tests.robustness.toy_optima import Linear, sparse_linear_optimum, toy_batch


def _batch(classes: int = 1) -> AttackBatch:
    slices = make_slices(6, channels=2, classes=classes, size=12)
    image, mask = (
        torch.stack([torch.from_numpy(getattr(one, what)).float() for one in slices])
        for what in ("image", "mask")
    )
    valid = torch.stack([torch.from_numpy(one.valid) for one in slices])[:, None]
    return toy_batch(ConvNet(2, classes).eval(), image * 0.2, mask=mask, valid=valid)


def _images(attack: GreedyAttack | CountAttack, batch: AttackBatch) -> list[Tensor]:
    return [image for _, _, image in attack.disturb(batch, 0)]


GREEDY = GreedyCountAttack("greedy", (2, 5, 9, 14))
JSMA = JsmaAttack("jsma", (2, 5, 9, 14))


@pytest.mark.parametrize("attack", [GREEDY, JSMA], ids=["greedy", "jsma"])
@pytest.mark.parametrize("every", [1, 4, 20])
def test_pixels_nest_over_counts(attack: GreedyAttack, every: int) -> None:
    batch = _batch()
    images = _images(replace(attack, rerank_every=every), batch)
    for image, larger in pairwise(images):
        changed = image != batch.image
        assert torch.equal(image[changed], larger[changed])


@pytest.mark.parametrize(("score", "ranking"), [("gradient", "gradient"), ("gradient_abs",) * 2])
@pytest.mark.parametrize("value", [0.2, "directed"])
@pytest.mark.parametrize("valid_only", [False, True])
def test_without_a_second_look_it_is_the_papers_attack(
    score: str, ranking: str, value: float | str, valid_only: bool
) -> None:
    batch = _batch()
    greedy = GreedyCountAttack(
        "a",
        GREEDY.counts,
        rerank_every=14,
        value=value,
        score=score,  # type: ignore[arg-type]
        valid_only=valid_only,
    )
    once = CountAttack("b", GREEDY.counts, value, ranking=ranking, valid_only=valid_only)
    if value == "directed":
        once = replace(once, low=0.0, high=0.2)
    for found, expected in zip(_images(greedy, batch), _images(once, batch), strict=True):
        assert torch.equal(found, expected)


def test_each_round_takes_the_best_free_pixels_of_the_image_so_far() -> None:
    batch = _batch()
    attack = GreedyCountAttack("a", tuple(range(1, 8)), rerank_every=2, value=0.2)
    before, taken = batch.image, torch.zeros(6, 144, dtype=torch.bool)
    for count, image in enumerate(_images(attack, batch)):
        if count % 2 == 0:
            score = batch.ascent("probability_sum", before).gradient.sum(dim=1).flatten(1)
        free = score.masked_fill(taken, -torch.inf)
        best = free.argmax(dim=1)
        taken = taken.scatter(1, best[:, None], value=True)
        expected = torch.where(taken.reshape(6, 1, 12, 12), 0.2, batch.image)
        assert torch.equal(image, expected)
        if count % 2 == 1:
            before = image


class Redundant:
    """Two strong pixels of which one is enough, and a weaker one that adds to it."""

    def __call__(self, image: Tensor) -> Tensor:
        pair = image[:, :, 0, :1] + image[:, :, 1, 1:2]
        capped = pair - torch.relu(pair - 0.15)
        total = capped + 0.9 * image[:, :, 2, 2:3]
        return total[..., None].expand(-1, 1, *image.shape[2:])


def test_a_second_look_sees_that_a_pixel_is_no_longer_of_use() -> None:
    batch = toy_batch(Redundant(), torch.zeros(1, 1, 4, 4))
    attack = GreedyCountAttack("a", (2,), objective="logit_sum")
    (greedy,), (once,) = (_images(one, batch) for one in (attack, replace(attack, rerank_every=2)))
    assert once.flatten().nonzero().flatten().tolist() == [0, 5]
    assert greedy.flatten().nonzero().flatten().tolist() == [0, 10]
    found, other = (batch.value("logit_sum", image).item() for image in (greedy, once))
    assert found == pytest.approx(16 * (0.15 + 0.18))
    assert other == pytest.approx(16 * 0.15)


def test_looking_again_is_stronger_on_average() -> None:
    batch = _batch()
    for score in ("gradient", "gradient_abs", "gain"):
        values = [
            batch.value(
                "probability_sum",
                _images(GreedyCountAttack("a", (14,), rerank_every=every, score=score), batch)[0],
            ).sum()
            for every in (1, 14)
        ]
        assert values[0] > values[1]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 12), st.booleans())
def test_on_a_linear_network_gain_is_optimal(seed: int, count: int, jsma: bool) -> None:
    draw = np.random.default_rng(seed)
    weight = draw.normal(size=(2, 5, 6)).astype(np.float32)
    clean = (draw.random((2, 5, 6)) * 0.2).astype(np.float32)
    batch = toy_batch(Linear(torch.from_numpy(weight)), torch.from_numpy(clean)[None])
    attack: GreedyAttack = GreedyCountAttack("a", (count,), "logit_sum", score="gain")
    if jsma:
        attack = JsmaAttack("a", (count,), objective="logit_sum")
    (found,) = _images(attack, batch)
    optimum = sparse_linear_optimum(weight, clean, count, low=0.0, high=0.2)
    assert found[0].numpy() == pytest.approx(optimum, abs=1e-7)


class Mixed:
    """Every logit is a weighted sum of all pixels: ``weight`` is ``(K, H, W, C, H, W)``."""

    def __init__(self, seed: int, classes: int, channels: int, side: int) -> None:
        draw = np.random.default_rng(seed)
        self.weight = draw.normal(size=(classes, side, side, channels, side, side))

    def __call__(self, image: Tensor) -> Tensor:
        weight = torch.from_numpy(self.weight).to(image.dtype)
        return torch.einsum("khwcij,bcij->bkhw", weight, image)


@pytest.mark.parametrize("seed", range(4))
def test_the_saliency_is_the_papers_for_two_groups_of_outputs(seed: int) -> None:
    """A loop over pixels, channels and ends, with the derivatives written down by hand."""
    draw = np.random.default_rng(seed)
    network = Mixed(seed, 2, 2, 3)
    clean = (draw.random((2, 3, 3)) * 0.2).astype(np.float32)
    mask = draw.random((2, 3, 3)) < 0.5
    batch = toy_batch(
        network,
        torch.from_numpy(clean)[None],
        mask=torch.from_numpy(mask)[None].float(),
    )
    attack = JsmaAttack("a", (1, 2, 3, 4), rerank_every=1)
    image, taken = clean.astype(np.float64), set[tuple[int, int]]()
    for found in _images(attack, batch):
        probability = 1 / (1 + np.exp(-np.einsum("khwcij,cij->khw", network.weight, image)))
        slope = probability * (1 - probability)
        best, chosen, written = 0.0, (-1, -1), [0.0, 0.0]
        for row, column in np.ndindex(3, 3):
            score, values = 0.0, []
            for channel in range(2):
                here = slope * network.weight[:, :, :, channel, row, column]
                strongest, value = 0.0, image[channel, row, column]
                for end in (0.0, 0.2):
                    change = end - image[channel, row, column]
                    lost, gained = -here[mask].sum() * change, here[~mask].sum() * change
                    both = np.sqrt(lost * gained) if min(lost, gained) > 0 else 0.0
                    if both > strongest:
                        strongest, value = both, end
                score += strongest
                values.append(value)
            if (row, column) not in taken and score > best:
                best, chosen, written = score, (row, column), values
        assert best > 0
        taken.add(chosen)
        image[:, chosen[0], chosen[1]] = written
        assert found[0].numpy() == pytest.approx(image, abs=1e-6)


def test_a_slice_without_truth_goes_by_what_is_gained() -> None:
    draw = np.random.default_rng(0)
    weight = draw.normal(size=(1, 4, 4)).astype(np.float32)
    batch = toy_batch(Linear(torch.from_numpy(weight)), torch.full((1, 1, 4, 4), 0.1))
    for image in _images(JsmaAttack("a", (3,)), batch):
        changed = (image != 0.1).flatten().nonzero().flatten().tolist()
        assert sorted(changed) == sorted(np.argsort(-np.abs(weight).ravel())[:3].tolist())
        assert torch.equal(
            image[image != 0.1] > 0.1, torch.from_numpy(weight)[None][image != 0.1] > 0
        )


def test_pixels_that_cannot_help_stay_as_they_are() -> None:
    weight = torch.zeros(1, 4, 4)
    weight[0, 1, 2] = 1.0
    batch = toy_batch(Linear(weight), torch.full((1, 1, 4, 4), 0.1))
    (image,) = _images(JsmaAttack("a", (5,), objective="logit_sum"), batch)
    assert (image != 0.1).flatten().nonzero().flatten().tolist() == [6]


def test_jsma_lowers_the_overlap() -> None:
    batch = _batch(classes=2)
    for attack in (JSMA, replace(JSMA, objective="soft_dice")):
        values = [batch.value("soft_dice", image).sum() for image in _images(attack, batch)]
        assert values[-1] > batch.value("soft_dice", batch.image).sum()
