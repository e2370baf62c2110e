"""Pixel flipping: what becomes of an objective as pixels are taken away or put in by a map's order.

If a map finds what the network looks at, the objective falls faster under its order than under a
random one (deletion), and rises faster as pixels come back (insertion).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.keyed_random import slice_keys
from robustness.objectives import Objective
from robustness.ranking import rank_at_random, rank_by_score


@dataclass(frozen=True)
class FlipCurves:
    """Curves of one order of pixels: (objective - blank) / abs(clean - blank).

    The blank slice is 0 and the clean one 1, or -1 where the objective is higher on the blank
    slice: a map's high pixels raise the objective all the same, so that gains keep their meaning.

    Attributes:
        shares: Share of the pixels flipped, rising from 0 to 1, float64, shape ``(P,)``.
        deletion: Objective as the first pixels of the order are blanked, shape ``(B, P)``.
        insertion: Objective as they are put into a blank slice, same shape.
    """

    shares: Tensor
    deletion: Tensor
    insertion: Tensor

    @property
    def deletion_area(self) -> Tensor:
        """Area under the deletion curve by trapezoids, shape ``(B,)``: low for a good order."""
        return torch.trapezoid(self.deletion, self.shares, dim=1)

    @property
    def insertion_area(self) -> Tensor:
        """Area under the insertion curve by trapezoids, shape ``(B,)``: high for a good order."""
        return torch.trapezoid(self.insertion, self.shares, dim=1)


@dataclass(frozen=True)
class Flipping:
    """Curves of a map's order and of a random order of the same pixels.

    Attributes:
        ranked: By the map, highest first.
        at_random: By chance.
    """

    ranked: FlipCurves
    at_random: FlipCurves

    @property
    def deletion_gain(self) -> Tensor:
        """How much lower the deletion area is than by chance, shape ``(B,)``."""
        return self.at_random.deletion_area - self.ranked.deletion_area

    @property
    def insertion_gain(self) -> Tensor:
        """How much higher the insertion area is than by chance, shape ``(B,)``."""
        return self.ranked.insertion_area - self.at_random.insertion_area


def pixel_flipping(
    batch: AttackBatch,
    maps: Tensor,
    objective: str | Objective,
    *,
    baseline: float | None = None,
    steps: int = 20,
    signed: bool = True,
    seed: int = 0,
) -> Flipping:
    """Delete and insert the valid pixels of each slice in the order of its map, and by chance.

    At step j of ``steps`` the first ``round(j / steps n)`` of a slice's n valid pixels are flipped,
    in all channels. Padding stays as it is. Takes ``4 steps - 2`` forward passes: the ends are
    shared by all four curves.

    Args:
        batch: The clean slices.
        maps: Shape ``(B, C, H, W)``; channels are summed.
        objective: What the maps explain, by name or itself. A region in it must be frozen on the
            clean slices.
        baseline: The intensity of a blank pixel; None takes the mean of the slice's valid pixels,
            channel by channel. Black pixels would be spots that no scan has: a network loses sight
            of everything after a few of them, whatever their order.
        steps: Points of a curve less one.
        signed: Rank by the signed value, highest first, or by the magnitude.
        seed: Of the random order, which depends on case and slice but not on the map.

    Returns:
        The curves; NaN for slices whose objective is the same clean and blank, and those of the
        map also where it is the same everywhere. Pixels of equal value are flipped in a random
        order.

    Raises:
        ValueError: If there is no step, or the maps are not of the images' shape.

    References:
        Samek et al., Evaluating the visualization of what a deep neural network has learned, IEEE
        TNNLS 2017 (pixel flipping, against a random order); Petsiuk, Das, Saenko: RISE, BMVC 2018
        (deletion and insertion areas).
    """
    if steps < 1:
        msg = f"steps: found {steps}, expected 1 or more"
        raise ValueError(msg)
    if maps.shape != batch.image.shape:
        msg = f"maps: found shape {tuple(maps.shape)}, expected {tuple(batch.image.shape)}"
        raise ValueError(msg)
    score = (maps if signed else maps.abs()).double().sum(dim=1)
    keys = slice_keys(seed, "pixel_flipping/order", batch.case_keys, batch.slice_index)
    pixels = score[0].numel()
    # Two random orders: one to be compared with, one that breaks ties.
    at_random, among_equals = (rank_at_random(keys, which, batch.valid, pixels) for which in (0, 1))
    ranked = _ranked(score, among_equals, batch.valid)
    level = _mean_levels(batch) if baseline is None else baseline
    blank = torch.where(batch.valid, level, batch.image)
    ends = (
        batch.value(objective, batch.image).double(),
        batch.value(objective, blank).double(),
    )
    found, chance = (
        _curves(batch, order, blank, objective, steps, ends) for order in (ranked, at_random)
    )
    unranked = _same_everywhere(score, batch.valid)[:, None]
    deletion, insertion = (
        curve.masked_fill(unranked, torch.nan) for curve in (found.deletion, found.insertion)
    )
    return Flipping(FlipCurves(found.shares, deletion, insertion), chance)


def _ranked(score: Tensor, among_equals: Tensor, valid: Tensor) -> Tensor:
    """Pixels by falling score, equal ones in a random order: rows must not decide among them."""
    shuffled = score.flatten(1).gather(1, among_equals)
    allowed = valid.flatten(1).gather(1, among_equals)
    order = rank_by_score(shuffled[:, None], shuffled.shape[1], allowed[:, None])
    return among_equals.gather(1, order)


def _same_everywhere(score: Tensor, valid: Tensor) -> Tensor:
    """Which slices have no order at all, shape ``(B,)``."""
    high = score.masked_fill(~valid[:, 0], -torch.inf).amax(dim=(1, 2))
    low = score.masked_fill(~valid[:, 0], torch.inf).amin(dim=(1, 2))
    return high <= low


def _mean_levels(batch: AttackBatch) -> Tensor:
    """Mean of each slice's valid pixels, shape ``(B, C, 1, 1)``; 0 where none is valid."""
    pixels = batch.valid.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    return (batch.image * batch.valid).sum(dim=(2, 3), keepdim=True) / pixels


def _curves(
    batch: AttackBatch,
    order: Tensor,
    blank: Tensor,
    objective: str | Objective,
    steps: int,
    ends: tuple[Tensor, Tensor],
) -> FlipCurves:
    place = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    place = place.reshape(batch.valid.shape)
    size = batch.valid.flatten(1).sum(dim=1)
    clean, nothing = ends
    deletion, insertion = [clean], [nothing]
    for step in range(1, steps):
        flipped = place < (step / steps * size).round().reshape(-1, 1, 1, 1)
        deleted = torch.where(flipped, blank, batch.image)
        inserted = torch.where(flipped, batch.image, blank)
        deletion.append(batch.value(objective, deleted).double())
        insertion.append(batch.value(objective, inserted).double())
    deletion.append(nothing)
    insertion.append(clean)
    span = (clean - nothing).abs()[:, None]
    span = span.masked_fill(span == 0, torch.nan)
    shares = torch.linspace(0, 1, steps + 1, dtype=torch.float64, device=order.device)
    scaled = [
        (torch.stack(curve, dim=1) - nothing[:, None]) / span for curve in (deletion, insertion)
    ]
    return FlipCurves(shares, *scaled)
