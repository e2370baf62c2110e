"""Projected gradient descent from random starts, and its variants for dense predictions."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import AttackBatch, Passes
from robustness.best import Best
from robustness.directed import DirectedAttack, centred_uniforms, check_steps, normals
from robustness.norms import Budget, steepest
from robustness.objectives import PIXEL_LOSSES, Objective, is_right, sum_where, truth_logits


@dataclass(frozen=True)
class RandomStarts(DirectedAttack):
    """Starts at random points of the budget; of all restarts each slice keeps the best image.

    A restart starts in the same direction at every epsilon, and is the same however many follow.

    Args:
        restarts: How many random starts are tried.
        starts_like: Name of another attack whose random starts are taken, so that the two differ in
            what follows alone; empty for starts of its own.
    """

    restarts: int = 1
    starts_like: str = ""

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        self.check_at_least_one("restarts", self.restarts)

    def attacked(self, batch: AttackBatch, within: Budget, seed: int, repeat: int) -> Tensor:
        """The best of all restarts; see :meth:`EpsilonAttack.attacked`."""
        best = Best(batch.image)
        for start in self._starts(batch, within, seed, repeat):
            best.show(*self._climb(batch, within, start))
        return best.image

    @abstractmethod
    def _climb(self, batch: AttackBatch, within: Budget, start: Tensor) -> tuple[Tensor, Tensor]:
        """The image that one start leads to and the objective there, shape ``(B,)``."""

    def _starts(
        self, batch: AttackBatch, within: Budget, seed: int, repeat: int
    ) -> Iterator[Tensor]:
        for restart in range(self.restarts):
            name = f"{self.starts_like or self.name}/start/{restart}"
            radius = batch.uniforms(seed, f"{name}/radius", repeat, 1)[:, 0]
            draw = normals if self.norm == "l2" else centred_uniforms
            yield within.at(draw(batch, seed, name, repeat), radius)

    @property
    def _climbs(self) -> int:
        """How many climbs there are over all epsilons, repeats and restarts."""
        return self.attacked_points * self.repeats * self.restarts


@dataclass(frozen=True)
class Pgd(RandomStarts):
    """Projected gradient descent: steps of one length from random points, each projected.

    Args:
        steps: How many steps are taken.
        step_size: Length of a step in parts of epsilon.

    References:
        Madry et al.: Towards deep learning models resistant to adversarial attacks, ICLR 2018.
    """

    steps: int = 20
    step_size: float = 0.25

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        check_steps(self, self.steps, self.step_size)

    @property
    def passes(self) -> Passes:
        """A gradient for each step, and a forward pass to compare restarts where there are any."""
        compared = int(self.restarts > 1)
        return Passes(self._climbs * (self.steps + compared), self._climbs * self.steps)

    def _climb(self, batch: AttackBatch, within: Budget, start: Tensor) -> tuple[Tensor, Tensor]:
        image = start
        for step in range(self.steps):
            gradient = within.movable(batch.ascent(self._climbed(step), image).gradient)
            stride = self.step_size * within.epsilon
            image = within.project(image + stride * steepest(gradient, self.norm))
        if self.restarts == 1:
            return image, image.new_zeros(len(image))
        return image, batch.value(self.objective, image)

    def _climbed(self, step: int) -> str | Objective:
        """What the gradient of a step, counted from 0, is taken of."""
        return self.objective


@dataclass(frozen=True)
class WeightedPgd(Pgd):
    """PGD that weighs the pixels of an objective that is a sum over them.

    Restarts are compared by the objective without weights.
    """

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        self.check_option("objective", self.objective, tuple(PIXEL_LOSSES))

    def _climbed(self, step: int) -> Objective:
        loss = PIXEL_LOSSES[self.objective]

        def weighted(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
            weights = self._weights(logits.detach(), target, step)
            return sum_where(valid, weights * loss(logits, target, valid))

        return weighted

    @abstractmethod
    def _weights(self, logits: Tensor, target: Tensor, step: int) -> Tensor:
        """The weight of each pixel and class at a step, counted from 0; shape of the logits."""


@dataclass(frozen=True)
class SegPgd(WeightedPgd):
    """PGD that turns from the pixels that are still right to all of them as it goes on.

    At step t of T, counted from 1, right pixels weigh 1 - l and wrong ones l = (t - 1) / (2 T).

    References:
        Gu et al.: SegPGD: An effective and efficient adversarial attack for evaluating and boosting
        segmentation robustness, ECCV 2022, section 3.
    """

    def _weights(self, logits: Tensor, target: Tensor, step: int) -> Tensor:
        share = step / (2 * self.steps)
        return torch.where(is_right(logits, target), 1 - share, share)


@dataclass(frozen=True)
class CosPgd(WeightedPgd):
    """PGD that weighs a pixel by how well its prediction is aligned with the truth.

    The weight is the cosine of the angle between (p, 1 - p) and (y, 1 - y), for each pixel and
    class: q / sqrt(q^2 + (1 - q)^2) with q the probability of the truth. No gradient is taken of
    it.

    References:
        Agnihotri, Jung, Keuper: CosPGD: An efficient white-box adversarial attack for pixel-wise
        prediction tasks, ICML 2024, section 3.
    """

    def _weights(self, logits: Tensor, target: Tensor, step: int) -> Tensor:
        truth = truth_logits(logits, target)
        return truth.sigmoid() / torch.hypot(truth.sigmoid(), (-truth).sigmoid())
