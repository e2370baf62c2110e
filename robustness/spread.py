"""How widely an attribution map spreads over a slice, and where it lies about the true mask.

A map's magnitude is m = the sum over channels of its absolute values, and p = m / sum(m) over the
pixels that count. No measure changes when a map is multiplied by a positive number. Where a map is
zero everywhere all measures are NaN; where the truth is empty or fills the slice there is no
border, and those that need one (:data:`BORDER_MEASURES`) are NaN.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

# Shares of a slice's largest magnitude; pixels above are active. 0.1 is the definition, the others
# show how much hangs on it.
THRESHOLDS = (0.05, 0.1, 0.2, 0.5)
# Pixels on either side of the true border that are called border.
BAND = 2.0
BORDER_MEASURES = ("radius", "inside_share", "border_share", "outside_share")


class TruthRegions(NamedTuple):
    """Where each pixel lies about the true foreground, all classes in one.

    Attributes:
        inside: True in the foreground, bool, shape ``(B, H, W)``.
        distance: To the border, float64 in pixels, shape ``(B, H, W)``; at least 0.5, as the border
            runs between pixels. NaN where the truth is empty or fills the slice.
    """

    inside: Tensor
    distance: Tensor


def truth_regions(mask: Tensor) -> TruthRegions:
    """The foreground of each slice and every pixel's distance to its border.

    The distance of a pixel is that of its centre to the centre of the nearest pixel on the other
    side, less half a pixel. The frame of the slice is no border. Distances are computed on the
    host.

    Args:
        mask: Truth of 0 and 1, shape ``(B, K, H, W)``.

    Returns:
        Both on the mask's device.

    Raises:
        ValueError: If the mask has not four axes.

    References:
        Maurer, Qi, Raghavan: A linear time algorithm for computing exact Euclidean distance
        transforms of binary images in arbitrary dimensions, IEEE TPAMI 2003.
    """
    if mask.dim() != 4:  # noqa: PLR2004
        msg = f"mask: found shape {tuple(mask.shape)}, expected (B, K, H, W)"
        raise ValueError(msg)
    inside = (mask > 0).any(dim=1)
    distances = np.stack([_border_distance(one) for one in inside.cpu().numpy()])
    return TruthRegions(inside, torch.from_numpy(distances).to(mask.device))


def spread(
    maps: Tensor,
    regions: TruthRegions,
    *,
    counted: Tensor | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    band: float = BAND,
) -> dict[str, Tensor]:
    """All measures of each slice's map.

    ======================  ===========================================  ==========
    name                    formula, over the n pixels that count        unit
    ======================  ===========================================  ==========
    ``active_share_<t>``    share of pixels with m > t max(m)            1
    ``entropy``             H = - sum p log p                            nats
    ``effective_pixels``    exp(H), from 1 (one pixel) to n (uniform)    pixels
    ``gini``                sum (2i - n - 1) m_i / (n sum m), m rising,  1
                            from 0 (uniform) to 1 - 1/n (one pixel)
    ``participation``       sum(m)^2 / sum(m^2), from 1 to n             pixels
    ``sharpness``           sum |m_i - m_j| / sum m over neighbours i,j  1 / pixel
                            side by side, from 0 (flat) to 4 (one pixel)
    ``radius``              sum p d, d the distance to the true border   pixels
    ``border_share``        sum of p where d < band                      1
    ``inside_share``        sum of p in the truth, elsewhere             1
    ``outside_share``       the rest                                     1
    ======================  ===========================================  ==========

    Sharpness is relative to the sum and not averaged over the slice: a wide map with the same
    edges would seem sharper otherwise, and spread would be measured twice.

    Args:
        maps: Finite, signed or not, shape ``(B, C, H, W)``.
        regions: From :func:`truth_regions` on the slices' masks.
        counted: True where pixels count, shape ``(B, 1, H, W)``; None counts all, padding included.
        thresholds: Shares of the maximum, in [0, 1).
        band: Half the width of the border's band, in pixels.

    Returns:
        float64, shape ``(B,)``, by name.

    Raises:
        ValueError: If shapes do not fit, a map is not finite, or a threshold or the band makes no
            sense.

    References:
        Shannon, A mathematical theory of communication, 1948 (entropy); Hill, Diversity and
        evenness, Ecology 1973 (its exponential); Hurley, Rickard: Comparing measures of sparsity,
        IEEE Trans. Information Theory 2009 (Gini); Bell, Dean: Atomic vibrations in vitreous
        silica, Discuss. Faraday Soc. 1970 (participation); Rudin, Osher, Fatemi: Nonlinear total
        variation based noise removal algorithms, Physica D 1992 (variation, here by sides).
    """
    _check(maps, regions, thresholds, band)
    where = _counted(maps, counted)
    size = where.flatten(1).sum(dim=1).double()
    magnitude = _relative_magnitude(maps, where)
    flat = magnitude.flatten(1)
    total = flat.sum(dim=1)
    share = flat / total[:, None]
    entropy = torch.special.entr(share).sum(dim=1)
    measures = {
        f"active_share_{threshold:g}": torch.where(
            total > 0, ((flat > threshold) & where.flatten(1)).sum(dim=1) / size, torch.nan
        )
        for threshold in thresholds
    }
    measures |= {
        "entropy": entropy,
        "effective_pixels": entropy.exp(),
        "gini": _gini(flat, size),
        "participation": total**2 / (flat**2).sum(dim=1),
        "sharpness": _variation(magnitude, where) / total,
    }
    return measures | _about_the_border(share, regions, band)


def measure_names(thresholds: Sequence[float] = THRESHOLDS) -> tuple[str, ...]:
    """Names of the measures of :func:`spread`, in its order."""
    active = [f"active_share_{threshold:g}" for threshold in thresholds]
    shape = ("entropy", "effective_pixels", "gini", "participation", "sharpness")
    return (*active, *shape, *BORDER_MEASURES)


def magnitudes(maps: Tensor) -> Tensor:
    """Sum over channels of absolute values, float64, shape ``(B, H, W)``."""
    return maps.double().abs().sum(dim=1)


def _relative_magnitude(maps: Tensor, where: Tensor) -> Tensor:
    """Magnitudes over the largest one; 0 where a map is zero or a pixel does not count."""
    magnitude = torch.where(where, magnitudes(maps), 0.0)
    # The smallest normal number keeps the division defined; a map of zeros stays one.
    largest = magnitude.amax(dim=(1, 2), keepdim=True)
    return magnitude / largest.clamp(min=torch.finfo(torch.float64).tiny)


def _counted(maps: Tensor, counted: Tensor | None) -> Tensor:
    batch, _, height, width = maps.shape
    if counted is None:
        return torch.ones((batch, height, width), dtype=torch.bool, device=maps.device)
    if counted.shape != (batch, 1, height, width):
        msg = f"counted: found shape {tuple(counted.shape)}, expected {(batch, 1, height, width)}"
        raise ValueError(msg)
    return counted[:, 0].bool()


def _gini(flat: Tensor, size: Tensor) -> Tensor:
    """Gini of the pixels that count; the others are zeros, which sort first and weigh nothing."""
    rising = flat.sort(dim=1).values
    place = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    place = place[None] - (flat.shape[1] - size)[:, None]
    weighed = ((2 * place - size[:, None] - 1) * rising).sum(dim=1)
    return weighed / (size * rising.sum(dim=1))


def _variation(magnitude: Tensor, where: Tensor) -> Tensor:
    """Sum of absolute differences between pixels side by side that both count, shape ``(B,)``."""
    across = magnitude.diff(dim=2).abs() * (where[:, :, 1:] & where[:, :, :-1])
    down = magnitude.diff(dim=1).abs() * (where[:, 1:] & where[:, :-1])
    return across.sum(dim=(1, 2)) + down.sum(dim=(1, 2))


def _about_the_border(share: Tensor, regions: TruthRegions, band: float) -> dict[str, Tensor]:
    distance = regions.distance.flatten(1)
    inside = regions.inside.flatten(1)
    border = distance < band
    radius = (share * distance).sum(dim=1)
    parts = (inside & ~border, border, ~inside & ~border)
    shares = [torch.where(radius.isnan(), torch.nan, (share * part).sum(dim=1)) for part in parts]
    return dict(zip(BORDER_MEASURES, (radius, *shares), strict=True))


def _border_distance(inside: np.ndarray) -> np.ndarray:
    if inside.all() or not inside.any():
        return np.full(inside.shape, np.nan)
    within = ndimage.distance_transform_edt(inside)
    beyond = ndimage.distance_transform_edt(~inside)
    distance: np.ndarray = within + beyond - 0.5
    return distance


def _check(maps: Tensor, regions: TruthRegions, thresholds: Sequence[float], band: float) -> None:
    found = tuple(maps.shape)
    expected = tuple(regions.inside.shape)
    if maps.dim() != 4 or (found[0], *found[2:]) != expected:  # noqa: PLR2004
        msg = f"maps: found shape {found}, expected (B, C, H, W) with (B, H, W) = {expected}"
        raise ValueError(msg)
    if not torch.isfinite(maps).all():
        msg = "maps: found NaN or infinite values, expected finite ones"
        raise ValueError(msg)
    if not all(0 <= threshold < 1 for threshold in thresholds):
        msg = f"thresholds: found {list(thresholds)}, expected shares of the maximum in [0, 1)"
        raise ValueError(msg)
    if band <= 0:
        msg = f"band: found {band} pixels, expected more than 0"
        raise ValueError(msg)
