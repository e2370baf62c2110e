"""Attacks whose repeats differ in random numbers alone, so that there may be as many as needed."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from robustness.attack import Attack, AttackBatch

# Repeats that stop by themselves come in pairs, so that values can come with their opposites.
PAIR = 2
# From so many the number of further ones is estimated: two are too few where one slice decides.
FIRST_PAIRS = 3
FIRST_REPEATS = FIRST_PAIRS * PAIR


@dataclass(frozen=True)
class RepeatedAttack(Attack):
    """An attack whose repeats differ in random numbers alone: any of them can be made by itself."""

    @property
    @abstractmethod
    def half_width(self) -> float:
        """How wide the 95 % interval of the mean Dice over repeats may be to either side.

        Each point takes as many repeats as that needs, ``repeats`` at most; 0 takes all of them.
        Above 0 repeats come in pairs: one pair is independent of another, and within a pair random
        numbers may depend on each other, so that the means of pairs scatter less.
        """

    @abstractmethod
    def disturb_repeats(
        self, batch: AttackBatch, seed: int, repeats: Sequence[range]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Disturbed copies of a batch in some repeats.

        Args:
            batch: The clean slices.
            seed: The seed of the attacks.
            repeats: Which repeats are made at each point.

        Yields:
            Index of the point, repeat, and images ``(B, C, H, W)``.
        """

    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        """All repeats; see :meth:`Attack.disturb`."""
        return self.disturb_repeats(batch, seed, [range(self.repeats)] * len(self.points))

    def settings(self) -> dict[str, Any]:
        """Everything that decides what the attack does, as plain values."""
        given = super().settings()
        # Came later: left out where it has no effect, so that counts from before are still paired.
        if not self.half_width:
            return {key: value for key, value in given.items() if key != "half_width"}
        return given | {"repeats_in": "pairs"}

    def check_repeats(self, *, random: bool, what: str) -> None:
        """Refuse repeats where nothing is random, or an interval that no repeats can have.

        Args:
            random: Whether repeats differ at all.
            what: What has nothing random in it, for the message.

        Raises:
            ValueError: If the settings make no sense.
        """
        if self.repeats < 1:
            self.refuse("repeats", self.repeats, "1 or more")
        if not random and self.repeats != 1:
            self.refuse("repeats", self.repeats, f"1, since nothing in {what} is random")
        if not random and self.half_width:
            self.refuse("half_width", self.half_width, f"0, since nothing in {what} is random")
        if not 0 <= self.half_width < 1:
            self.refuse("half_width", self.half_width, "a difference of Dice from 0 to below 1")
        if self.half_width and (self.repeats < FIRST_REPEATS or self.repeats % PAIR):
            expected = f"an even number of {FIRST_REPEATS} or more, since half_width takes pairs"
            self.refuse("repeats", self.repeats, expected)


def by_repeat(repeats: Sequence[range]) -> Iterator[tuple[int, list[int]]]:
    """Each repeat that any point asks for, with the indices of the points that do."""
    for repeat in range(max((made.stop for made in repeats), default=0)):
        indices = [index for index, made in enumerate(repeats) if repeat in made]
        if indices:
            yield repeat, indices
