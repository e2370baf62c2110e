"""The paper's attacks: a few pixels of a slice are replaced by a level or by random values.

``LevelAttack`` raises the level of a fixed number of pixels (figures 2 and 3), ``CountAttack`` the
number of pixels (figures 5 and 6). With ``ranking="random"`` either is its own control.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise

from torch import Tensor

from robustness.attack import GRADIENT_RANKINGS, Attack, AttackBatch, Passes, check_name
from robustness.keyed_random import slice_keys
from robustness.ranking import rank_at_random

RANDOM_RANKING = "random"
UNIFORM = "uniform"


@dataclass(frozen=True)
class PixelAttack(Attack):
    """Replaces pixels, in all channels and unclipped; what attacks by level and by count share."""

    @property
    @abstractmethod
    def _ranking(self) -> str:
        """The order of the pixels."""

    def degenerate(self, batch: AttackBatch) -> Tensor:
        """True where the gradient that ranks the pixels is zero everywhere; shape ``(B,)``."""
        if self._ranking == RANDOM_RANKING:
            return super().degenerate(batch)
        return batch.without_gradient(self._ranking)

    @property
    def passes(self) -> Passes:
        """One gradient on the clean slices, or none."""
        return Passes(0, 0) if self._ranking == RANDOM_RANKING else Passes(1, 1)

    def _pixels(self, batch: AttackBatch, seed: int, repeat: int, count: int) -> Tensor:
        if self._ranking == RANDOM_RANKING:
            keys = slice_keys(seed, f"{self.name}/pixels", batch.case_keys, batch.slice_index)
            return rank_at_random(keys, repeat, batch.valid, count)
        return batch.ranked_pixels(self._ranking, count)

    def _check(self) -> None:
        check_name(self.name)
        if self._ranking not in (*GRADIENT_RANKINGS, RANDOM_RANKING):
            options = [*GRADIENT_RANKINGS, RANDOM_RANKING]
            near = get_close_matches(self._ranking, options, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            self.refuse("ranking", self._ranking, f"one of {', '.join(options)}{hint}")
        if self.repeats < 1:
            self.refuse("repeats", self.repeats, "1 or more")
        points = self.points
        if not points or not all(math.isfinite(point) for point in points):
            self.refuse("points", points, "one or more finite numbers")
        if any(low >= high for low, high in pairwise(points)):
            self.refuse("points", points, "rising numbers, each once")


@dataclass(frozen=True)
class LevelAttack(PixelAttack):
    """Replaces the first pixels of a ranking by one level after another.

    Args:
        name: Unique name, such as ``top5_in_range``.
        levels: Rising values, in image units (after scaling).
        pixels: How many pixels of each slice are replaced.
        ranking: ``gradient``, ``gradient_abs``, ``gradient_logit`` or ``random`` (a control).
        repeats: How often random pixels are drawn; 1 where the ranking is a gradient.

    Raises:
        ValueError: If a setting makes no sense.
    """

    levels: tuple[float, ...]
    pixels: int = 5
    ranking: str = "gradient"
    repeats: int = 1

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        self._check()
        if self.pixels < 1:
            self.refuse("pixels", self.pixels, "1 or more")
        if self.ranking != RANDOM_RANKING and self.repeats != 1:
            self.refuse("repeats", self.repeats, "1, since nothing in it is random")

    @property
    def axis(self) -> str:
        """The level that replaces the pixels."""
        return "level"

    @property
    def unit(self) -> str:
        """Levels are in the units of the batch, after scaling."""
        return "image intensity"

    @property
    def points(self) -> tuple[float, ...]:
        """The levels."""
        return tuple(float(level) for level in self.levels)

    @property
    def _ranking(self) -> str:
        return self.ranking

    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        """The same pixels at each level; see :meth:`Attack.disturb`."""
        for repeat in range(self.repeats):
            pixels = self._pixels(batch, seed, repeat, self.pixels)
            for index, level in enumerate(self.points):
                yield index, repeat, replace_pixels(batch.image, pixels, level)


@dataclass(frozen=True)
class CountAttack(PixelAttack):
    """Replaces more and more pixels of a ranking by a level or by random values.

    Args:
        name: Unique name, such as ``topn_at_max``.
        counts: Rising numbers of pixels.
        value: A level in image units, or ``uniform`` for independent values in [low, high).
        low: Lower end of the uniform values, in image units.
        high: Upper end of the uniform values, in image units.
        ranking: ``gradient``, ``gradient_abs``, ``gradient_logit`` or ``random`` (a control).
        repeats: How often random values or pixels are drawn.
        values_like: Name of the attack whose random values are used, so that a control differs
            from its attack in the pixels alone; its own name where empty.

    Raises:
        ValueError: If a setting makes no sense.
    """

    counts: tuple[int, ...]
    value: float | str = UNIFORM
    low: float = 0.0
    high: float = 1.0
    ranking: str = "gradient"
    repeats: int = 1
    values_like: str = ""

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        self._check()
        if self.counts[0] < 1:
            self.refuse("counts", self.counts, "1 or more pixels at each point")
        if self.value != UNIFORM and (isinstance(self.value, str) or not math.isfinite(self.value)):
            self.refuse("value", self.value, f"a finite number or {UNIFORM}")
        if not -math.inf < self.low < self.high < math.inf:
            self.refuse("low and high", (self.low, self.high), "finite numbers, low below high")
        if self.ranking != RANDOM_RANKING and self.value != UNIFORM and self.repeats != 1:
            self.refuse("repeats", self.repeats, "1, since nothing in it is random")

    @property
    def axis(self) -> str:
        """How many pixels are replaced."""
        return "pixels"

    @property
    def unit(self) -> str:
        """Pixels of each slice."""
        return "pixels per slice"

    @property
    def points(self) -> tuple[float, ...]:
        """The numbers of pixels."""
        return tuple(float(count) for count in self.counts)

    @property
    def _ranking(self) -> str:
        return self.ranking

    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        """The j-th pixel keeps its value at every point of a repeat; see :meth:`Attack.disturb`."""
        for repeat in range(self.repeats):
            pixels = self._pixels(batch, seed, repeat, self.counts[-1])
            values = self._values(batch, seed, repeat)
            for index, count in enumerate(self.counts):
                disturbed = replace_pixels(batch.image, pixels[:, :count], values[:, :count])
                yield index, repeat, disturbed

    def _values(self, batch: AttackBatch, seed: int, repeat: int) -> Tensor:
        """One value for each ranked pixel, shape ``(B, counts[-1])``."""
        if isinstance(self.value, str):
            name = f"{self.values_like or self.name}/values"
            drawn = batch.uniforms(seed, name, repeat, self.counts[-1])
            return self.low + (self.high - self.low) * drawn
        shape = (batch.image.shape[0], self.counts[-1])
        return batch.image.new_full(shape, float(self.value))


def replace_pixels(image: Tensor, pixels: Tensor, values: Tensor | float) -> Tensor:
    """Copies of images with some pixels replaced in all channels.

    Args:
        image: Shape ``(B, C, H, W)``.
        pixels: Row-major pixel indices, each at most once per image, int64, shape ``(B, n)``.
        values: One value for all, or one for each pixel, shape ``(B, n)``.

    Returns:
        Shape ``(B, C, H, W)``.
    """
    flat = image.flatten(2).clone()
    index = pixels[:, None, :].expand(-1, image.shape[1], -1)
    if isinstance(values, Tensor):
        flat.scatter_(2, index, values.to(image.dtype)[:, None, :].expand_as(index))
    else:
        flat.scatter_(2, index, values)
    return flat.reshape(image.shape)
