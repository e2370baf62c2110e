"""The attack contract: what an attack says about itself and what it gets to see of a batch."""

import hashlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from robustness.keyed_random import counter_hashes, slice_keys, uniforms
from robustness.objectives import OBJECTIVES, Objective
from robustness.ranking import rank_by_score
from robustness.saliency import Ascent, Forward, ascent, ascents, check_logits

# Which gradient orders the pixels, and whether its sign counts.
GRADIENT_RANKINGS: dict[str, tuple[str, bool]] = {
    "gradient": ("probability_sum", True),
    "gradient_abs": ("probability_sum", False),
    "gradient_logit": ("logit_sum", True),
}


@dataclass(frozen=True)
class AttackBatch:
    """One batch of clean slices with what attacks derive from it, computed once for all of them.

    Attributes:
        forward: Gives logits ``(B, K, H, W)`` for images.
        image: Shape ``(B, C, H, W)``, float32.
        mask: Truth of 0 and 1, shape ``(B, K, H, W)``.
        valid: False in padding, shape ``(B, 1, H, W)``.
        case_keys: ``text_key`` of each slice's case, int64, shape ``(B,)``.
        slice_index: Index of each slice in its volume, int64, shape ``(B,)``.
        counted: False where the truth is not known, so that nothing is counted, shape
            ``(B, 1, H, W)``.
        objectives: What gradients may be taken of, by name.
    """

    forward: Forward
    image: Tensor
    mask: Tensor
    valid: Tensor
    case_keys: Tensor
    slice_index: Tensor
    counted: Tensor
    objectives: Mapping[str, Objective] = field(default_factory=lambda: OBJECTIVES)
    _ascents: dict[str, Ascent] = field(default_factory=dict, init=False, repr=False)
    _orders: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def logits(self, image: Tensor) -> Tensor:
        """One forward pass without a gradient.

        Args:
            image: As many images as the batch has, shape ``(B, C, H, W)``.

        Returns:
            Shape ``(B, K, H, W)``, float32.

        Raises:
            ValueError: If the network gives another shape than the masks have.
        """
        with torch.no_grad():
            logits = self.forward(image).float()
        check_logits(logits, self.mask)
        return logits

    def value(self, objective: str | Objective, image: Tensor) -> Tensor:
        """One forward pass: the value of an objective at some images.

        Args:
            objective: A name among ``objectives``, or the objective itself.
            image: As many images as the batch has, shape ``(B, C, H, W)``.

        Returns:
            Shape ``(B,)``.

        Raises:
            ValueError: If the objective is unknown, or the logits are not of the masks' shape.
        """
        if isinstance(objective, str):
            objective = self._objective(objective)
        with torch.no_grad():
            return objective(self.logits(image), self.mask, self.counted)

    def ascent(self, objective: str | Objective, image: Tensor) -> Ascent:
        """One forward and one backward pass: value and gradient of an objective at some images.

        Args:
            objective: A name among ``objectives``, or the objective itself.
            image: As many images as the batch has, shape ``(B, C, H, W)``.

        Raises:
            ValueError: If the objective is unknown; as in :func:`robustness.saliency.ascent`.
        """
        if isinstance(objective, str):
            objective = self._objective(objective)
        return ascent(self.forward, objective, image, self.mask, self.counted)

    def ascents(self, objectives: Sequence[str | Objective], image: Tensor) -> tuple[Ascent, ...]:
        """One forward pass and a backward pass for each objective at some images.

        Args:
            objectives: Names among ``objectives``, or objectives themselves.
            image: As many images as the batch has, shape ``(B, C, H, W)``.

        Returns:
            Value, gradient and logits for each objective, in order.

        Raises:
            ValueError: As in :meth:`ascent`.
        """
        found = [self._objective(one) if isinstance(one, str) else one for one in objectives]
        return ascents(self.forward, found, image, self.mask, self.counted)

    def movable(self, *, valid_only: bool) -> Tensor:
        """Where pixels may change: bool, shape ``(B, 1, H, W)``.

        Args:
            valid_only: Whether padding is left alone; else every pixel may change.
        """
        return self.valid if valid_only else torch.ones_like(self.valid)

    def clean_ascent(self, objective: str) -> Ascent:
        """Value, gradient and logits on the clean images: one pass for all attacks that ask."""
        if objective not in self._ascents:
            self._ascents[objective] = self.ascent(objective, self.image)
        return self._ascents[objective]

    def gradient(self, objective: str) -> Tensor:
        """Signed gradient on the clean images, computed once, shape ``(B, C, H, W)``."""
        return self.clean_ascent(objective).gradient

    def _objective(self, name: str) -> Objective:
        if name not in self.objectives:
            near = get_close_matches(name, self.objectives, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            msg = f"objective {name}: unknown; {hint}expected one of {', '.join(self.objectives)}"
            raise ValueError(msg)
        return self.objectives[name]

    def uniforms(self, seed: int, name: str, repeat: int, count: int) -> Tensor:
        """Random numbers that depend on nothing but what they are for.

        Args:
            seed: The seed of the attacks.
            name: What the numbers are for, such as ``<attack>/start``.
            repeat: Which repetition.
            count: How many each slice needs; the first ones are the same for every count.

        Returns:
            float32 in [0, 1), shape ``(B, count)``.
        """
        keys = slice_keys(seed, name, self.case_keys, self.slice_index)
        return uniforms(counter_hashes(keys, repeat, count))

    def ranked_pixels(self, ranking: str, count: int) -> Tensor:
        """The first pixels of one of ``GRADIENT_RANKINGS``, summed over channels.

        Returns:
            Row-major pixel indices, int64, shape ``(B, count)``.

        Raises:
            ValueError: If an image has fewer than ``count`` pixels.
        """
        if ranking not in self._orders or self._orders[ranking].shape[1] < count:
            objective, signed = GRADIENT_RANKINGS[ranking]
            gradient = self.gradient(objective)
            score = (gradient if signed else gradient.abs()).sum(dim=1)
            self._orders[ranking] = rank_by_score(score, count)
        return self._orders[ranking][:, :count]

    def without_gradient(self, ranking: str) -> Tensor:
        """True for images whose gradient is zero everywhere, so that their ranking says nothing.

        Returns:
            bool, shape ``(B,)``.
        """
        objective, _ = GRADIENT_RANKINGS[ranking]
        return (self.gradient(objective) == 0).flatten(1).all(dim=1)


class Passes(NamedTuple):
    """Passes through the network for each slice.

    Attributes:
        forward: Forward passes, those before a backward pass included.
        backward: Backward passes.
    """

    forward: int
    backward: int


@dataclass(frozen=True)
class Attack(ABC):
    """Disturbs images along one axis: how many pixels, which level, which epsilon.

    Attributes:
        name: Unique among the attacks of an evaluation; a slug of ``[a-z0-9_.-]``.
    """

    name: str

    @property
    @abstractmethod
    def axis(self) -> str:
        """What the points count, such as ``pixels`` or ``level``."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """The unit of the points, for a plot's axis."""

    @property
    @abstractmethod
    def points(self) -> tuple[float, ...]:
        """The disturbance at each point, ascending."""

    @property
    @abstractmethod
    def repeats(self) -> int:
        """How often each point is tried with other random numbers."""

    @abstractmethod
    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        """Disturbed copies of a batch, one for each point and repeat.

        Args:
            batch: The clean slices.
            seed: The seed of the attacks.

        Yields:
            Index of the point, repeat, and images ``(B, C, H, W)``.
        """

    @property
    @abstractmethod
    def passes(self) -> Passes:
        """What the attack takes over all points and repeats, found by the algorithm alone.

        The engine's own forward pass of each point and repeat is not among them. A gradient on the
        clean slices counts, although attacks of one evaluation share it (``clean_gradients``).
        """

    @property
    def clean_gradients(self) -> frozenset[str]:
        """Objectives whose gradient on the clean slices it takes: attacks share these passes."""
        return frozenset()

    @property
    def objective_names(self) -> frozenset[str]:
        """Objectives that it looks up by name."""
        own = getattr(self, "objective", None)
        return self.clean_gradients if own is None else self.clean_gradients | {own}

    def degenerate(self, batch: AttackBatch) -> Tensor:
        """True for images on which the attack has nothing to go by; bool, shape ``(B,)``."""
        return torch.zeros(batch.image.shape[0], dtype=torch.bool, device=batch.image.device)

    def settled(self, batch: AttackBatch) -> Tensor | None:
        """Slices of which the clean image alone says that no disturbance need be looked for.

        Their outcome at every point is the clean image: this must be certain, not likely.

        Args:
            batch: The clean slices.

        Returns:
            bool, shape ``(B,)``; None, if the attack is made on every slice.
        """
        return None

    def check_among(self, attacks: Sequence["Attack"]) -> None:  # noqa: B027
        """Refuse settings that do not fit the other attacks of an evaluation.

        Args:
            attacks: All attacks of the evaluation, this one included.

        Raises:
            ValueError: If a setting refers to an attack that is not there or does not fit.
        """

    def refuse(self, what: str, found: object, expected: str) -> NoReturn:
        """Raise ValueError on a setting that makes no sense."""
        msg = f"attack {self.name}: {what} is {found}, expected {expected}"
        raise ValueError(msg)

    def check_option(
        self, what: str, found: str, options: Collection[str], other: str = ""
    ) -> None:
        """Refuse a word that is not among the options, and name the nearest.

        Args:
            what: The setting.
            found: Its value.
            options: What it may be.
            other: What else it may be, in words before the options.

        Raises:
            ValueError: If the word is not among the options.
        """
        if found in options:
            return
        near = get_close_matches(found, options, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        self.refuse(what, found, f"{other}one of {', '.join(options)}{hint}")

    def check_rising(self, what: str, found: Sequence[float]) -> None:
        """Refuse points that are none, not finite, or do not rise."""
        if not found or not all(math.isfinite(point) for point in found):
            self.refuse(what, tuple(found), "one or more finite numbers")
        if any(first >= second for first, second in pairwise(found)):
            self.refuse(what, tuple(found), "rising numbers, each once")

    def check_range(self, low: float, high: float) -> None:
        """Refuse a range of intensities that is empty or endless."""
        if not -math.inf < low < high < math.inf:
            self.refuse("low and high", (low, high), "finite numbers, low below high")

    def check_unused(self, names: Collection[str], why: str) -> None:
        """Refuse options that are set although they have no effect.

        Args:
            names: The options.
            why: Which setting makes them idle, such as ``value is 0.2``.

        Raises:
            ValueError: If one of them is not at its default.
        """
        for option in fields(self):
            if option.name in names and getattr(self, option.name) != option.default:
                found = getattr(self, option.name)
                self.refuse(option.name, found, f"{option.default!r}: no effect where {why}")

    def settings(self) -> dict[str, Any]:
        """Everything that decides what the attack does, as plain values."""
        return {"class": type(self).__name__, **asdict(self)}


def check_name(name: str) -> None:
    """Refuse a name that cannot be part of a metric's key and of a file's name.

    Raises:
        ValueError: If the name is no slug of ``[a-z0-9_.-]``.
    """
    if not re.fullmatch(r"[a-z0-9_.-]+", name):
        msg = f"attack {name}: name is {name}, expected letters a-z, digits and _.- only"
        raise ValueError(msg)


def settings_text(attacks: Sequence[Attack]) -> str:
    """The settings of all attacks as JSON, for the metadata of their counts."""
    return json.dumps([attack.settings() for attack in attacks], sort_keys=True)


def attacks_fingerprint(attacks: Sequence[Attack], seed: int) -> str:
    """sha256 over the settings of all attacks and their seed: equal where counts may be paired."""
    text = json.dumps([seed, [attack.settings() for attack in attacks]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
