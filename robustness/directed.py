"""Attacks bounded by a norm: what they share, the ones that start at the clean image, and noise.

Epsilon is in the units of the batch, after scaling. Those that start at random points are in
``robustness.pgd``, the one that finds its own step size in ``robustness.apgd``.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import Attack, AttackBatch, Passes, check_name
from robustness.norms import NORMS, Budget, Norm, budget, lengths, steepest


@dataclass(frozen=True)
class EpsilonAttack(Attack):
    """Disturbs images by at most epsilon; what all attacks that are bounded by a norm share.

    A pixel stays between ``min(low, clean)`` and ``max(high, clean)``: one that is clean outside
    of the range is not forced into it. At epsilon 0 the image is the clean one, without a pass.

    Args:
        name: Unique name, such as ``pgd_linf``.
        epsilons: Rising lengths of the disturbance, 0 or more, in image units (after scaling).
        norm: ``linf`` (the largest change of a pixel) or ``l2`` (the Euclidean length of all).
        low: Lower end of the range that pixels may be moved in, in image units.
        high: Upper end of that range, in image units.
        valid_only: Whether padding is left alone.
        repeats: How often each epsilon is tried with other random numbers.

    Raises:
        ValueError: If a setting makes no sense.
    """

    epsilons: tuple[float, ...]
    norm: Norm = "linf"
    low: float = 0.0
    high: float = 0.2
    valid_only: bool = True
    repeats: int = 1

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        check_name(self.name)
        given = self.epsilons
        if not given or not all(0 <= epsilon < math.inf for epsilon in given):
            self.refuse("epsilons", given, "one or more finite numbers, 0 or more")
        self.check_rising("epsilons", given)
        self.check_option("norm", self.norm, NORMS)
        self.check_range(self.low, self.high)
        self.check_at_least_one("repeats", self.repeats)

    @property
    def axis(self) -> str:
        """The longest disturbance."""
        return "epsilon"

    @property
    def unit(self) -> str:
        """Epsilons are in the units of the batch, after scaling."""
        return "image intensity"

    @property
    def points(self) -> tuple[float, ...]:
        """The epsilons."""
        return tuple(float(epsilon) for epsilon in self.epsilons)

    def epsilon_share(self, epsilon: float) -> float:
        """Epsilon in parts of the range from ``low`` to ``high``, for reports."""
        return epsilon / (self.high - self.low)

    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        """Each epsilon is attacked anew; see :meth:`Attack.disturb`."""
        for repeat in range(self.repeats):
            for index, epsilon in enumerate(self.points):
                within = self.budget(batch, epsilon)
                disturbed = self.attacked(batch, within, seed, repeat) if epsilon else batch.image
                yield index, repeat, disturbed

    @abstractmethod
    def attacked(self, batch: AttackBatch, within: Budget, seed: int, repeat: int) -> Tensor:
        """Images of one budget, whose epsilon is above 0.

        Args:
            batch: The clean slices.
            within: Where the images may be.
            seed: The seed of the attacks.
            repeat: Which repetition.

        Returns:
            Shape ``(B, C, H, W)``.
        """

    def budget(self, batch: AttackBatch, epsilon: float) -> Budget:
        """Where the images may be at one epsilon."""
        movable = batch.movable(valid_only=self.valid_only)
        return budget(batch.image, movable, self.low, self.high, epsilon, self.norm)

    @property
    def attacked_points(self) -> int:
        """How many epsilons are above 0, so that something is computed for them."""
        return sum(epsilon > 0 for epsilon in self.epsilons)

    def check_at_least_one(self, what: str, found: int) -> None:
        """Refuse a number below 1."""
        if found < 1:
            self.refuse(what, found, "1 or more")


@dataclass(frozen=True)
class DirectedAttack(EpsilonAttack):
    """Follows the gradient of an objective, which it increases.

    Args:
        objective: What is increased: ``bce``, ``balanced_bce``, ``soft_dice``, ``margin``,
            ``masked_bce``, ``js``, or another name that the evaluation knows.
    """

    objective: str = "bce"


@dataclass(frozen=True)
class CleanStart(DirectedAttack):
    """Takes its first step along the gradient on the clean images, which all epsilons share."""

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        if self.repeats != 1:
            self.refuse("repeats", self.repeats, "1, since nothing in it is random")

    @property
    def clean_gradients(self) -> frozenset[str]:
        """That of the objective, unless every epsilon is 0."""
        return frozenset({self.objective}) if self.attacked_points else frozenset()

    def degenerate(self, batch: AttackBatch) -> Tensor:
        """True where no pixel that may change has a gradient; bool, shape ``(B,)``."""
        if not self.attacked_points:
            return super().degenerate(batch)
        within = self.budget(batch, self.epsilons[-1])
        return (within.movable(batch.gradient(self.objective)) == 0).flatten(1).all(dim=1)


@dataclass(frozen=True)
class Fgsm(CleanStart):
    """Fast gradient sign method: one step of length epsilon along the gradient's sign.

    In the Euclidean norm it goes along the gradient itself. Either is the best that can be done
    about the objective's linear model at the clean image, range and padding minded.

    References:
        Goodfellow, Shlens, Szegedy: Explaining and harnessing adversarial examples, ICLR 2015.
    """

    @property
    def passes(self) -> Passes:
        """One gradient on the clean slices."""
        return Passes(1, 1) if self.attacked_points else Passes(0, 0)

    def attacked(self, batch: AttackBatch, within: Budget, seed: int, repeat: int) -> Tensor:
        """One step; see :meth:`EpsilonAttack.attacked`."""
        return within.farthest(batch.gradient(self.objective))


@dataclass(frozen=True)
class IteratedFgsm(CleanStart):
    """Iterated FGSM (basic iterative method): small steps from the clean image, each projected.

    It is PGD without its random start.

    Args:
        steps: How many steps are taken.
        step_size: Length of a step in parts of epsilon.

    References:
        Kurakin, Goodfellow, Bengio: Adversarial examples in the physical world, ICLR workshop 2017.
    """

    steps: int = 10
    step_size: float = 0.1

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        check_steps(self, self.steps, self.step_size)

    @property
    def passes(self) -> Passes:
        """A gradient for each step, the first one shared by all epsilons."""
        found = 1 + self.attacked_points * (self.steps - 1) if self.attacked_points else 0
        return Passes(found, found)

    def attacked(self, batch: AttackBatch, within: Budget, seed: int, repeat: int) -> Tensor:
        """All steps; see :meth:`EpsilonAttack.attacked`."""
        image = batch.image
        way = torch.zeros_like(image)
        for step in range(self.steps):
            gradient = (
                batch.ascent(self.objective, image).gradient
                if step
                else batch.gradient(self.objective)
            )
            way = self._way(way, within.movable(gradient))
            stride = self.step_size * within.epsilon
            image = within.project(image + stride * steepest(way, self.norm))
        return image

    def _way(self, before: Tensor, gradient: Tensor) -> Tensor:
        """Where the next step goes, from the way of the one before."""
        return gradient


@dataclass(frozen=True)
class MomentumFgsm(IteratedFgsm):
    """Momentum iterated FGSM: steps along a sum of gradients, each divided by its L1 length.

    Args:
        decay: How much of the sum is kept at each step; 0 is :class:`IteratedFgsm`.

    References:
        Dong et al.: Boosting adversarial attacks with momentum, CVPR 2018, algorithm 1.
    """

    decay: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        if not 0 <= self.decay < math.inf:
            self.refuse("decay", self.decay, "a finite number, 0 or more")

    def _way(self, before: Tensor, gradient: Tensor) -> Tensor:
        # Divided by its largest value first: the sum of very small ones would vanish in float32.
        largest = lengths(gradient, "linf")[:, None, None, None]
        scaled = gradient / torch.where(largest > 0, largest, 1)
        total = scaled.abs().flatten(1).sum(dim=1)[:, None, None, None]
        return self.decay * before + scaled / total.clamp(min=1)


@dataclass(frozen=True)
class NoiseControl(EpsilonAttack):
    """The control of directed attacks: noise of full length, found without the network.

    Every pixel goes up or down by epsilon at random, or, in the Euclidean norm, all of them along a
    random direction. It is the same direction at every epsilon.
    """

    @property
    def passes(self) -> Passes:
        """None."""
        return Passes(0, 0)

    def attacked(self, batch: AttackBatch, within: Budget, seed: int, repeat: int) -> Tensor:
        """Noise; see :meth:`EpsilonAttack.attacked`."""
        name = f"{self.name}/noise"
        if self.norm == "l2":
            return within.farthest(normals(batch, seed, name, repeat))
        # Half a step of the random numbers: none of them is 0, and half of them are below it.
        return within.farthest(centred_uniforms(batch, seed, name, repeat) + 2.0**-24)


def centred_uniforms(batch: AttackBatch, seed: int, name: str, repeat: int) -> Tensor:
    """Keyed random numbers, uniform in [-1, 1), one for each number of the images."""
    drawn = batch.uniforms(seed, name, repeat, batch.image[0].numel())
    return (2 * drawn - 1).reshape(batch.image.shape)


def normals(batch: AttackBatch, seed: int, name: str, repeat: int) -> Tensor:
    """Keyed random numbers, normally distributed, one for each number of the images."""
    count = batch.image[0].numel()
    length, angle = (
        batch.uniforms(seed, f"{name}/{part}", repeat, count) for part in ("length", "angle")
    )
    return box_muller(length, angle).reshape(batch.image.shape)


def box_muller(length: Tensor, angle: Tensor) -> Tensor:
    """Standard normal numbers from two uniform ones each.

    Args:
        length: Uniform in [0, 1), any shape.
        angle: Uniform in [0, 1), same shape, independent of the others.

    Returns:
        Same shape.

    References:
        Box, Muller: A note on the generation of random normal deviates, 1958.
    """
    return (-2 * torch.log1p(-length)).sqrt() * (2 * math.pi * angle).cos()


def check_steps(attack: EpsilonAttack, steps: int, step_size: float) -> None:
    """Refuse numbers of steps below 1 and steps of no length."""
    attack.check_at_least_one("steps", steps)
    if not 0 < step_size < math.inf:
        attack.refuse("step_size", step_size, "a finite number above 0, in parts of epsilon")
