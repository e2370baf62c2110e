"""Greedy attacks: after each few pixels the gradient is taken again and the next ones are chosen.

Pixels nest over the numbers of pixels, so that one run serves all points.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from robustness.attack import AttackBatch, Passes
from robustness.best import chosen
from robustness.ranking import rank_by_score
from robustness.sparse import SparseAttack
from robustness.values import DIRECTED, directed, replace_pixels

REGIONS = "regions"
SCORES = ("gradient", "gradient_abs", "gain")


class Proposal(NamedTuple):
    """What replacing each pixel promises, and by what.

    Attributes:
        score: The higher the earlier, shape ``(B, 1, H, W)``.
        values: What each entry would be replaced by, shape ``(B, C, H, W)``.
    """

    score: Tensor
    values: Tensor


@dataclass(frozen=True)
class GreedyAttack(SparseAttack):
    """Takes the best pixels, looks again, and takes the next ones; fields as in its kinds."""

    rerank_every: int = 1

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        self._at_least(1, rerank_every=self.rerank_every)

    @property
    def repeats(self) -> int:
        """Nothing in it is random."""
        return 1

    @property
    def _rounds(self) -> int:
        return math.ceil(self.counts[-1] / self.rerank_every)

    @abstractmethod
    def _proposal(self, batch: AttackBatch, image: Tensor, free: Tensor) -> Proposal:
        """Judge all pixels of images that are disturbed so far.

        Args:
            batch: The clean slices.
            image: The images so far, shape ``(B, C, H, W)``; ``batch.image`` itself at first.
            free: Where pixels may be taken, shape ``(B, 1, H, W)``.
        """

    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        """The points in order, each with the pixels of those before; see :meth:`Attack.disturb`."""
        free, image = self._allowed(batch), batch.image
        for taken in range(0, self.counts[-1], self.rerank_every):
            until = min(taken + self.rerank_every, self.counts[-1])
            score, values = self._proposal(batch, image, free)
            pixels = rank_by_score(score, until - taken, free)
            index = pixels[:, None].expand(-1, image.shape[1], -1)
            written = values.flatten(2).gather(2, index)
            for point, count in enumerate(self.counts):
                if taken < count <= until:
                    part = count - taken
                    yield point, 0, replace_pixels(image, pixels[:, :part], written[..., :part])
            image = replace_pixels(image, pixels, written)
            free = free.flatten(1).scatter(1, pixels, value=False).reshape(free.shape)

    def _gradient(self, batch: AttackBatch, image: Tensor) -> Tensor:
        if image is batch.image:
            return batch.gradient(self.objective)
        return batch.ascent(self.objective, image).gradient


@dataclass(frozen=True)
class GreedyCountAttack(GreedyAttack):
    """The paper's attack by number of pixels with the ranking renewed after each few pixels.

    Args:
        name: Unique name.
        counts: Rising numbers of pixels.
        objective: What is increased, by name.
        low: Lower end of directed values, in image units; not to be set beside a level.
        high: Upper end of directed values, in image units; not to be set beside a level.
        valid_only: Whether padding is left alone; else it is ordinary, as in the paper.
        rerank_every: After how many pixels the gradient is taken again.
        value: A level in image units, or ``directed`` for the one of low and high that the gradient
            points to, channel by channel.
        score: Pixels are taken by ``gradient``, the highest signed one first, by ``gradient_abs``,
            or by ``gain``: gradient times change of the pixel. Each is summed over channels.

    Raises:
        ValueError: If a setting makes no sense.
    """

    objective: str = "probability_sum"
    valid_only: bool = False
    value: float | str = DIRECTED
    score: Literal["gradient", "gradient_abs", "gain"] = "gradient"

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        level = not isinstance(self.value, str) and math.isfinite(self.value)
        if not level and self.value != DIRECTED:
            self.refuse("value", self.value, f"a finite number or {DIRECTED}")
        if level:
            self.check_unused(("low", "high"), f"value is {self.value}")
        self.check_option("score", self.score, SCORES)

    @property
    def clean_gradients(self) -> frozenset[str]:
        """That of the objective."""
        return frozenset({self.objective})

    @property
    def passes(self) -> Passes:
        """One gradient for each ``rerank_every`` pixels of the last point."""
        return Passes(self._rounds, self._rounds)

    def degenerate(self, batch: AttackBatch) -> Tensor:
        """True where no pixel that may change has a gradient; shape ``(B,)``."""
        return self._without_gradient(batch)

    def _proposal(self, batch: AttackBatch, image: Tensor, free: Tensor) -> Proposal:
        gradient = self._gradient(batch, image)
        if isinstance(self.value, str):
            values = directed(image, gradient, self.low, self.high)
        else:
            values = torch.full_like(image, float(self.value))
        scores = {
            "gradient": gradient,
            "gradient_abs": gradient.abs(),
            "gain": gradient * (values - image),
        }
        return Proposal(scores[self.score].sum(dim=1, keepdim=True), values)


@dataclass(frozen=True)
class JsmaAttack(GreedyAttack):
    """Greedy saliency-map attack for dense outputs, by two gradients in place of a Jacobian.

    The original takes, for one target class, inputs that raise its output and lower the sum of all
    others. Here the outputs are grouped in two: the summed probability where the truth is
    foreground, to be lowered, and where it is background, to be raised. Each entry is looked at for
    either end of the range; its saliency is the geometric mean of the two gains (gradient times
    change), zero unless both are positive, and summed over the channels of a pixel. A slice in
    which no free pixel has both, such as one without truth, goes by the sum of the gains. One pixel
    is taken at a time, not a pair, it goes to an end of the range at once, and is never taken
    again. Entries without saliency stay as they are.

    Args:
        name: Unique name.
        counts: Rising numbers of pixels.
        objective: ``regions`` for the two gradients, or the name of an objective, whose gain alone
            is then the saliency.
        low: Lower end of the values that a pixel may take, in image units.
        high: Upper end of the values that a pixel may take, in image units.
        valid_only: Whether padding is left alone.
        rerank_every: After how many pixels the gradients are taken again.

    Raises:
        ValueError: If a setting makes no sense.

    References:
        Papernot et al., The limitations of deep learning in adversarial settings, Euro S&P 2016,
        algorithm 3 and equations 8 and 9.
    """

    objective: str = REGIONS

    @property
    def clean_gradients(self) -> frozenset[str]:
        """That of the objective; none for ``regions``."""
        return frozenset() if self.objective == REGIONS else frozenset({self.objective})

    @property
    def objective_names(self) -> frozenset[str]:
        """That of the objective; ``regions`` is looked up nowhere."""
        return self.clean_gradients

    @property
    def passes(self) -> Passes:
        """A forward pass for each ``rerank_every`` pixels of the last point; a gradient, or two."""
        return Passes(self._rounds, (2 if self.objective == REGIONS else 1) * self._rounds)

    def degenerate(self, batch: AttackBatch) -> Tensor:
        """True where no pixel that may change has a gradient; never for ``regions``."""
        if self.objective == REGIONS:
            return super().degenerate(batch)
        return self._without_gradient(batch)

    def _proposal(self, batch: AttackBatch, image: Tensor, free: Tensor) -> Proposal:
        change = torch.stack([end - image for end in (self.low, self.high)])
        if self.objective == REGIONS:
            found = batch.ascents((foreground_lost, background_gained), image)
            lost, gained = (one.gradient * change for one in found)
            both = (lost.clamp_min(0) * gained.clamp_min(0)).sqrt()
            usable = ((both > 0).any(dim=0) & free).flatten(1).any(dim=1)
            saliency = chosen(usable, both, lost + gained)
        else:
            saliency = self._gradient(batch, image) * change
        strongest = saliency.clamp_min(0).max(dim=0)
        ends = torch.where(strongest.indices == 1, self.high, self.low).to(image.dtype)
        values = torch.where(strongest.values > 0, ends, image)
        return Proposal(strongest.values.sum(dim=1, keepdim=True), values)


def foreground_lost(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Minus the summed probability where the truth is foreground: increased by misses.

    Args:
        logits: Shape ``(B, K, H, W)``.
        target: Mask of 0 and 1, same shape.
        valid: Pixels that count, shape ``(B, 1, H, W)``.

    Returns:
        Shape ``(B,)``, in pixels.
    """
    return -(logits.sigmoid() * target * valid).flatten(1).sum(dim=1)


def background_gained(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The summed probability where the truth is background; shapes as :func:`foreground_lost`."""
    return (logits.sigmoid() * (1 - target) * valid).flatten(1).sum(dim=1)
