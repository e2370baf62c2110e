"""Signs that gradients tell little of a network: zeros in them, and outputs that are saturated."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Self

import torch

from robustness.batches import Batch, attack_batch, fixed_size
from robustness.objectives import OBJECTIVES, Objective
from robustness.saliency import Forward

# Below this the slope p (1 - p) of a sigmoid is next to nothing: at logits beyond +-13.8.
_FLAT = 1e-6


@dataclass(frozen=True)
class GradientHealth:
    """Whole numbers, which add up over processes.

    Attributes:
        zeros: Entries of the gradient in valid pixels that are exactly 0.
        entries: All entries of the gradient in valid pixels.
        saturated: Probabilities in valid pixels whose slope is under 1e-6.
        outputs: All probabilities in valid pixels.
    """

    zeros: int = 0
    entries: int = 0
    saturated: int = 0
    outputs: int = 0

    def to_text(self) -> str:
        """The numbers as JSON, for the metadata of counts."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The numbers from :meth:`to_text`."""
        return cls(**json.loads(text))

    @property
    def zero_share(self) -> float:
        """Share of the gradient that is exactly 0."""
        return self.zeros / max(1, self.entries)

    @property
    def saturated_share(self) -> float:
        """Share of the outputs that are saturated."""
        return self.saturated / max(1, self.outputs)

    def __add__(self, other: "GradientHealth") -> "GradientHealth":
        """The numbers of both."""
        return GradientHealth(
            self.zeros + other.zeros,
            self.entries + other.entries,
            self.saturated + other.saturated,
            self.outputs + other.outputs,
        )


def gradient_health(
    forward: Forward,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    objective: str = "bce",
    objectives: Mapping[str, Objective] = OBJECTIVES,
    batch_size: int = 32,
) -> GradientHealth:
    """Count zeros and saturation on clean slices: one forward and one backward pass of each.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images; in evaluation mode.
        batches: Batches of the design.
        device: Where the network is.
        objective: What the gradient is taken of.
        objectives: Objectives by name.
        batch_size: The one size of all batches.

    Returns:
        The numbers of the slices that this process was given.

    Raises:
        ValueError: If a gradient is not finite, or logits and masks differ in shape.
    """
    found = GradientHealth()
    for piece in fixed_size(batches, batch_size):
        batch = attack_batch(forward, piece, device, objectives)
        ascent = batch.ascent(objective, batch.image)
        real = slice(0, len(piece.cases))
        valid = batch.valid[real]
        probs = ascent.logits[real].double().sigmoid()
        found += GradientHealth(
            zeros=int(((ascent.gradient[real] == 0) & valid).sum()),
            entries=int(valid.sum()) * batch.image.shape[1],
            saturated=int((((probs * (1 - probs)) < _FLAT) & valid).sum()),
            outputs=int(valid.sum()) * probs.shape[1],
        )
    return found
