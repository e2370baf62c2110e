"""Scores of a whole predicted volume: overlap, and how far surfaces lie apart in millimetres."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from numpy.typing import NDArray
from torch import Tensor

_PERCENTILE = 95


@dataclass(frozen=True)
class VolumeScores:
    """How well one class of one volume was found.

    Attributes:
        dice: ``2 TP / (2 TP + FP + FN)``; NaN where neither truth nor prediction has the class.
        hd95_mm: 95th percentile of the distances between the surfaces, the larger of both
            directions, in mm; NaN where truth or prediction lacks the class.
        nsd: Normalised surface Dice, the share of both surfaces that lies within the tolerance of
            the other; NaN where neither has the class.
        true_ml: Volume of the truth, in ml.
        predicted_ml: Volume of the prediction, in ml.
    """

    dice: float
    hd95_mm: float
    nsd: float
    true_ml: float
    predicted_ml: float


def volume_scores(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    *,
    tolerance_mm: float = 1.0,
) -> VolumeScores:
    """Score one class of one volume.

    Args:
        predicted: Shape ``(X, Y, Z)``.
        truth: Same shape.
        spacing_mm: Lengths of a voxel along the three axes.
        tolerance_mm: Of the surface Dice.

    Raises:
        ValueError: If the shapes differ.

    References:
        Huttenlocher, Klanderman, Rucklidge: Comparing images using the Hausdorff distance, IEEE
        TPAMI 1993; Nikolov et al.: Deep learning to achieve clinically applicable segmentation of
        head and neck anatomy for radiotherapy, 2018 (surface Dice). Distances are MONAI's.
    """
    if predicted.shape != truth.shape:
        msg = f"predicted has shape {predicted.shape}, expected that of the truth, {truth.shape}"
        raise ValueError(msg)
    both, either = int((predicted & truth).sum()), int(predicted.sum()) + int(truth.sum())
    voxel_ml = math.prod(spacing_mm) / 1000
    hd95, nsd = _surfaces(predicted, truth, spacing_mm, tolerance_mm)
    return VolumeScores(
        dice=2 * both / either if either else math.nan,
        hd95_mm=hd95,
        nsd=nsd,
        true_ml=int(truth.sum()) * voxel_ml,
        predicted_ml=int(predicted.sum()) * voxel_ml,
    )


def _surfaces(
    predicted: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
) -> tuple[float, float]:
    if not (predicted.any() and truth.any()):
        return math.nan, math.nan if predicted.any() == truth.any() else 0.0
    box = _box(predicted | truth)
    found, expected = (_one_class(volume[box]) for volume in (predicted, truth))
    spacing = tuple(float(length) for length in spacing_mm)
    with warnings.catch_warnings():
        # MONAI warns of an argument of its own that it is about to drop.
        warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
        distance = compute_hausdorff_distance(
            found, expected, include_background=True, percentile=_PERCENTILE, spacing=spacing
        )
        share = compute_surface_dice(
            found, expected, [tolerance_mm], include_background=True, spacing=spacing
        )
    return float(distance), float(share)


def _box(volume: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The voxels around a foreground, with one to spare: nothing beyond them is a surface."""
    spans = []
    for axis in range(volume.ndim):
        others = tuple(other for other in range(volume.ndim) if other != axis)
        filled = np.flatnonzero(volume.any(axis=others))
        spans.append(slice(max(0, int(filled[0]) - 1), int(filled[-1]) + 2))
    return tuple(spans)


def _one_class(volume: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(volume)).float()[None, None]
