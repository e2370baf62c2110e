"""Draws attribution maps of a few slices by several methods, and checks whether to believe them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from robustness.attack import AttackBatch
from robustness.attribution import explain
from robustness.attribution_method import OBJECTIVE, Attribution
from robustness.batches import attack_batch, fixed_size
from robustness.explained import FROZEN, PREDICTED, explained, explained_words
from robustness.objectives import OBJECTIVES, Objective
from robustness.pictured import SliceMaps
from robustness.saliency import Forward
from robustness.snapshots import SliceSample, batch_of
from robustness.trust import Checked, check_trust


@dataclass(frozen=True)
class MethodMaps:
    """What one method says of all slices.

    Attributes:
        method: Its name.
        unit: Of its maps.
        signed: Whether maps may be below 0.
        settings: Its name, settings and seed, as JSON.
        maps: float32, shape ``(S, C, H, W)``; None where the method was refused.
        checked: Whether the maps can be believed; None where that was not asked, or not possible.
        refused: Why the method cannot work with the network, or cannot be checked; empty where it
            can.
    """

    method: str
    unit: str
    signed: bool
    settings: str
    maps: np.ndarray | None
    checked: Checked | None = None
    refused: str = ""


def whole_batch(
    forward: Forward,
    samples: Sequence[SliceSample],
    device: torch.device,
    objectives: Mapping[str, Objective] = OBJECTIVES,
) -> AttackBatch:
    """All slices in one batch, without any to fill it up.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images; in evaluation mode.
        samples: One or more of one size.
        device: Where the network is.
        objectives: What can be explained beside the sums of ``robustness.explained``.
    """
    (piece,) = fixed_size([batch_of(samples)], len(samples))
    return attack_batch(forward, piece, device, objectives)


def explain_slices(
    network: nn.Module, batch: AttackBatch, method: Attribution, *, what: str = "all", seed: int = 0
) -> MethodMaps:
    """Maps of some slices by one method.

    Args:
        network: The modules behind ``batch.forward``.
        batch: The clean slices.
        method: Draws the maps.
        what: What is explained; see :func:`robustness.explained.explained`.
        seed: Of random numbers.

    Returns:
        The maps. A method that cannot work with the network has none, but the reason: it must not
        cost a training the maps of the others.
    """
    found = MethodMaps(
        method.name,
        method.unit.replace(OBJECTIVE, explained_words(what)),
        method.signed,
        json.dumps({**method.settings(), "seed": seed}),
        None,
    )
    try:
        maps = explain(method, network, batch, explained(what, batch), seed)
    except ValueError as error:
        return replace(found, refused=str(error))
    return replace(found, maps=maps.cpu().numpy())


def check_method(
    network: nn.Module, batch: AttackBatch, method: Attribution, *, what: str = "all", seed: int = 0
) -> Checked | str:
    """Whether the maps of a method can be believed.

    Args:
        network: The modules behind ``batch.forward``.
        batch: The clean slices that it is checked on.
        method: Draws the maps.
        what: What is explained. A predicted mask is frozen on the clean slices: under other weights
            and pixels another region would be explained.
        seed: Of random numbers.

    Returns:
        The verdict and what it rests on; or the reason why there can be none.
    """

    def maps(given: AttackBatch, objective: Objective) -> Tensor:
        return explain(method, network, given, objective, seed)

    try:
        return check_trust(
            network,
            batch,
            {method.name: maps},
            explained(FROZEN if what == PREDICTED else what, batch),
            by_magnitude=() if method.contributes else (method.name,),
            seed=seed,
        )[method.name]
    except ValueError as error:
        return f"not checkable: {error}"


def slice_maps(
    batch: AttackBatch,
    samples: Sequence[SliceSample],
    found: Sequence[MethodMaps],
    what: str,
    checkpoint_sha256: str = "",
) -> list[SliceMaps]:
    """All methods' maps, slice by slice.

    Args:
        batch: The clean slices.
        samples: The same.
        found: What the methods say of them.
        what: What was explained.
        checkpoint_sha256: Of the network's weights.

    Returns:
        One a slice, in order, with the methods that were not refused; empty if none is left.
    """
    kept = [(one, one.maps) for one in found if one.maps is not None]
    if not kept:
        return []
    probs = batch.logits(batch.image).sigmoid().cpu().numpy()
    return [
        SliceMaps(
            case=sample.case,
            slice_index=sample.slice_index,
            image=sample.image.numpy(),
            mask=sample.mask.numpy() > 0,
            valid=sample.valid[0].numpy(),
            probs=probs[row],
            explained=explained_words(what),
            methods=np.array([one.method for one, _ in kept]),
            units=np.array([one.unit for one, _ in kept]),
            signed=np.array([one.signed for one, _ in kept]),
            settings=np.array([one.settings for one, _ in kept]),
            checkpoint_sha256=checkpoint_sha256,
            maps=np.stack([maps[row] for _, maps in kept]),
        )
        for row, sample in enumerate(samples)
    ]
