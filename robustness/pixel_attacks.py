"""The paper's attacks: a few pixels of a slice are replaced by a level or by other values.

``LevelAttack`` raises the level of a fixed number of pixels (figures 2 and 3), ``CountAttack`` the
number of pixels (figures 5 and 6). With ``ranking="random"`` either is its own control.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from robustness.attack import GRADIENT_RANKINGS, Attack, AttackBatch, Passes, check_name
from robustness.keyed_random import opposites, slice_keys
from robustness.orders import (
    BLIND_RANKINGS,
    INTENSITY_MATCHED,
    RANDOM,
    RANDOM_RANKINGS,
    RANKINGS,
    allowed_entries,
    gradient_ranking,
    matched_entries,
    random_entries,
    ranked_entries,
)
from robustness.repeated_attack import PAIR, RepeatedAttack, by_repeat
from robustness.values import (
    DIRECTED,
    DRAWN_VALUES,
    LOCAL_MEDIAN,
    UNIFORM,
    VALUES,
    directed,
    local_median,
    replace_entries,
    replace_pixels,
)

# Options that came later: at their defaults they are left out of the settings, so that counts from
# before can still be paired.
_LATER_OPTIONS = ("valid_only", "per_channel", "window")


@dataclass(frozen=True)
class PixelAttack(RepeatedAttack):
    """Replaces pixels, unclipped; what attacks by level and by count share."""

    @property
    @abstractmethod
    def _ranking(self) -> str:
        """The order of the pixels."""

    @property
    @abstractmethod
    def _valid_only(self) -> bool:
        """Whether padding is left alone."""

    @property
    @abstractmethod
    def _per_channel(self) -> bool:
        """Whether single entries of channels are taken in place of whole pixels."""

    @property
    def _uses_gradient(self) -> bool:
        return self._ranking not in BLIND_RANKINGS

    def settings(self) -> dict[str, Any]:
        """Everything that decides what the attack does, as plain values."""
        later = {one.name: one.default for one in fields(self) if one.name in _LATER_OPTIONS}
        given = super().settings()
        return {key: value for key, value in given.items() if later.get(key, ...) != value}

    def degenerate(self, batch: AttackBatch) -> Tensor:
        """True where the gradient that the attack goes by is zero everywhere; shape ``(B,)``."""
        if not self._uses_gradient:
            return super().degenerate(batch)
        return batch.without_gradient(gradient_ranking(self._ranking))

    @property
    def clean_gradients(self) -> frozenset[str]:
        """The gradient that orders the pixels or directs their values, if one does."""
        if not self._uses_gradient:
            return frozenset()
        return frozenset({GRADIENT_RANKINGS[gradient_ranking(self._ranking)][0]})

    @property
    def passes(self) -> Passes:
        """One gradient on the clean slices, or none."""
        return Passes(1, 1) if self._uses_gradient else Passes(0, 0)

    def _entries(self, batch: AttackBatch, seed: int, repeat: int, count: int) -> Tensor:
        """Row-major indices of pixels, or of entries of channels, shape ``(B, count)``."""
        keys = slice_keys(seed, f"{self.name}/pixels", batch.case_keys, batch.slice_index)
        self._check_room(batch, count)
        if self._ranking == RANDOM:
            return random_entries(batch, keys, repeat, count, per_channel=self._per_channel)
        where = {"valid_only": self._valid_only, "per_channel": self._per_channel}
        if self._ranking == INTENSITY_MATCHED:
            return matched_entries(batch, keys, repeat, count, **where)
        return ranked_entries(batch, self._ranking, count, **where)

    def _check_room(self, batch: AttackBatch, count: int) -> None:
        matched = self._ranking == INTENSITY_MATCHED
        if not self._valid_only and not matched:
            return
        allowed = allowed_entries(
            batch, valid_only=self._valid_only, per_channel=self._per_channel and not matched
        )
        room = allowed.flatten(1).sum(dim=1) // (2 if matched else 1)
        if (room < count).any():
            where = " valid" if self._valid_only else ""
            reason = f", half of a slice's{where} pixels" if matched else f", all{where} pixels"
            self.refuse("the number of pixels", count, f"at most {int(room.min())}{reason}")

    def _replaced(self, batch: AttackBatch, entries: Tensor, values: Tensor | float) -> Tensor:
        if self._per_channel:
            return replace_entries(batch.image, entries, values)
        return replace_pixels(batch.image, entries, values)

    def _check(self) -> None:
        check_name(self.name)
        self.check_option("ranking", self._ranking, RANKINGS)
        self.check_rising("points", self.points)


@dataclass(frozen=True)
class LevelAttack(PixelAttack):
    """Replaces the first pixels of a ranking by one level after another.

    Args:
        name: Unique name, such as ``top5_in_range``.
        levels: Rising values, in image units (after scaling).
        pixels: How many pixels of each slice are replaced.
        ranking: ``gradient``, ``gradient_abs``, ``gradient_logit``, ``gradient_low`` (the lowest
            gradient first), ``edge`` (the image's own edges first), or a control:
            ``intensity_matched`` (other pixels as bright as the top ones by gradient) or ``random``
            (always in the valid region).
        repeats: How often random pixels are drawn; 1 where nothing in the ranking is random.
        half_width: How wide the 95 % interval of the mean Dice over repeats may be to either
            side: each point takes as many repeats as that needs, ``repeats`` at most; 0 takes all.
        valid_only: Whether padding is left alone; else it is ordinary, as in the paper.
        per_channel: Whether single entries of channels are ranked and replaced, not whole pixels.

    Raises:
        ValueError: If a setting makes no sense.
    """

    levels: tuple[float, ...]
    pixels: int = 5
    ranking: str = "gradient"
    repeats: int = 1
    valid_only: bool = False
    per_channel: bool = False
    half_width: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        self._check()
        if self.pixels < 1:
            self.refuse("pixels", self.pixels, "1 or more")
        self.check_repeats(random=self.ranking in RANDOM_RANKINGS, what="it")

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

    @property
    def _valid_only(self) -> bool:
        return self.valid_only

    @property
    def _per_channel(self) -> bool:
        return self.per_channel

    def disturb_repeats(
        self, batch: AttackBatch, seed: int, repeats: Sequence[range]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """The same pixels at each level; see :meth:`RepeatedAttack.disturb_repeats`."""
        for repeat, indices in by_repeat(repeats):
            entries = self._entries(batch, seed, repeat, self.pixels)
            for index in indices:
                yield index, repeat, self._replaced(batch, entries, self.points[index])


@dataclass(frozen=True)
class CountAttack(PixelAttack):
    """Replaces more and more pixels of a ranking by a level or by other values.

    ``directed`` values increase the objective of the ranking, the paper's where it has none: with
    the sum of probabilities that means structures that are not there. Whole pixels are directed
    channel by channel.

    Args:
        name: Unique name, such as ``topn_at_max``.
        counts: Rising numbers of pixels.
        value: A level in image units, or ``uniform`` for independent values in [low, high),
            ``salt_and_pepper`` for low or high at random, ``directed`` for the one of low and high
            that the gradient points to, ``local_median`` for the median of a pixel's neighbours.
        low: Lower end of the values, in image units; where they are drawn or directed alone.
        high: Upper end of the values, in image units; where they are drawn or directed alone.
        ranking: ``gradient``, ``gradient_abs``, ``gradient_logit``, ``gradient_low`` (the lowest
            gradient first), ``edge`` (the image's own edges first), or a control:
            ``intensity_matched`` (other pixels as bright as the top ones by gradient) or ``random``
            (always in the valid region).
        repeats: How often random values or pixels are drawn.
        half_width: How wide the 95 % interval of the mean Dice over repeats may be to either
            side: each point takes as many repeats as that needs, ``repeats`` at most, and every
            second one has the opposite values of the one before; 0 takes all, independent.
        values_like: Name of the attack whose random values are used, so that a control differs
            from its attack in the pixels alone; its own name where empty. Both must draw the
            same kind of values from the same range, and both or none in pairs.
        valid_only: Whether padding is left alone; else it is ordinary, as in the paper.
        per_channel: Whether single entries of channels are ranked and replaced, not whole pixels.
        window: Side of the neighbourhood of ``local_median`` in pixels: 3 or 5. With
            ``valid_only`` padding is no neighbour.

    Raises:
        ValueError: If a setting makes no sense, or has no effect beside the others.
    """

    counts: tuple[int, ...]
    value: float | str = UNIFORM
    low: float = 0.0
    high: float = 1.0
    ranking: str = "gradient"
    repeats: int = 1
    values_like: str = ""
    valid_only: bool = False
    per_channel: bool = False
    window: int = 3
    half_width: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        self._check()
        if self.counts[0] < 1:
            self.refuse("counts", self.counts, "1 or more pixels at each point")
        if isinstance(self.value, str):
            self.check_option("value", self.value, VALUES, "a finite number or ")
        elif not math.isfinite(self.value):
            self.refuse("value", self.value, f"a finite number or one of {', '.join(VALUES)}")
        self.check_range(self.low, self.high)
        if self.window not in {3, 5}:
            self.refuse("window", self.window, "3 or 5")
        idle = []
        if self.value not in {*DRAWN_VALUES, DIRECTED}:
            idle += ["low", "high"]
        if self.value not in DRAWN_VALUES:
            idle += ["values_like"]
        if self.value != LOCAL_MEDIAN:
            idle += ["window"]
        self.check_unused(idle, f"value is {self.value}")
        drawn = self.ranking in RANDOM_RANKINGS or self.value in DRAWN_VALUES
        self.check_repeats(random=drawn, what="it")

    @property
    def axis(self) -> str:
        """How many pixels are replaced."""
        return "pixels"

    @property
    def unit(self) -> str:
        """Pixels of each slice, or entries of its channels."""
        return "channel entries per slice" if self.per_channel else "pixels per slice"

    @property
    def points(self) -> tuple[float, ...]:
        """The numbers of pixels."""
        return tuple(float(count) for count in self.counts)

    @property
    def _ranking(self) -> str:
        return self.ranking

    @property
    def _valid_only(self) -> bool:
        return self.valid_only

    @property
    def _per_channel(self) -> bool:
        return self.per_channel

    def check_among(self, attacks: Sequence[Attack]) -> None:
        """The attack whose values it takes must be there, and draw them alike.

        Raises:
            ValueError: If ``values_like`` names no such attack.
        """
        if not self.values_like:
            return
        drawn = {
            other.name: other._draws
            for other in attacks
            if isinstance(other, CountAttack)
            and other.value in DRAWN_VALUES
            and other.name != self.name
        }
        if not drawn:
            self.refuse("values_like", self.values_like, "another attack whose values are drawn")
        self.check_option("values_like", self.values_like, drawn)
        if drawn[self.values_like] != self._draws:
            expected = f"an attack with its own values, {self._draws}"
            self.refuse("values_like", f"{self.values_like}, {drawn[self.values_like]}", expected)

    def disturb_repeats(
        self, batch: AttackBatch, seed: int, repeats: Sequence[range]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """The j-th pixel keeps its value at every point of a repeat.

        See :meth:`RepeatedAttack.disturb_repeats`.
        """
        for repeat, indices in by_repeat(repeats):
            entries = self._entries(batch, seed, repeat, self.counts[-1])
            values = self._values(batch, entries, seed, repeat)
            for index in indices:
                count = self.counts[index]
                yield index, repeat, self._replaced(batch, entries[:, :count], values[..., :count])

    @property
    def _draws(self) -> str:
        """How its values are drawn, in words: two attacks with the same words draw alike."""
        pairs = " in pairs (half_width above 0)" if self.half_width else ""
        return f"{self.value} in [{self.low}, {self.high}){pairs}"

    @property
    def _uses_gradient(self) -> bool:
        return super()._uses_gradient or self.value == DIRECTED

    def _values(self, batch: AttackBatch, entries: Tensor, seed: int, repeat: int) -> Tensor:
        """A value for each ranked entry, ``(B, counts[-1])``, or for each of its channels."""
        if not isinstance(self.value, str):
            return batch.image.new_full(entries.shape, float(self.value))
        if self.value in DRAWN_VALUES:
            drawn = self._drawn(batch, seed, repeat)
            return DRAWN_VALUES[self.value](drawn, self.low, self.high)
        values = self._value_image(batch)
        if self.per_channel:
            return values.flatten(1).gather(1, entries)
        return values.flatten(2).gather(2, entries[:, None].expand(-1, values.shape[1], -1))

    def _drawn(self, batch: AttackBatch, seed: int, repeat: int) -> Tensor:
        """A random number for each ranked entry, ``(B, counts[-1])``.

        Of a pair of repeats the second has the opposites of the first.
        """
        second = self.half_width > 0 and repeat % PAIR == 1
        name = f"{self.values_like or self.name}/values"
        drawn = batch.uniforms(seed, name, repeat - second, self.counts[-1])
        return opposites(drawn) if second else drawn

    def _value_image(self, batch: AttackBatch) -> Tensor:
        """What each entry would be replaced by, shape ``(B, C, H, W)``."""
        if self.value == DIRECTED:
            objective, _ = GRADIENT_RANKINGS[gradient_ranking(self.ranking)]
            return directed(batch.image, batch.gradient(objective), self.low, self.high)
        among = allowed_entries(batch, valid_only=self.valid_only, per_channel=False)
        return local_median(batch.image, among, self.window)
