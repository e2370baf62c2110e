"""Random starts and restarts, and the weights of the variants for dense predictions."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from robustness.apgd import Apgd
from robustness.attack import AttackBatch
from robustness.directed import IteratedFgsm
from robustness.norms import NORMS, Norm, lengths
from robustness.pgd import CosPgd, Pgd, RandomStarts, SegPgd
from tests.robustness.directed_kinds import images_of, objective_of, slices_batch
from tests.robustness.toy import ConvNet
from tests.robustness.toy_optima import Linear, toy_batch

BOTH = pytest.mark.parametrize("norm", NORMS)
STRATEGIES = [Pgd, SegPgd, CosPgd, Apgd]


def _elementwise(image: Tensor) -> Tensor:
    return 40 * (image - 0.1)


def _mixed_batch() -> AttackBatch:
    """Each pixel's logit is its own; about half of the predictions are right."""
    random = torch.Generator().manual_seed(4)
    image = 0.2 * torch.rand((2, 1, 6, 6), generator=random)
    mask = (torch.rand((2, 1, 6, 6), generator=random) > 0.5).float()
    return toy_batch(_elementwise, image, mask=mask)


@pytest.mark.parametrize("attack", STRATEGIES)
@BOTH
def test_more_restarts_never_find_less(attack: Callable[..., RandomStarts], norm: Norm) -> None:
    batch = slices_batch(ConvNet(2, 2).eval(), channels=2, classes=2)
    values = []
    for restarts in (1, 2, 5):
        made = attack("a", (0.05,), norm=norm, restarts=restarts, steps=4, high=1.0)
        values.append(objective_of(batch, images_of(made, batch)[0, 0]))
    assert all((more >= less - 1e-4).all() for less, more in pairwise(values))
    assert (values[2] > values[0]).any()


@pytest.mark.parametrize("attack", STRATEGIES)
def test_each_slice_keeps_its_own_best_restart(attack: Callable[..., RandomStarts]) -> None:
    """One restart is the first of several; the others are found under their own number."""
    batch = slices_batch(ConvNet().eval())
    made = attack("a", (0.05,), restarts=4, steps=3, high=1.0)
    best = images_of(made, batch)[0, 0]
    within = made.budget(batch, 0.05)
    climbs = [
        made._climb(batch, within, start) for start in made._starts(batch, within, 0, repeat=0)
    ]
    values = torch.stack([objective_of(batch, image) for image, _ in climbs])
    chosen = values.argmax(dim=0)
    assert len(set(chosen.tolist())) > 1
    for row, restart in enumerate(chosen.tolist()):
        assert torch.equal(best[row], climbs[restart][0][row])


@BOTH
def test_starts_are_random_points_in_one_direction_for_all_epsilons(norm: Norm) -> None:
    """Without a gradient an attack stays where it starts."""
    image = torch.full((3, 1, 8, 8), 0.5)
    batch = toy_batch(Linear(torch.zeros(1, 8, 8)), image)
    found = images_of(Pgd("a", (0.01, 0.1), norm=norm, high=1.0), batch)
    near, far = (found[index, 0] - image for index in (0, 1))
    torch.testing.assert_close(10 * near, far, rtol=0, atol=1e-5)
    assert (lengths(far, norm) > 0.05).all()
    if norm == "linf":
        assert float(far.abs().mean()) == pytest.approx(0.05, abs=0.006)


def test_pgd_is_the_iterated_method_from_another_start() -> None:
    """Where the way does not depend on the place, both end at the same corner."""
    weight = torch.randn((1, 6, 6), generator=torch.Generator().manual_seed(0))
    batch = toy_batch(Linear(weight), torch.full((2, 1, 6, 6), 0.1))
    pgd = images_of(Pgd("a", (0.05,)), batch)[0, 0]
    iterated = images_of(IteratedFgsm("b", (0.05,)), batch)[0, 0]
    torch.testing.assert_close(pgd, iterated, rtol=0, atol=1e-7)


