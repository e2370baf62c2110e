"""How far a slice must be disturbed at most until its mask is useless."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import Attack, AttackBatch, Passes, check_name
from robustness.best import chosen
from robustness.norms import NORMS, Norm, budget, lengths, steepest
from robustness.objectives import Objective, margin

# The first step of a slice as share of its epsilon, and the last one; they fall along a cosine.
_FIRST_STEP, _LAST_STEP = 1.0, 0.01
# How far the logarithm of a pixel's weight moves at first and at last; share of a new direction.
_FIRST_RATE, _LAST_RATE, _TURN = 0.1, 0.002, 0.5
# Until a slice is broken its epsilon doubles, from this share of the image range on.
_FIRST_EPSILON: dict[Norm, float] = {"linf": 1 / 64, "l2": 1 / 4}


@dataclass(frozen=True)
class MinimumNormAttack(Attack):
    """Finds a short disturbance that brings a slice's Dice below a threshold.

    Its length is an upper bound of the shortest one's.

    Each slice has an epsilon of its own: it doubles until the slice breaks, and then shrinks by a
    share after each image that is broken and grows by it after each that is not, while the image
    follows the objective inside the ball; the share falls to zero along a cosine. In the Euclidean
    norm the objective wastes length on pixels that never flip and on those that flipped long ago.
    The second half of the steps therefore asks for no more than the pixels that are wrong in the
    nearest broken image, each with a weight that rises while the pixel is right and falls while it
    is wrong. A bisection between the clean image and the nearest broken one closes what is left.
    An image found for one threshold counts for the higher ones as well. Where the objective is
    saturated (its gradient is zero everywhere) or half of the steps along it have broken nothing,
    a slice goes by ``margin`` of the logits in its place.

    A slice whose clean Dice lies below the threshold stays as it is (distance 0), as does one that
    never breaks (infinite) and one without truth (NaN).

    Args:
        name: Unique name, such as ``minimum_linf``.
        thresholds: Rising values of Dice in (0, 1], averaged over the classes that have truth.
        norm: ``linf``, the largest change of a pixel, or ``l2``, the Euclidean length.
        steps: Gradients taken for each threshold; the first, of the clean image, is shared.
        tighten: Halvings of the bisection for each threshold, one forward pass each.
        share: By which epsilon first shrinks and grows; in (0, 1).
        objective: What the gradient is taken of, by its name in ``robustness.objectives``.
        low: Lower end of the image range that may be used, in image units (after scaling).
        high: Upper end of it.
        valid_only: Leave padding alone.

    Raises:
        ValueError: If a setting makes no sense.

    References:
        Pintor et al., Fast minimum-norm adversarial attacks through adaptive norm constraints,
        NeurIPS 2021. Differences: masks have no single margin, so that epsilon is first found by
        doubling, not by the linear estimate of the distance to the boundary; steps are shares of
        epsilon, and in the maximum norm they take the gradient's sign. The weights are multipliers
        of one constraint a pixel, as in Rony et al., Proximal splitting adversarial attacks for
        semantic segmentation, CVPR 2023, but follow the multiplicative rule of Freund and Schapire,
        A decision-theoretic generalization of on-line learning, JCSS 1997.
    """

    thresholds: tuple[float, ...] = (0.5,)
    norm: Norm = "linf"
    steps: int = 100
    tighten: int = 8
    share: float = 0.3
    objective: str = "soft_dice"
    low: float = 0.0
    high: float = 0.2
    valid_only: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        check_name(self.name)
        if not self.thresholds or not all(0 < threshold <= 1 for threshold in self.thresholds):
            self.refuse("thresholds", self.thresholds, "one or more values of Dice in (0, 1]")
        self.check_rising("thresholds", self.thresholds)
        self.check_option("norm", self.norm, NORMS)
        if self.steps < 1:
            self.refuse("steps", self.steps, "1 or more")
        if self.tighten < 0:
            self.refuse("tighten", self.tighten, "0 or more")
        if not 0 < self.share < 1:
            self.refuse("share", self.share, "a number between 0 and 1")
        self.check_range(self.low, self.high)

    @property
    def axis(self) -> str:
        """The Dice that a slice shall fall below."""
        return "threshold"

    @property
    def unit(self) -> str:
        """Thresholds are values of Dice."""
        return "slice Dice"

    @property
    def points(self) -> tuple[float, ...]:
        """The thresholds."""
        return tuple(float(threshold) for threshold in self.thresholds)

    @property
    def repeats(self) -> int:
        """Nothing is random: the search starts at the clean image."""
        return 1

    @property
    def passes(self) -> Passes:
        """A look at the clean image and its gradient, then steps and halvings for each threshold.

        A slice that is settled takes the look alone.
        """
        gradients = 1 + len(self.thresholds) * (self.steps - 1)
        return Passes(1 + gradients + len(self.thresholds) * self.tighten, gradients)

    def settled(self, batch: AttackBatch) -> Tensor:
        """Slices that are broken before they are disturbed, for all thresholds, or lack truth."""
        dice = slice_dice(batch.logits(batch.image), batch.mask, batch.counted)
        return dice.isnan() | (dice < self.thresholds[0])

    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        """The nearest broken images, one batch for each threshold; see :meth:`Attack.disturb`."""
        clean = batch.clean_ascent(self.objective)
        last = self.steps if self.norm == "linf" else (self.steps + 1) // 2
        harder: _Search | None = None
        for point in range(len(self.thresholds)):
            search = _Search(self, batch, point)
            search.look(batch.image, clean.logits)
            search.descend(clean.gradient, last)
            search.refine(self.steps - last)
            search.bisect()
            if harder is not None:
                search.take(harder)
            yield point, 0, search.nearest
            harder = search

    def measure(
        self, batch: AttackBatch, point_index: int, disturbed: Tensor, clean_logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """How far the images lie that :meth:`disturb` has yielded, without a pass.

        Args:
            batch: The clean slices.
            point_index: Index of the threshold.
            disturbed: What was yielded for it, shape ``(B, C, H, W)``.
            clean_logits: The network's logits of the clean slices, shape ``(B, K, H, W)``.

        Returns:
            Distance in image units and clean Dice, float64, shape ``(B,)`` each. The distance is 0
            where the clean slice lies below the threshold, infinite where no image was found, and
            NaN, as is the Dice, without truth.
        """
        dice = slice_dice(clean_logits, batch.mask, batch.counted)
        length = lengths(disturbed.double() - batch.image.double(), self.norm)
        length = torch.where(length == 0, math.inf, length)
        length = torch.where(dice < self.thresholds[point_index], 0.0, length)
        return torch.where(dice.isnan(), dice, length), dice


def slice_dice(logits: Tensor, mask: Tensor, counted: Tensor) -> Tensor:
    """Dice of each slice, averaged over the classes that have truth in it.

    Args:
        logits: Shape ``(B, K, H, W)``.
        mask: Truth of 0 and 1, same shape.
        counted: False where the truth is not known, shape ``(B, 1, H, W)``.

    Returns:
        float64, shape ``(B,)``; NaN for slices without truth.
    """
    predicted, truth = (logits > 0) & counted, (mask > 0) & counted
    tp, positive, true = (
        each.flatten(2).sum(dim=2, dtype=torch.float64)
        for each in (predicted & truth, predicted, truth)
    )
    dice = 2 * tp / (positive + true).clamp(min=1)
    return torch.where(true > 0, dice, math.nan).nanmean(dim=1)


class _Search:
    """The nearest broken images of a batch that were seen so far, for one threshold."""

    def __init__(self, attack: MinimumNormAttack, batch: AttackBatch, point: int) -> None:
        self._attack, self._batch = attack, batch
        self._threshold = attack.thresholds[point]
        movable = batch.movable(valid_only=attack.valid_only)
        # Its bounds alone are of use: epsilon differs between slices.
        self._bounds = budget(batch.image, movable, attack.low, attack.high, math.inf, "l2")
        reach = torch.maximum(self._bounds.upper - batch.image, batch.image - self._bounds.lower)
        self._reach = lengths(reach, attack.norm)
        self.nearest = batch.image
        self.distance = torch.full_like(self._reach, math.inf)
        # Classes and pixels that are wrong in the nearest broken image; without one, any may be.
        self._wrong = batch.counted.expand_as(batch.mask)

    def look(self, image: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Keep what is broken and nearer than before; which are broken, and their distance."""
        batch = self._batch
        broken = slice_dice(logits, batch.mask, batch.counted) < self._threshold
        distance = lengths(image - batch.image, self._attack.norm)
        nearer = broken & (distance < self.distance)
        wrong = ((logits > 0) != (batch.mask > 0)) & batch.counted
        self.distance = torch.where(nearer, distance, self.distance)
        self.nearest = chosen(nearer, image, self.nearest)
        self._wrong = chosen(nearer, wrong, self._wrong)
        return broken, distance

    def take(self, harder: "_Search") -> None:
        """Keep what was found nearer for a lower threshold."""
        nearer = harder.distance < self.distance
        self.distance = torch.where(nearer, harder.distance, self.distance)
        self.nearest = chosen(nearer, harder.nearest, self.nearest)

    def descend(self, gradient: Tensor, steps: int) -> None:
        """Follow the objective from the clean image, whose gradient is given."""
        attack, clean = self._attack, self._batch.image
        first = _FIRST_EPSILON[attack.norm] * (attack.high - attack.low)
        epsilon = self._reach.clamp(max=first)
        image = clean
        lost = torch.zeros_like(epsilon, dtype=torch.bool)
        for step in range(1, steps):
            lost = lost | self._without_way(gradient)
            if 2 * step >= steps:
                lost = lost | self.distance.isinf()
            fade = _fade(step, steps)
            length = epsilon * (_LAST_STEP + (_FIRST_STEP - _LAST_STEP) * fade)
            direction = steepest(self._bounds.movable(gradient), attack.norm)
            image = self._within(image + _per_image(length) * direction - clean, epsilon)
            found = self._batch.ascent(self._or_margin(lost), image)
            gradient = found.gradient
            broken, distance = self.look(image, found.logits)
            epsilon = self._next_epsilon(epsilon, broken, distance, attack.share * fade)

    def refine(self, steps: int) -> None:
        """Hold the wrong pixels of the nearest broken image, each with as little as it needs.

        A slice that is not broken yet is tried once more with all pixels.
        """
        attack, clean, mask = self._attack, self._batch.image, self._batch.mask
        side = torch.where(mask > 0, -1.0, 1.0)
        weight = torch.ones_like(mask)
        epsilon = torch.minimum(self.distance, self._reach)
        image = self.nearest
        way = image - clean
        for step in range(steps):
            fade = _fade(step, steps)
            held = side * weight * self._wrong
            found = self._batch.ascent(_weighted(held), image)
            broken, distance = self.look(image, found.logits)
            rate = _LAST_RATE + (_FIRST_RATE - _LAST_RATE) * fade
            weight = weight * torch.exp(-rate * (side * found.logits).sign())
            largest = lengths(weight * self._wrong, "linf").clamp(min=1e-30)
            weight = (weight / _per_image(largest)).clamp(max=1)
            epsilon = self._next_epsilon(epsilon, broken, distance, attack.share * fade)
            target = _per_image(epsilon) * steepest(
                self._bounds.movable(found.gradient), attack.norm
            )
            way = (1 - _TURN) * way + _TURN * target
            image = self._within(_per_image(epsilon) * steepest(way, attack.norm), epsilon)

    def bisect(self) -> None:
        """Halve the way between the clean image and the nearest broken one."""
        way, end = self.nearest - self._batch.image, self.distance
        end = torch.where(end.isinf(), 0, end)
        intact, enough = torch.zeros_like(end), torch.ones_like(end)
        for _ in range(self._attack.tighten):
            middle = (intact + enough) / 2
            image = self._within(way, middle * end)
            broken, _ = self.look(image, self._batch.logits(image))
            enough = torch.where(broken, middle, enough)
            intact = torch.where(broken, intact, middle)

    def _without_way(self, gradient: Tensor) -> Tensor:
        """True where no pixel that may change has a gradient, shape ``(B,)``."""
        return (self._bounds.movable(gradient) == 0).flatten(1).all(dim=1)

    def _or_margin(self, lost: Tensor) -> Objective:
        """The objective, and the margin of the logits for the slices that are lost with it."""
        given = self._batch.objectives[self._attack.objective]

        def objective(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
            values = given(logits, target, valid)
            return torch.where(lost, margin(logits, target, valid), values)

        return objective

    def _next_epsilon(
        self, epsilon: Tensor, broken: Tensor, distance: Tensor, change: float
    ) -> Tensor:
        """Shorter after a broken image, else longer: twice as long while no broken one is known."""
        longer = epsilon * torch.where(self.distance.isinf(), 2.0, 1.0 + change)
        shorter = torch.minimum(epsilon, distance) * (1 - change)
        epsilon = torch.where(broken, shorter, torch.minimum(longer, self.distance))
        return torch.minimum(epsilon, self._reach)

    def _within(self, way: Tensor, epsilon: Tensor) -> Tensor:
        """The clean images moved, at most by epsilon and not out of the range."""
        most = _per_image(epsilon)
        if self._attack.norm == "linf":
            way = torch.maximum(torch.minimum(way, most), -most)
        else:
            length = _per_image(lengths(way, "l2"))
            way = way * torch.where(length > most, most / length.clamp(min=1e-30), 1)
        return (self._batch.image + way).clamp(self._bounds.lower, self._bounds.upper)


def _weighted(weight: Tensor) -> Objective:
    """A weighted sum of logits."""

    def objective(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return (weight * logits).flatten(1).sum(dim=1)

    return objective


def _fade(step: int, steps: int) -> float:
    """From 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * step / steps)) / 2


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
