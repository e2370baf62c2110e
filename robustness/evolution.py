"""One pixel, or a few, by differential evolution: the network's outputs are all it sees."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import AttackBatch, Passes
from robustness.best import Best
from robustness.keyed_random import counter_hashes, uniforms
from robustness.sparse_search import SearchAttack
from robustness.values import replace_pixels


@dataclass(frozen=True)
class OnePixelEvolution(SearchAttack):
    """Differential evolution over row, column and values of one pixel, or of a few.

    Each member of the population is one such set of pixels. A child is one random member plus a
    multiple of the difference of two others, all three distinct, without crossover, and replaces
    the member at its own place if the objective is higher. A child's position out of the valid
    region's box is drawn anew, a value out of the range goes to its end, and a pixel in padding
    inside the box does nothing.

    Args:
        name: Unique name.
        counts: Rising numbers of pixels, such as 1.
        objective: What is increased, by name.
        low: Lower end of the values, in image units.
        high: Upper end of the values, in image units.
        valid_only: Whether padding is left alone.
        repeats: How often it is run with other random numbers.
        population: Members of each generation; a forward pass for each.
        generations: How many follow on the first one.
        mutation: The multiple of the difference.

    Raises:
        ValueError: If a setting makes no sense.

    References:
        Su, Vargas, Sakurai, One pixel attack for fooling deep neural networks, IEEE Transactions on
        Evolutionary Computation 2019, section 3; there 400 members, 100 generations, multiple 0.5.
    """

    population: int = 40
    generations: int = 25
    mutation: float = 0.5

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        self._at_least(3, population=self.population)
        self._at_least(0, generations=self.generations)
        if not 0 < self.mutation < math.inf:
            self.refuse("mutation", self.mutation, "a finite number above 0")

    @property
    def passes(self) -> Passes:
        """One for each member of each generation, the first included."""
        queries = self.population * (self.generations + 1)
        return Passes(queries * self.repeats * len(self.counts), 0)

    def _found(
        self, batch: AttackBatch, allowed: Tensor, count: int, draw: tuple[int, int]
    ) -> Tensor:
        seed, repeat = draw
        best = Best(batch.image)
        keys = self._hashes(batch, seed, "start", (count,), repeat)
        place, values = self._first(batch, allowed, keys, count)
        fitness = self._fitness(batch, allowed, place, values, best)
        for generation in range(self.generations):
            keys = self._hashes(batch, seed, "evolve", (count, generation), repeat)
            parents = distinct_three(uniforms(counter_hashes(keys, 0, 3 * self.population)))
            new_values = self._mutated(values, parents).clamp(self.low, self.high)
            new_place = self._mutated(place, parents)
            drawn = uniforms(counter_hashes(keys, 1, new_place[0].numel())).view_as(new_place)
            new_place = redrawn(new_place, drawn, bounding_box(allowed))
            new_fitness = self._fitness(batch, allowed, new_place, new_values, best)
            better = (new_fitness > fitness)[:, :, None, None]
            place = torch.where(better, new_place, place)
            values = torch.where(better, new_values, values)
            fitness = torch.where(better[:, :, 0, 0], new_fitness, fitness)
        return best.image

    def _first(
        self, batch: AttackBatch, allowed: Tensor, keys: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """Allowed pixels and values, both uniform: ``(B, P, count, 2)``, ``(B, P, count, C)``."""
        channels, width = batch.image.shape[1], batch.image.shape[3]
        shape = (self.population, count)
        flat = allowed.flatten(1)
        pixels = flat.sort(dim=1, descending=True, stable=True).indices
        drawn = uniforms(counter_hashes(keys, 0, math.prod(shape)))
        number = flat.sum(dim=1, keepdim=True)
        chosen = pixels.gather(1, (drawn * number).long().minimum(number - 1))
        # Positions are the middles of pixels, so that rounding down favours no side.
        place = torch.stack([chosen // width, chosen % width], dim=-1) + 0.5
        drawn = uniforms(counter_hashes(keys, 1, math.prod(shape) * channels))
        values = self.low + (self.high - self.low) * drawn
        return place.reshape(-1, *shape, 2), values.reshape(-1, *shape, channels)

    def _mutated(self, members: Tensor, parents: Tensor) -> Tensor:
        """A child for each place of the population, from ``(B, P, count, n)`` to the same."""
        index = parents[:, :, :, None, None].expand(-1, -1, -1, *members.shape[2:])
        first, second, third = members[:, None].expand(-1, 3, -1, -1, -1).gather(2, index).unbind(1)
        return first + self.mutation * (second - third)

    def _fitness(
        self, batch: AttackBatch, allowed: Tensor, place: Tensor, values: Tensor, best: Best
    ) -> Tensor:
        """The objective of each member by a forward pass, shape ``(B, P)``."""
        fitness = []
        for member in range(self.population):
            image = placed(batch.image, allowed, place[:, member], values[:, member])
            value = batch.value(self.objective, image)
            best.show(image, value)
            fitness.append(value)
        return torch.stack(fitness, dim=1)


def distinct_three(drawn: Tensor) -> Tensor:
    """Three distinct members of a population for each of its places, evenly.

    Args:
        drawn: Uniform in [0, 1), shape ``(B, 3 P)``.

    Returns:
        int64, shape ``(B, 3, P)``.
    """
    population = drawn.shape[1] // 3
    first, second, third = (
        (numbers * left).long().clamp(max=left - 1)
        for numbers, left in zip(
            drawn.reshape(-1, 3, population).unbind(1),
            (population, population - 1, population - 2),
            strict=True,
        )
    )
    second = second + (second >= first)
    third = third + (third >= torch.minimum(first, second))
    third = third + (third >= torch.maximum(first, second))
    return torch.stack([first, second, third], dim=1)


def bounding_box(allowed: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest box that holds all allowed pixels, in rows and columns.

    Args:
        allowed: Shape ``(B, 1, H, W)``, with at least one True for each image.

    Returns:
        Start, and end (exclusive), each ``(B, 2)``, float32.
    """
    starts, ends = [], []
    for taken in (allowed[:, 0].any(dim=2), allowed[:, 0].any(dim=1)):
        places = torch.arange(taken.shape[1], device=taken.device).expand_as(taken)
        starts.append(places.masked_fill(~taken, taken.shape[1]).amin(dim=1))
        ends.append(places.masked_fill(~taken, -1).amax(dim=1) + 1)
    return torch.stack(starts, dim=1).float(), torch.stack(ends, dim=1).float()


