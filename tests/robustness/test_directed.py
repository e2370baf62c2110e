"""Optima that norm-bounded attacks find, and those that start at the clean image."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from robustness.apgd import Apgd
from robustness.directed import Fgsm, IteratedFgsm, MomentumFgsm, NoiseControl
from robustness.norms import NORMS, Norm
from robustness.pgd import Pgd
from tests.robustness.directed_kinds import (
    BOTH,
    CLASSES,
    CLEAN_START,
    KINDS,
    STRONG,
    exact_lengths,
    images_of,
    objective_of,
    slices_batch,
    toy_images,
)
from tests.robustness.toy import ConvNet
from tests.robustness.toy_optima import (
    Linear,
    Quadratic,
    linear_optimum,
    nearest_in_budget,
    toy_batch,
)


@pytest.mark.parametrize("kind", ["fgsm", *STRONG])
@BOTH
@pytest.mark.parametrize("epsilon", [0.01, 0.15, 0.6])
def test_the_optimum_of_a_linear_network_is_found(kind: str, norm: Norm, epsilon: float) -> None:
    weight = torch.randn((2, 6, 6), generator=torch.Generator().manual_seed(0))
    valid = torch.ones(3, 1, 6, 6, dtype=torch.bool)
    valid[1, ..., 4:] = False
    batch = toy_batch(Linear(weight), toy_images(0, channels=2), valid=valid)
    attack = CLASSES[kind]("a", (epsilon,), norm=norm, **STRONG.get(kind, {}))
    found = images_of(attack, batch)[0, 0]
    for row in range(3):
        clean = batch.image[row].double().numpy()
        expected = linear_optimum(
            weight.double().numpy(),
            clean,
            epsilon,
            norm,
            low=0.0,
            high=0.2,
            allowed=valid[row].numpy(),
        )
        if norm == "linf":
            np.testing.assert_allclose(found[row].numpy(), expected, rtol=0, atol=1e-6)
        gains = [
            float((weight.double().numpy() * (image - clean)).sum())
            for image in (found[row].double().numpy(), expected)
        ]
        assert gains[0] == pytest.approx(gains[1], rel=1e-5 if kind == "fgsm" else 2e-3)


@pytest.mark.parametrize("kind", ["iterated", "momentum", "pgd", "apgd"])
@BOTH
@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.5])
def test_the_optimum_of_a_quadratic_network_is_found(kind: str, norm: Norm, epsilon: float) -> None:
    centre = 0.4 * torch.rand((1, 6, 6), generator=torch.Generator().manual_seed(5)) - 0.1
    batch = toy_batch(Quadratic(centre), toy_images(2))
    attack = CLASSES[kind](
        "a", (epsilon,), norm=norm, objective="logit_sum", **STRONG.get(kind, {})
    )
    found = images_of(attack, batch)[0, 0]
    clean_value = objective_of(batch, batch.image, "logit_sum")
    for row in range(3):
        expected = nearest_in_budget(
            centre.numpy(), batch.image[row].numpy(), epsilon, norm, low=0.0, high=0.2
        )
        best = -float(((expected - centre.double().numpy()) ** 2).sum())
        reached = -float(((found[row].double() - centre.double()) ** 2).sum())
        clean = float(clean_value[row])
        # Steps of one length cannot come nearer than a step.
        share = 1e-3 if kind == "apgd" else 0.06
        assert best - reached <= share * (best - clean) + 1e-9
        assert reached <= best + 1e-6


@pytest.mark.parametrize("norm", NORMS)
def test_iterating_beats_one_step_beats_noise(norm: Norm) -> None:
    batch = slices_batch(ConvNet().eval(), size=16)
    epsilon = 0.05 if norm == "linf" else 0.5
    common: dict[str, Any] = {"epsilons": (epsilon,), "norm": norm, "high": 1.0}
    attacks = [
        NoiseControl("noise", **common),
        Fgsm("fgsm", **common),
        IteratedFgsm("iterated", **common),
    ]
    means = [float(objective_of(batch, images_of(one, batch)[0, 0]).mean()) for one in attacks]
    strong = [Pgd("pgd", restarts=2, **common), Apgd("apgd", **common)]
    bests = [float(objective_of(batch, images_of(one, batch)[0, 0]).mean()) for one in strong]
    clean = float(objective_of(batch, batch.image).mean())
    assert clean < means[1] < means[2]
    assert means[0] < means[1]
    assert min(bests) > means[1]


def test_more_steps_find_more() -> None:
    weight = torch.randn((1, 6, 6), generator=torch.Generator().manual_seed(0))
    batch = toy_batch(Linear(weight), toy_images(0))
    for norm in NORMS:
        values = [objective_of(batch, batch.image)]
        for steps in (1, 2, 4, 8, 10):
            attack = IteratedFgsm("a", (0.1,), norm=norm, steps=steps)
            values.append(objective_of(batch, images_of(attack, batch)[0, 0]))
        assert all((after > before).all() for before, after in pairwise(values))


@BOTH
def test_momentum_is_the_sum_of_gradients_by_their_l1_length(norm: Norm) -> None:
    centre = torch.rand((1, 6, 6), generator=torch.Generator().manual_seed(3)) / 5
    clean = torch.full((1, 1, 6, 6), 0.1)
    attack = MomentumFgsm(
        "a", (0.08,), norm=norm, objective="logit_sum", steps=7, step_size=0.4, decay=0.8
    )
    found = images_of(attack, toy_batch(Quadratic(centre), clean))[0, 0].numpy()[0]
    image = start = clean.double().numpy()[0]
    total = np.zeros_like(image)
    for _ in range(7):
        gradient = -2 * (image - centre.double().numpy())
        total = 0.8 * total + gradient / np.abs(gradient).sum()
        way = np.sign(total) if norm == "linf" else total / np.linalg.norm(total)
        moved = image + 0.4 * 0.08 * way - start
        length = np.abs(moved).max() if norm == "linf" else np.linalg.norm(moved)
        if norm == "linf":
            moved = np.clip(moved, -0.08, 0.08)
        elif length > 0.08:
            moved = moved * 0.08 / length
        image = np.clip(start + moved, 0.0, 0.2)
    np.testing.assert_allclose(found, image, rtol=0, atol=1e-6)


def test_without_decay_momentum_is_the_iterated_method() -> None:
    batch = slices_batch(ConvNet().eval())
    plain = images_of(IteratedFgsm("a", (0.05,), steps=4), batch)[0, 0]
    kept = images_of(MomentumFgsm("a", (0.05,), steps=4, decay=0.0), batch)[0, 0]
    assert torch.equal(plain, kept)
    assert not torch.equal(images_of(MomentumFgsm("a", (0.05,), steps=4), batch)[0, 0], plain)


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("kind", CLEAN_START)
@BOTH
def test_the_size_of_the_gradient_does_not_matter(kind: str, norm: Norm, size: float) -> None:
    weight = torch.randn((1, 6, 6), generator=torch.Generator().manual_seed(0))
    images = toy_images(0)
    attack = KINDS[kind]("a", (0.05,), norm=norm, objective="logit_sum")
    expected = images_of(attack, toy_batch(Linear(weight), images))[0, 0]
    found = images_of(attack, toy_batch(Linear(weight * size), images))[0, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_noise_is_of_full_length_and_the_same_direction_at_every_epsilon() -> None:
    image = torch.full((4, 1, 20, 20), 0.5)
    batch = toy_batch(Linear(torch.zeros(1, 20, 20)), image)
    for norm in NORMS:
        attack = NoiseControl("a", (0.01, 0.1), norm=norm, high=1.0)
        found = images_of(attack, batch)
        for index, epsilon in enumerate(attack.epsilons):
            sizes = exact_lengths(found[index, 0] - image, norm)
            np.testing.assert_allclose(sizes, epsilon, rtol=1e-4)
        torch.testing.assert_close(
            10 * (found[0, 0] - image), found[1, 0] - image, rtol=0, atol=1e-5
        )
        assert abs(float((found[1, 0] > image).float().mean()) - 0.5) < 0.06