def _reference(
    weights: Callable[[np.ndarray, np.ndarray, int], np.ndarray],
    start: np.ndarray,
    clean: np.ndarray,
    truth: np.ndarray,
) -> np.ndarray:
    """Six steps of 0.05 along the weighed gradient of the cross-entropy; L2, epsilon 0.5."""
    image = start
    for step in range(6):
        p = 1 / (1 + np.exp(-40 * (image - 0.1)))
        gradient = 40 * weights(p, truth, step) * (p - truth)
        image = image + 0.05 * gradient / max(np.linalg.norm(gradient), 1e-30)
        way = image - clean
        image = clean + way * min(1.0, 0.5 / np.linalg.norm(way))
    return image


def _seg_weights(p: np.ndarray, y: np.ndarray, step: int) -> np.ndarray:
    share = step / (2 * 6)
    return np.where((p > 0.5) == (y > 0.5), 1 - share, share)


def _cos_weights(p: np.ndarray, y: np.ndarray, step: int) -> np.ndarray:
    dot = p * y + (1 - p) * (1 - y)
    return np.asarray(dot / np.sqrt(p**2 + (1 - p) ** 2))


@pytest.mark.parametrize(
    ("attack", "weights"), [(SegPgd, _seg_weights), (CosPgd, _cos_weights)], ids=["seg", "cos"]
)
def test_the_weights_are_those_of_the_papers(
    attack: Callable[..., RandomStarts],
    weights: Callable[[np.ndarray, np.ndarray, int], np.ndarray],
) -> None:
    batch = _mixed_batch()
    made = attack("a", (0.5,), norm="l2", low=-9.0, high=9.0, steps=6, step_size=0.1)
    found = images_of(made, batch)[0, 0]
    (start,) = made._starts(batch, made.budget(batch, 0.5), 0, repeat=0)
    plain = images_of(
        Pgd("a", (0.5,), norm="l2", low=-9.0, high=9.0, steps=6, step_size=0.1), batch
    )
    for row in range(2):
        expected = _reference(
            weights,
            *(one[row].double().numpy() for one in (start, batch.image, batch.mask)),
        )
        np.testing.assert_allclose(found[row].numpy(), expected, rtol=0, atol=1e-5)
        assert np.abs(plain[0, 0][row].numpy() - expected).max() > 1e-3


def test_the_first_step_of_segpgd_leaves_wrong_pixels_alone() -> None:
    batch = _mixed_batch()
    made = SegPgd("a", (1e-4,), norm="l2", steps=1, step_size=1.0)
    moved = images_of(made, batch)[0, 0]
    (start,) = made._starts(batch, made.budget(batch, 1e-4), 0, repeat=0)
    right = (_elementwise(start) > 0) == (batch.mask > 0)
    # The projection shortens what wrong pixels started with; nothing is added to it.
    grown = (moved - batch.image).abs() > (start - batch.image).abs() + 1e-7
    assert not (grown & ~right).any()
    assert (grown & right).any()


@pytest.mark.parametrize("attack", [SegPgd, CosPgd])
@pytest.mark.parametrize("objective", ["bce", "balanced_bce", "margin", "js"])
def test_the_variants_follow_any_sum_over_pixels(
    attack: Callable[..., RandomStarts], objective: str
) -> None:
    batch = slices_batch(ConvNet().eval())
    made = attack("a", (0.05,), high=1.0, objective=objective)
    found = objective_of(batch, images_of(made, batch)[0, 0], objective)
    assert (found > objective_of(batch, batch.image, objective)).all()


def test_weights_have_no_gradient_and_count_where_the_truth_is_known() -> None:
    batch = _mixed_batch()
    counted = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)) > 0.5
    known = replace(batch, counted=counted)
    for attack in (SegPgd, CosPgd):
        made = attack("a", (1e-6,), norm="l2", steps=2, step_size=1.0)
        (start,) = made._starts(known, made.budget(known, 1e-6), 0, repeat=0)
        leaf = known.ascent(made._climbed(1), start)
        assert not torch.where(counted, 0, leaf.gradient).any()
        weight = made._weights(leaf.logits, known.mask, 1)
        expected = 40 * weight * (leaf.logits.sigmoid() - known.mask) * counted
        torch.testing.assert_close(leaf.gradient, expected, rtol=1e-4, atol=1e-5)
