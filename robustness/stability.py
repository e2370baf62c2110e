"""How much a map changes when the slice changes by next to nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.map_agreement import rank_correlation
from robustness.randomisation import Maps


@dataclass(frozen=True)
class Stability:
    """The worst and the mean over noisy copies of each slice.

    Attributes:
        ratio: Largest relative change of the map over the relative change of the slice, float64,
            shape ``(B,)``: 1 where a map grows with the image.
        spearman: Mean rank correlation of signed maps, noisy and clean, float64, same shape.
    """

    ratio: Tensor
    spearman: Tensor


def stability(
    maps: Maps,
    batch: AttackBatch,
    *,
    noise: float = 0.01,
    samples: int = 4,
    seed: int = 0,
    clean: Tensor | None = None,
) -> Stability:
    """Compare the maps of each slice with those of noisy copies.

    Each valid pixel is moved by an independent uniform number in ``+-noise`` times the range of the
    slice's valid intensities, a function of seed, case, slice, sample and place; values are not
    clipped. The ratio is the largest of
    ``(|M(x') - M(x)| / |M(x)|) / (|x' - x| / |x|)`` over the samples, all norms Euclidean. Takes
    ``samples + 1`` times what the method takes.

    Args:
        maps: The method.
        batch: The clean slices.
        noise: As a share of the slice's range of intensities.
        samples: Noisy copies of each slice.
        seed: Of the noise.
        clean: The maps of the clean slices, if they are there already.

    Returns:
        Both; NaN where the map of the clean slice or the slice itself is zero or the slice has no
        range (the rank correlation also where a map is the same everywhere).

    Raises:
        ValueError: If the noise is not above 0 or there are no samples.

    References:
        Alvarez-Melis, Jaakkola: On the robustness of interpretability methods, WHI 2018 (local
        Lipschitz estimate); Agarwal et al., Rethinking stability for attribution-based
        explanations, 2022 (relative input stability, with both changes relative).
    """
    if noise <= 0 or samples < 1:
        msg = f"stability: found noise {noise} and {samples} samples, expected both above 0"
        raise ValueError(msg)
    clean = maps(batch.image).detach() if clean is None else clean
    length, size = _norm(clean), _norm(batch.image)
    counted = batch.valid
    scale = noise * _range(batch)
    ratios, ranks = [], []
    for sample in range(samples):
        drawn = batch.uniforms(seed, "stability/noise", sample, batch.image[0].numel())
        move = (2 * drawn - 1).reshape(batch.image.shape) * scale
        noisy = torch.where(counted, batch.image + move, batch.image)
        found = maps(noisy).detach()
        ratios.append(_norm(found - clean) / length / (_norm(noisy - batch.image) / size))
        ranks.append(rank_correlation(clean, found, counted))
    worst = torch.stack(ratios).amax(dim=0)
    unknown = (length == 0) | (size == 0) | (scale.flatten() == 0)
    return Stability(worst.masked_fill(unknown, torch.nan), torch.stack(ranks).mean(dim=0))


def _range(batch: AttackBatch) -> Tensor:
    """From the darkest to the brightest valid pixel of a slice, shape ``(B, 1, 1, 1)``."""
    high = batch.image.masked_fill(~batch.valid, -torch.inf).amax(dim=(1, 2, 3), keepdim=True)
    low = batch.image.masked_fill(~batch.valid, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
    return (high - low).clamp(min=0)


def _norm(values: Tensor) -> Tensor:
    return values.double().flatten(1).square().sum(dim=1).sqrt()
