"""Every order in which pixels, or entries of single channels, can be taken from a batch."""

import torch
from torch import Tensor

from robustness.attack import GRADIENT_RANKINGS, AttackBatch
from robustness.keyed_random import counter_hashes
from robustness.ranking import edge_strength, rank_at_random, rank_by_score, rank_matched

GRADIENT = "gradient"
GRADIENT_LOW = "gradient_low"
EDGE = "edge"
INTENSITY_MATCHED = "intensity_matched"
RANDOM = "random"

RANKINGS = (*GRADIENT_RANKINGS, GRADIENT_LOW, EDGE, INTENSITY_MATCHED, RANDOM)
# These have random numbers in them, so that repeats differ.
RANDOM_RANKINGS = (INTENSITY_MATCHED, RANDOM)
# These ask the network nothing.
BLIND_RANKINGS = (EDGE, RANDOM)


def gradient_ranking(ranking: str) -> str:
    """The one of ``GRADIENT_RANKINGS`` whose gradient a ranking goes by.

    It is the paper's where a ranking has none of its own.
    """
    return ranking if ranking in GRADIENT_RANKINGS else GRADIENT


def allowed_entries(batch: AttackBatch, *, valid_only: bool, per_channel: bool) -> Tensor:
    """Where an attack may take pixels.

    Returns:
        bool, shape ``(B, 1, H, W)``, or ``(B, C, H, W)`` for entries of channels.
    """
    allowed = batch.movable(valid_only=valid_only)
    return allowed.expand_as(batch.image) if per_channel else allowed


def ranked_entries(
    batch: AttackBatch, ranking: str, count: int, *, valid_only: bool, per_channel: bool
) -> Tensor:
    """The first pixels by a gradient or by the image's edges; ties go to the lower index.

    Args:
        batch: The clean slices.
        ranking: One of ``RANKINGS`` with nothing random in it.
        count: How many each image gives.
        valid_only: Whether padding comes last.
        per_channel: Whether entries of single channels are ranked; else scores are summed over
            channels.

    Returns:
        Row-major indices in ``(H, W)``, or in ``(C, H, W)``, int64, shape ``(B, count)``.

    Raises:
        ValueError: If an image has fewer than ``count``.
    """
    if ranking in GRADIENT_RANKINGS and not valid_only and not per_channel:
        return batch.ranked_pixels(ranking, count)
    if ranking == EDGE:
        score = edge_strength(batch.image, batch.valid if valid_only else None)
    else:
        objective, signed = GRADIENT_RANKINGS[gradient_ranking(ranking)]
        gradient = batch.gradient(objective)
        score = gradient if signed else gradient.abs()
    if ranking == GRADIENT_LOW:
        score = -score
    if not per_channel:
        score = score.sum(dim=1, keepdim=True)
    allowed = allowed_entries(batch, valid_only=valid_only, per_channel=per_channel)
    return rank_by_score(score, count, allowed if valid_only else None)


def random_entries(
    batch: AttackBatch, keys: Tensor, repeat: int, count: int, *, per_channel: bool
) -> Tensor:
    """Random entries of the valid region; shapes as in :func:`ranked_entries`."""
    allowed = allowed_entries(batch, valid_only=True, per_channel=per_channel)
    return rank_at_random(keys, repeat, allowed, count)


def matched_entries(
    batch: AttackBatch,
    keys: Tensor,
    repeat: int,
    count: int,
    *,
    valid_only: bool,
    per_channel: bool,
) -> Tensor:
    """For each of the top pixels by the paper's gradient another one of closest intensity.

    A match lies outside of the top ``count``. Ties, such as those among dark pixels, are random.
    Entries of single channels are matched within their channel.

    Args:
        batch: The clean slices.
        keys: One hash state for each image, int64, shape ``(B,)``.
        repeat: Which repetition.
        count: How many pixels are matched; an image needs twice as many.
        valid_only: Whether both the top pixels and their matches lie in the valid region.
        per_channel: Whether entries of single channels are ranked.

    Returns:
        Shapes as in :func:`ranked_entries`.
    """
    top = ranked_entries(batch, GRADIENT, count, valid_only=valid_only, per_channel=per_channel)
    allowed = allowed_entries(batch, valid_only=valid_only, per_channel=per_channel).flatten(1)
    image = batch.image.flatten(1)[:, None] if per_channel else batch.image.flatten(2)
    hashes = counter_hashes(keys, repeat, image.shape[2])
    if per_channel:
        pixels = batch.image.shape[-2] * batch.image.shape[-1]
        channel = torch.arange(image.shape[2], device=image.device) // pixels
        allowed = allowed[:, None] & (channel == (top // pixels)[:, :, None])
    return rank_matched(image, top, allowed, hashes)
