"""Gradient and attacked probabilities of a few slices, for pictures of all runs on one scale."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustness.attack import Attack, AttackBatch
from robustness.batches import Batch, attack_batch, fixed_size, ordinary_tensors
from robustness.objectives import OBJECTIVES, Objective
from robustness.pictured import PicturedSlice
from robustness.saliency import Forward


@dataclass(frozen=True)
class Snapshot(PicturedSlice):
    """What a network makes of one slice, clean and under one attack.

    Attributes:
        gradient: Signed gradient of the sum of probabilities, shape ``(C, H, W)``, float32.
        attack: Name of the attack.
        unit: Unit of its points.
        points: Shape ``(P,)``, float64.
        attacked_probs: Probabilities at each point (repeat 0), shape ``(P, K, H, W)``, float32.
    """

    gradient: np.ndarray
    attack: str
    unit: str
    points: np.ndarray
    attacked_probs: np.ndarray


@dataclass(frozen=True)
class SliceSample:
    """One slice as it stood in a batch, on the host.

    Attributes:
        case: Name of the volume.
        slice_index: Index of the slice in it.
        area: True pixels of all classes.
        image: Shape ``(C, H, W)``.
        mask: Shape ``(K, H, W)``.
        valid: Shape ``(1, H, W)``.
    """

    case: str
    slice_index: int
    area: int
    image: Tensor
    mask: Tensor
    valid: Tensor


class LargestSlices:
    """Keeps, of the first cases by name, the slice with the largest true area.

    Equal areas go to the lower slice index, so that any order of slices gives the same choice.

    Args:
        cases: How many cases are kept.
    """

    def __init__(self, cases: int) -> None:
        self._limit = cases
        self._best: dict[str, SliceSample] = {}

    def look(self, batch: Batch) -> None:
        """Look at a batch as it passes by."""
        areas = batch["mask"].flatten(1).sum(dim=1).long().tolist()
        indices = batch["slice_index"].tolist()
        for row, case in enumerate(batch["case"]):
            image, mask, valid = (batch[name][row] for name in ("image", "mask", "valid"))
            self._keep(SliceSample(case, indices[row], areas[row], image, mask, valid))

    def samples(self) -> list[SliceSample]:
        """The chosen slices by case name, copied to the host."""
        return [
            SliceSample(
                best.case,
                best.slice_index,
                best.area,
                best.image.cpu().clone(),
                best.mask.cpu().clone(),
                best.valid.cpu().clone(),
            )
            for _, best in sorted(self._best.items())
        ]

    def merge(self, samples: Iterable[SliceSample]) -> None:
        """Take in what another process has chosen."""
        for sample in samples:
            self._keep(sample)

    def _keep(self, sample: SliceSample) -> None:
        best = self._best.get(sample.case)
        if best is None or (sample.area, -sample.slice_index) > (best.area, -best.slice_index):
            self._best[sample.case] = sample
        if len(self._best) > self._limit:
            del self._best[max(self._best)]


def take_snapshots(
    forward: Forward,
    samples: Sequence[SliceSample],
    attack: Attack,
    *,
    device: torch.device,
    seed: int = 0,
    batch_size: int = 32,
    objectives: Mapping[str, Objective] = OBJECTIVES,
) -> list[Snapshot]:
    """Gradient and probabilities of some slices, clean and at each point of one attack.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images; in evaluation mode.
        samples: The slices.
        attack: The attack whose points are shown.
        device: Where the network is.
        seed: The seed of the attacks.
        batch_size: The engine's, so that the same pixels are attacked as in the counts.
        objectives: What gradients may be taken of, by name.

    Returns:
        One snapshot per sample, in order.
    """
    if not samples:
        return []
    batch = batch_of(samples)
    with ordinary_tensors():
        return [
            snapshot
            for piece in fixed_size([batch], batch_size)
            for snapshot in _snap(
                attack_batch(forward, piece, device, objectives), piece.cases, attack, seed
            )
        ]


def batch_of(samples: Sequence[SliceSample]) -> Batch:
    """Samples as a batch of the design, on the host.

    Args:
        samples: One or more of one size.
    """
    return {
        "image": torch.stack([sample.image for sample in samples]),
        "mask": torch.stack([sample.mask for sample in samples]),
        "valid": torch.stack([sample.valid for sample in samples]),
        "case": [sample.case for sample in samples],
        "slice_index": torch.tensor([sample.slice_index for sample in samples]),
    }


def _snap(batch: AttackBatch, cases: Sequence[str], attack: Attack, seed: int) -> list[Snapshot]:
    def probabilities(images: Tensor) -> np.ndarray:
        return batch.logits(images).sigmoid().cpu().numpy()

    gradient = batch.gradient("probability_sum").cpu().numpy()
    clean = probabilities(batch.image)
    attacked: dict[int, np.ndarray] = {
        index: probabilities(disturbed)
        for index, repeat, disturbed in attack.disturb(batch, seed)
        if repeat == 0
    }
    points = np.array(attack.points, dtype=np.float64)
    return [
        Snapshot(
            case=case,
            slice_index=int(batch.slice_index[row]),
            image=batch.image[row].cpu().numpy(),
            mask=batch.mask[row].cpu().numpy() > 0,
            valid=batch.valid[row, 0].cpu().numpy(),
            gradient=gradient[row],
            probs=clean[row],
            attack=attack.name,
            unit=attack.unit,
            points=points,
            attacked_probs=np.stack([attacked[index][row] for index in range(len(points))]),
        )
        for row, case in enumerate(cases)
    ]
