"""Attacks on a fixed number of pixels: what they share, and projected gradient ascent."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import Attack, AttackBatch, Passes, check_name
from robustness.best import Best
from robustness.keyed_random import absorb, counter_hashes, slice_keys, uniforms
from robustness.ranking import rank_at_random, rank_by_score
from robustness.values import replace_pixels


@dataclass(frozen=True)
class SparseAttack(Attack):
    """Changes as many pixels as each point says, all channels of a pixel counting as one.

    Args:
        name: Unique name.
        counts: Rising numbers of pixels.
        objective: What is increased, by name.
        low: Lower end of the values that a pixel may take, in image units.
        high: Upper end of the values that a pixel may take, in image units.
        valid_only: Whether padding is left alone.
    """

    counts: tuple[int, ...]
    objective: str = "soft_dice"
    low: float = 0.0
    high: float = 0.2
    valid_only: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        check_name(self.name)
        self.check_rising("counts", self.counts)
        if self.counts[0] < 1:
            self.refuse("counts", self.counts, "1 or more pixels at each point")
        self.check_range(self.low, self.high)

    @property
    def axis(self) -> str:
        """How many pixels may change."""
        return "pixels"

    @property
    def unit(self) -> str:
        """Pixels of each slice."""
        return "pixels per slice"

    @property
    def points(self) -> tuple[float, ...]:
        """The numbers of pixels."""
        return tuple(float(count) for count in self.counts)

    def _allowed(self, batch: AttackBatch) -> Tensor:
        """Where pixels may change, shape ``(B, 1, H, W)``.

        Raises:
            ValueError: If a slice has fewer pixels than the last point asks for.
        """
        allowed = batch.movable(valid_only=self.valid_only)
        room = allowed.flatten(1).sum(dim=1)
        if (room < self.counts[-1]).any():
            what = "valid pixels" if self.valid_only else "pixels"
            expected = f"at most {int(room.min())}, all {what} of a slice"
            self.refuse("the number of pixels", self.counts[-1], expected)
        return allowed

    def _hashes(
        self, batch: AttackBatch, seed: int, purpose: str, steps: tuple[int, ...], repeat: int
    ) -> Tensor:
        """One hash state for each slice that depends on what it is for, shape ``(B,)``.

        ``steps`` are further numbers, such as the number of pixels and the iteration.
        """
        name = f"{self.name}/{purpose}"
        keys = slice_keys(seed, name, batch.case_keys, batch.slice_index)
        for step in (*steps, repeat):
            keys = absorb(keys, step)
        return keys

    def _without_gradient(self, batch: AttackBatch) -> Tensor:
        """True where no pixel that may change has a gradient; shape ``(B,)``."""
        gradient = batch.gradient(self.objective)
        allowed = batch.movable(valid_only=self.valid_only)
        return (gradient * allowed == 0).flatten(1).all(dim=1)

    def _at_least(self, least: int, **found: int) -> None:
        """Refuse numbers that are too small."""
        for what, number in found.items():
            if number < least:
                self.refuse(what, number, f"{least} or more")


@dataclass(frozen=True)
class PgdL0(SparseAttack):
    """Projected gradient ascent on a fixed number of pixels.

    A step follows the gradient, divided by its L1 norm. The projection clips to the range and keeps
    those pixels that lose most when put back to their clean values. The strongest image on the way
    is taken, of all restarts. The first one starts at the clean image, the others at random pixels
    of random values: few pixels are stuck early, so that restarts gain more than steps.

    Args:
        name: Unique name.
        counts: Rising numbers of pixels.
        objective: What is increased, by name.
        low: Lower end of the values that a pixel may take, in image units.
        high: Upper end of the values that a pixel may take, in image units.
        valid_only: Whether padding is left alone.
        steps: Gradient steps of each restart.
        step_size: Mean absolute change of a pixel's channel by one step before the projection, in
            image units: the L1 norm of a step by the number of values that may change.
        restarts: How often it starts anew.

    Raises:
        ValueError: If a setting makes no sense.

    References:
        Croce and Hein, Sparse and imperceivable adversarial attacks, ICCV 2019, section 3.
    """

    steps: int = 40
    step_size: float = 0.1
    restarts: int = 5

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        self._at_least(1, steps=self.steps, restarts=self.restarts)
        if not 0 < self.step_size < math.inf:
            self.refuse("step_size", self.step_size, "a finite number above 0")

    @property
    def repeats(self) -> int:
        """Random starts are restarts: the strongest of them counts."""
        return 1

    @property
    def clean_gradients(self) -> frozenset[str]:
        """That of the objective."""
        return frozenset({self.objective})

    @property
    def passes(self) -> Passes:
        """The clean gradient once, one of each further image, a value after the last step."""
        restarts = self.restarts - 1
        backward = self.steps - 1 + restarts * self.steps
        points = len(self.counts)
        return Passes(1 + points * (backward + self.restarts), 1 + points * backward)

    def degenerate(self, batch: AttackBatch) -> Tensor:
        """True where no pixel that may change has a gradient; shape ``(B,)``."""
        return self._without_gradient(batch)

    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        """One ascent for each number of pixels; see :meth:`Attack.disturb`."""
        allowed = self._allowed(batch)
        for index, count in enumerate(self.counts):
            best = Best(batch.image)
            for restart in range(self.restarts):
                self._ascend(batch, allowed, count, best, (seed, restart))
            yield index, 0, best.image

    def _ascend(
        self,
        batch: AttackBatch,
        allowed: Tensor,
        count: int,
        best: Best,
        start: tuple[int, int],
    ) -> None:
        seed, restart = start
        image = batch.image
        if restart > 0:
            keys = self._hashes(batch, seed, "start", (count,), restart)
            image = random_pixels(batch.image, allowed, keys, count, (self.low, self.high))
        for step in range(self.steps):
            if restart == 0 and step == 0:
                gradient = batch.gradient(self.objective)
            else:
                found = batch.ascent(self.objective, image)
                best.show(image, found.value)
                gradient = found.gradient
            image = self._projected(
                batch.image, image + self._step(gradient, allowed), allowed, count
            )
        best.show(image, batch.value(self.objective, image))

    def _step(self, gradient: Tensor, allowed: Tensor) -> Tensor:
        gradient = gradient * allowed
        norm = gradient.abs().flatten(1).sum(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        length = self.step_size * allowed.flatten(1).sum(dim=1) * gradient.shape[1]
        return gradient / norm[:, None, None, None] * length[:, None, None, None]

    def _projected(self, clean: Tensor, image: Tensor, allowed: Tensor, count: int) -> Tensor:
        """The closest image in the range that differs from the clean one in ``count`` pixels."""
        clipped = image.clamp(self.low, self.high)
        # The difference of the squared distances to the clean value and to the clipped one.
        gain = ((clipped - clean) * ((image - clean) + (image - clipped))).sum(dim=1, keepdim=True)
        pixels = rank_by_score(gain, count, allowed)
        index = pixels[:, None].expand(-1, clean.shape[1], -1)
        return replace_pixels(clean, pixels, clipped.flatten(2).gather(2, index))


def random_pixels(
    image: Tensor, allowed: Tensor, keys: Tensor, count: int, ends: tuple[float, float]
) -> Tensor:
    """Copies of images with random pixels replaced by uniform values, one for each channel.

    Args:
        image: Shape ``(B, C, H, W)``.
        allowed: Where pixels may change, shape ``(B, 1, H, W)``.
        keys: One hash state for each image, int64, shape ``(B,)``.
        count: How many pixels change.
        ends: Lower and upper end of the values.

    Returns:
        Shape ``(B, C, H, W)``.
    """
    pixels = rank_at_random(keys, 0, allowed, count)
    drawn = uniforms(counter_hashes(keys, 1, image.shape[1] * count))
    values = ends[0] + (ends[1] - ends[0]) * drawn
    return replace_pixels(image, pixels, values.reshape(-1, image.shape[1], count))
