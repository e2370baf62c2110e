"""Auto-PGD: projected gradient descent that finds its step size by itself."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import AttackBatch, Passes
from robustness.best import Best, chosen
from robustness.norms import Budget, steepest
from robustness.pgd import RandomStarts

MOMENTUM = 0.75
# Fewer steps than this share of a stretch went up: the step size is too large.
RISING_SHARE = 0.75


@dataclass(frozen=True)
class Apgd(RandomStarts):
    """Auto-PGD: steps with momentum, halved at checkpoints where they no longer help.

    The first step is 2 epsilon long. At a checkpoint an image's step size is halved, and it goes on
    from its best point, if fewer than 3/4 of the steps since the last checkpoint raised the
    objective, or if neither step size nor best value have changed since then. The best point met
    is what is kept.

    Args:
        steps: How many steps are taken.

    References:
        Croce, Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks, ICML 2020, algorithm 1.
    """

    steps: int = 50

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        self.check_at_least_one("steps", self.steps)

    @property
    def passes(self) -> Passes:
        """A gradient for each step, and a forward pass to see where the last one led."""
        return Passes(self._climbs * (self.steps + 1), self._climbs * self.steps)

    def _climb(self, batch: AttackBatch, within: Budget, start: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient, _ = batch.ascent(self.objective, start)
        walk = _Walk(within, start, value, gradient)
        stops = set(checkpoints(self.steps))
        for step in range(1, self.steps):
            image = walk.next_image()
            value, gradient, _ = batch.ascent(self.objective, image)
            walk.arrive(image, value, gradient)
            if step in stops:
                walk.check()
        image = walk.next_image()
        walk.arrive(image, batch.value(self.objective, image), gradient)
        return walk.best.image, walk.best.value


class _Walk:
    """Where each image of a batch stands, how it got there, and its best point so far."""

    def __init__(self, within: Budget, image: Tensor, value: Tensor, gradient: Tensor) -> None:
        self.within = within
        self.best = Best(image)
        self.best.show(image, value)
        self.image = self.before = image
        self.value = self.best_value_then = value
        self.gradient = self.best_gradient = gradient
        self.step_size = torch.full_like(value, 2 * within.epsilon)
        self.halved = torch.zeros_like(value, dtype=torch.bool)
        self.risen = torch.zeros_like(value)
        self.taken = 0
        self.first = True

    def next_image(self) -> Tensor:
        """One step along the gradient, and on along the step before."""
        within = self.within
        way = steepest(within.movable(self.gradient), within.norm)
        ahead = within.project(self.image + self.step_size[:, None, None, None] * way)
        if self.first:
            return ahead
        push = MOMENTUM * (ahead - self.image) + (1 - MOMENTUM) * (self.image - self.before)
        return within.project(self.image + push)

    def arrive(self, image: Tensor, value: Tensor, gradient: Tensor) -> None:
        """Take the step, and remember the point if it is the best."""
        self.risen = self.risen + (value > self.value)
        self.taken += 1
        self.first = False
        self.before, self.image, self.value, self.gradient = self.image, image, value, gradient
        better = self.best.show(image, value)
        self.best_gradient = chosen(better, gradient, self.best_gradient)

    def check(self) -> None:
        """Halve the step size and go back to the best point where the last steps did not help."""
        few = self.risen < RISING_SHARE * self.taken
        stuck = ~self.halved & (self.best.value == self.best_value_then)
        self.halved = few | stuck
        self.step_size = torch.where(self.halved, self.step_size / 2, self.step_size)
        self.image = chosen(self.halved, self.best.image, self.image)
        self.gradient = chosen(self.halved, self.best_gradient, self.gradient)
        self.value = torch.where(self.halved, self.best.value, self.value)
        self.best_value_then = self.best.value
        self.risen = torch.zeros_like(self.risen)
        self.taken = 0


def checkpoints(steps: int) -> Iterator[int]:
    """After how many steps the step size is looked at: ceil(p N), ever closer to each other.

    p starts with 0.22 and grows by 0.03 less each time, though by 0.06 at least.

    Args:
        steps: How many steps there are, N.

    Yields:
        Rising numbers of steps, up to N.
    """
    share, stretch, last = 0.22, 0.22, 0
    while share <= 1:
        # Without the digits that binary fractions add: 0.22 * 50 is eleven steps, not twelve.
        stop = math.ceil(round(share * steps, 9))
        if stop > last:
            yield stop
        last = stop
        stretch = max(stretch - 0.03, 0.06)
        share += stretch