def redrawn(place: Tensor, drawn: Tensor, box: tuple[Tensor, Tensor]) -> Tensor:
    """Positions, with each coordinate outside of a box replaced by a random one inside.

    Args:
        place: Rows and columns, shape ``(B, P, count, 2)``.
        drawn: Uniform in [0, 1), same shape.
        box: Start and end, each ``(B, 2)``.

    Returns:
        Same shape as ``place``.
    """
    start, end = (side[:, None, None, :] for side in box)
    inside = (place >= start) & (place < end)
    return torch.where(inside, place, start + drawn * (end - start))


def placed(image: Tensor, allowed: Tensor, place: Tensor, values: Tensor) -> Tensor:
    """Copies of images with pixels at some positions replaced, but for those not allowed.

    Args:
        image: Shape ``(B, C, H, W)``.
        allowed: Shape ``(B, 1, H, W)``.
        place: Rows and columns, shape ``(B, n, 2)``, rounded down. Of pixels that coincide the
            first one counts.
        values: Shape ``(B, n, C)``.

    Returns:
        Shape ``(B, C, H, W)``.
    """
    height, width = image.shape[2:]
    rows, columns = place.long().unbind(dim=2)
    pixels = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    # Writing one value twice is the same in any order; two values would not be.
    ranks = torch.arange(pixels.shape[1], device=pixels.device)
    same = pixels[:, :, None] == pixels[:, None, :]
    first = ranks.masked_fill(~same, pixels.shape[1]).amin(dim=2)
    wanted = values.transpose(1, 2).gather(2, first[:, None].expand(-1, values.shape[2], -1))
    index = pixels[:, None].expand_as(wanted)
    clean = image.flatten(2).gather(2, index)
    wanted = torch.where(allowed.flatten(2).gather(2, pixels[:, None]), wanted, clean)
    return replace_pixels(image, pixels, wanted)
