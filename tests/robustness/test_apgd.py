"""Auto-PGD: its checkpoints, its step sizes, and the best point, against a slow reference."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from robustness.apgd import Apgd, _Walk, checkpoints
from robustness.attack import AttackBatch
from robustness.norms import NORMS, Norm, budget
from robustness.pgd import Pgd
from robustness.saliency import Ascent
from tests.robustness.directed_kinds import images_of, objective_of, slices_batch
from tests.robustness.toy import ConvNet
from tests.robustness.toy_optima import Linear, toy_batch

Function = Callable[[np.ndarray], tuple[float, np.ndarray]]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
        (50, [11, 21, 29, 35, 40, 44, 47, 50]),
        (10, [3, 5, 6, 7, 8, 9, 10]),
        (1, [1]),
    ],
)
def test_checkpoints_are_those_of_the_paper(steps: int, expected: list[int]) -> None:
    assert list(checkpoints(steps)) == expected


@dataclass
class Reference:
    """Algorithm 1 for one image, with whole histories; stops in ``checks``."""

    function: Function
    project: Callable[[np.ndarray], np.ndarray]
    norm: Norm
    epsilon: float
    steps: int
    checks: list[int]
    sizes: list[float] = field(default_factory=list)

    def run(self, start: np.ndarray) -> tuple[np.ndarray, float]:
        points, values = [start], [self.function(start)[0]]
        best, best_value = start, values[0]
        size, rises = 2 * self.epsilon, [False]
        last_check, best_then, halved_then = 0, values[0], False
        before = start
        for k in range(self.steps):
            here = points[-1]
            z = self.project(here + size * self._way(self.function(here)[1]))
            new = z
            if k > 0:
                new = self.project(here + 0.75 * (z - here) + 0.25 * (here - before))
            value = self.function(new)[0]
            rises.append(value > values[-1])
            before = here
            points.append(new)
            values.append(value)
            self.sizes.append(size)
            if value > best_value:
                best, best_value = new, value
            if k + 1 in self.checks:
                stretch = rises[last_check + 1 : k + 2]
                few = sum(stretch) < 0.75 * len(stretch)
                stuck = not halved_then and best_value == best_then
                halved_then = few or stuck
                if halved_then:
                    size /= 2
                    points[-1], values[-1] = best, best_value
                last_check, best_then = k + 1, best_value
        return best, best_value

    def _way(self, gradient: np.ndarray) -> np.ndarray:
        if self.norm == "linf":
            return np.asarray(np.sign(gradient))
        return np.asarray(gradient / np.linalg.norm(gradient))


def _hills(image: Tensor) -> Tensor:
    """A logit with hills and valleys in every pixel, and slopes that differ."""
    ramp = torch.linspace(0.5, 2.0, image[0].numel()).reshape(image.shape[1:])
    return ramp * (torch.sin(30 * image + 5 * ramp) - 20 * (image - 0.12) ** 2)


def _function(value_of: Callable[[Tensor], Tensor]) -> Function:
    def function(image: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.enable_grad():
            leaf = torch.from_numpy(image)[None].requires_grad_()
            value = value_of(leaf).sum()
            (gradient,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), gradient[0].numpy()

    return function


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("steps", [5, 15, 30])
def test_the_way_is_that_of_the_reference(norm: Norm, steps: int) -> None:
    epsilon = 0.15 if norm == "linf" else 0.6
    image = 0.2 * torch.rand((4, 1, 5, 5), generator=torch.Generator().manual_seed(1))
    batch = toy_batch(_hills, image)
    attack = Apgd(
        "a", (epsilon,), norm=norm, objective="logit_sum", steps=steps, low=-9.0, high=9.0
    )
    found = images_of(attack, batch)[0, 0]
    values = objective_of(batch, found, "logit_sum")
    (starts,) = attack._starts(batch, attack.budget(batch, epsilon), 0, repeat=0)
    sizes = []
    for row in range(4):
        clean = image[row].double().numpy()

        def project(point: np.ndarray, clean: np.ndarray = clean) -> np.ndarray:
            way = point - clean
            if norm == "linf":
                return np.asarray(clean + np.clip(way, -epsilon, epsilon))
            return np.asarray(
                clean + way * min(1.0, epsilon / max(float(np.linalg.norm(way)), 1e-30))
            )

        reference = Reference(
            _function(_hills), project, norm, epsilon, steps, list(checkpoints(steps))
        )
        best, value = reference.run(starts[row].double().numpy())
        sizes.append(tuple(reference.sizes))
        assert float(values[row]) == pytest.approx(value, rel=1e-4)
        # Near the top rounding decides which of two values is the higher, and so what follows.
        np.testing.assert_allclose(
            found[row].numpy(), best, rtol=0, atol=4e-3 if steps == 30 else 1e-4
        )
    if steps > 5:
        # Step sizes were halved, and not at the same time everywhere.
        assert all(min(one) < epsilon for one in sizes)
        assert len(set(sizes)) > 1


class Recorded:
    """A batch that keeps what it was asked for."""

    def __init__(self, batch: AttackBatch) -> None:
        self.batch = batch
        self.images: list[Tensor] = []
        self.values: list[Tensor] = []

    def look(self) -> AttackBatch:
        """The same batch, whose ``ascent`` writes down images and values."""
        made = self.batch
        plain = made.ascent

        def ascent(objective: str, image: Tensor) -> Ascent:
            found = plain(objective, image)
            self.images.append(image)
            self.values.append(found.value)
            return found

        object.__setattr__(made, "ascent", ascent)
        return made


def test_the_best_point_met_is_kept() -> None:
    recorded = Recorded(slices_batch(ConvNet().eval()))
    batch = recorded.look()
    found = images_of(Apgd("a", (0.1,), steps=12, high=1.0), batch)[0, 0]
    best = objective_of(batch, found)
    met = torch.stack(recorded.values)
    assert (best >= met.amax(dim=0) - 1e-4).all()
    assert (met.amax(dim=0) > met[0]).all()


def test_one_image_s_halving_leaves_the_others_their_step_size() -> None:
    """On a slope every step rises until the corner is reached; hills are climbed by halving."""
    flat = torch.full((1, 1, 4, 4), 0.1)
    image = torch.cat([flat, flat])
    centre = torch.tensor([0.13, 9.0]).reshape(2, 1, 1, 1)

    def network(images: Tensor) -> Tensor:
        return -((images - centre) ** 2)

    recorded = Recorded(toy_batch(network, image))
    attack = Apgd("a", (0.09,), objective="logit_sum", steps=40, low=-9.0, high=9.0)
    found = images_of(attack, recorded.look())[0, 0]
    # Halving from 0.18 six times leaves steps of less than 0.003 around the top of the hill.
    assert float((found[0] - 0.13).abs().max()) < 3e-3
    torch.testing.assert_close(found[1], flat[0] + 0.09, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_it_beats_pgd_of_the_same_number_of_steps_where_steps_of_one_length_circle(
    norm: Norm,
) -> None:
    image = 0.2 * torch.rand((8, 1, 5, 5), generator=torch.Generator().manual_seed(1))
    centre = torch.full((1, 5, 5), 0.1)

    def network(images: Tensor) -> Tensor:
        return -((images - centre) ** 2)

    batch = toy_batch(network, image)
    epsilon = 0.15 if norm == "linf" else 1.0
    values = [
        objective_of(batch, images_of(attack, batch)[0, 0], "logit_sum")
        for attack in (
            Apgd("a", (epsilon,), norm=norm, objective="logit_sum", steps=40),
            Pgd("a", (epsilon,), norm=norm, objective="logit_sum", steps=40),
        )
    ]
    assert (values[0] > values[1]).all()


def test_without_a_gradient_it_stays_at_its_start() -> None:
    batch = toy_batch(Linear(torch.zeros(1, 4, 4)), torch.full((2, 1, 4, 4), 0.1))
    attack = Apgd("a", (0.05,), steps=9)
    (start,) = attack._starts(batch, attack.budget(batch, 0.05), 0, repeat=0)
    assert torch.equal(images_of(attack, batch)[0, 0], start)


def test_checkpoints_halve_where_too_few_steps_rose_or_nothing_came_of_them() -> None:
    """Values met by two images between checkpoints, and the step sizes that must follow."""
    image = torch.zeros(2, 1, 1, 1)
    within = budget(image, image == 0, -9.0, 9.0, 1.0, "linf")
    walk = _Walk(within, image, torch.tensor([10.0, 0.0]), torch.ones_like(image))
    stretches: list[tuple[list[float], list[float], list[float]]] = [
        # Three of four rise, though not to the best of the first image; the second one's best does.
        ([1, 2, 3, 4], [1, 2, 3, 4], [1.0, 2.0]),
        # The first image went back to 10; its step size has just changed. The second is stuck.
        ([5, 6, 7, 8], [1, 2, 3, 3.5], [1.0, 1.0]),
        # Unchanged step size and best value: stuck. The second stays level, which is no rise.
        ([8.1, 8.2, 8.3, 8.4], [4, 4, 4, 4], [0.5, 0.5]),
        # Two of four are too few, though the best one grew.
        ([11, 9, 10, 9], [5, 6, 7, 8], [0.25, 0.5]),
    ]
    for first, second, expected in stretches:
        for values in zip(first, second, strict=True):
            walk.arrive(walk.next_image(), torch.tensor(values), torch.ones_like(image))
        walk.check()
        assert walk.step_size.tolist() == expected
    assert walk.best.value.tolist() == [11.0, 8.0]
