"""The attack contract: what an attack says about itself and what it gets to see of a batch."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from robustness.objectives import OBJECTIVES
from robustness.ranking import rank_by_score
from robustness.saliency import Forward, input_gradient

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
    """

    forward: Forward
    image: Tensor
    mask: Tensor
    valid: Tensor
    case_keys: Tensor
    slice_index: Tensor
    counted: Tensor
    _gradients: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    _orders: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def gradient(self, objective: str) -> Tensor:
        """Signed gradient of a named objective on the clean images, shape ``(B, C, H, W)``."""
        if objective not in self._gradients:
            self._gradients[objective] = input_gradient(
                self.forward, OBJECTIVES[objective], self.image, self.mask, self.valid
            )
        return self._gradients[objective]

    def ranked_pixels(self, ranking: str, count: int) -> Tensor:
        """The first pixels of one of ``GRADIENT_RANKINGS``, summed over channels.

        Returns:
            Row-major pixel indices, int64, shape ``(B, count)``.

        Raises:
            ValueError: If an image has fewer than ``count`` pixels.
        """
        pixels = self.image.shape[-2] * self.image.shape[-1]
        if ranking not in self._orders:
            objective, signed = GRADIENT_RANKINGS[ranking]
            gradient = self.gradient(objective)
            score = (gradient if signed else gradient.abs()).sum(dim=1)
            self._orders[ranking] = rank_by_score(score, pixels)
        if count > pixels:
            msg = f"{count} pixels to take, but an image has only {pixels}"
            raise ValueError(msg)
        return self._orders[ranking][:, :count]

    def without_gradient(self, ranking: str) -> Tensor:
        """True for images whose gradient is zero everywhere, so that their ranking says nothing.

        Returns:
            bool, shape ``(B,)``.
        """
        objective, _ = GRADIENT_RANKINGS[ranking]
        return (self.gradient(objective) == 0).flatten(1).all(dim=1)


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

    def degenerate(self, batch: AttackBatch) -> Tensor:
        """True for images on which the attack has nothing to go by; bool, shape ``(B,)``."""
        return torch.zeros(batch.image.shape[0], dtype=torch.bool, device=batch.image.device)

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


def attacks_fingerprint(attacks: Sequence[Attack], seed: int) -> str:
    """sha256 over the settings of all attacks and their seed: equal where counts may be paired."""
    text = json.dumps([seed, [attack.settings() for attack in attacks]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
