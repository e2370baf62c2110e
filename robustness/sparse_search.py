"""Attacks on a fixed number of pixels that see nothing but the network's outputs."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import AttackBatch, Passes
from robustness.best import Best
from robustness.keyed_random import counter_hashes, uniforms
from robustness.ranking import rank_at_random
from robustness.sparse import SparseAttack
from robustness.values import DRAWN_VALUES, SALT_AND_PEPPER, replace_pixels

# From which iteration on, of 10000, the share of exchanged pixels is divided by what.
_SCHEDULE = (
    (1, 2),
    (51, 4),
    (201, 5),
    (501, 6),
    (1001, 8),
    (2001, 10),
    (4001, 12),
    (6001, 15),
    (8001, 20),
)
_SCHEDULE_LENGTH = 10_000


@dataclass(frozen=True)
class SearchAttack(SparseAttack):
    """What the gradient-free attacks share: one search for each repeat and number of pixels."""

    repeats: int = 1

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        self._at_least(1, repeats=self.repeats)

    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        """All slices are searched in step; see :meth:`Attack.disturb`."""
        allowed = self._allowed(batch)
        for repeat in range(self.repeats):
            for index, count in enumerate(self.counts):
                yield index, repeat, self._found(batch, allowed, count, (seed, repeat))

    @abstractmethod
    def _found(
        self, batch: AttackBatch, allowed: Tensor, count: int, draw: tuple[int, int]
    ) -> Tensor:
        """The strongest images with ``count`` changed pixels; ``draw`` is seed and repeat."""


@dataclass(frozen=True)
class SparseRandomSearch(SearchAttack):
    """Random search over sets of pixels whose channels are each at an end of the range.

    Starting at random pixels, each query exchanges a share of them for others with new random
    ends, and keeps the new set if the objective is higher. The share shrinks in steps; the schedule
    is stretched to the number of queries.

    Args:
        name: Unique name.
        counts: Rising numbers of pixels.
        objective: What is increased, by name.
        low: Lower end of the range, in image units.
        high: Upper end of the range, in image units.
        valid_only: Whether padding is left alone.
        repeats: How often it is run with other random numbers.
        queries: Forward passes for each number of pixels.
        alpha: The share of pixels that the schedule starts from.

    Raises:
        ValueError: If a setting makes no sense.

    References:
        Croce et al., Sparse-RS: a versatile framework for query-efficient sparse black-box
        adversarial attacks, AAAI 2022, algorithms 1 and 2; the schedule is its L0 schedule.
    """

    queries: int = 1000
    alpha: float = 0.3

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        self._at_least(1, queries=self.queries)
        if not 0 < self.alpha <= 1:
            self.refuse("alpha", self.alpha, "a share above 0, at most 1")

    @property
    def passes(self) -> Passes:
        """The queries of each point and repeat."""
        return Passes(self.queries * self.repeats * len(self.counts), 0)

    def exchanged(self, query: int, count: int) -> int:
        """How many of ``count`` pixels a query exchanges; query 0 draws all of them."""
        place = query * _SCHEDULE_LENGTH // self.queries
        divisor = max((by for start, by in _SCHEDULE if place >= start), default=1)
        return max(int(self.alpha * count / divisor), 1)

    def _found(
        self, batch: AttackBatch, allowed: Tensor, count: int, draw: tuple[int, int]
    ) -> Tensor:
        seed, repeat = draw
        best = Best(batch.image)
        keys = self._hashes(batch, seed, "start", (count,), repeat)
        pixels = rank_at_random(keys, 0, allowed, count)
        ends = self._ends(keys, batch.image.shape[1], count)
        image = replace_pixels(batch.image, pixels, ends)
        best.show(image, batch.value(self.objective, image))
        for query in range(1, self.queries):
            keys = self._hashes(batch, seed, "search", (count, query), repeat)
            others, other_ends = self._exchange(keys, allowed, pixels, ends, query)
            image = replace_pixels(batch.image, others, other_ends)
            better = best.show(image, batch.value(self.objective, image))
            pixels = torch.where(better[:, None], others, pixels)
            ends = torch.where(better[:, None, None], other_ends, ends)
        return best.image

    def _ends(self, keys: Tensor, channels: int, count: int) -> Tensor:
        """Ends of the range at random, shape ``(B, C, count)``."""
        drawn = uniforms(counter_hashes(keys, 1, channels * count))
        ends = DRAWN_VALUES[SALT_AND_PEPPER](drawn, self.low, self.high)
        return ends.reshape(-1, channels, count)

    def _exchange(
        self, keys: Tensor, allowed: Tensor, pixels: Tensor, ends: Tensor, query: int
    ) -> tuple[Tensor, Tensor]:
        """Sets with some pixels exchanged; where none is left outside they get new ends alone."""
        channels, count = ends.shape[1:]
        outside = allowed.flatten(1).scatter(1, pixels, value=False)
        number = min(self.exchanged(query, count), outside.shape[1])
        places = counter_hashes(keys, 2, count).topk(number, dim=1).indices
        new = rank_at_random(keys, 0, outside[:, None], number)
        new = torch.where(outside.gather(1, new), new, pixels.gather(1, places))
        at = places[:, None].expand(-1, channels, -1)
        exchanged_ends = ends.scatter(2, at, self._ends(keys, channels, number))
        return pixels.scatter(1, places, new), exchanged_ends
