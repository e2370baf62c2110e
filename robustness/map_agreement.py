"""How alike two attribution maps are: by ranks, by structure, and by the pixels they put first."""

from collections.abc import Mapping
from itertools import combinations

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from robustness.ranking import rank_by_score
from robustness.spread import magnitudes

# The window and the constants of the source of SSIM.
_WINDOW, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def rank_correlation(first: Tensor, second: Tensor, counted: Tensor | None = None) -> Tensor:
    """Spearman's rank correlation of each slice's two maps, over all entries that count.

    Equal values share the mean of their ranks. Pass ``maps.abs()`` to leave signs out.

    Args:
        first: Shape ``(B, C, H, W)``.
        second: Same shape.
        counted: True where pixels count, shape ``(B, 1, H, W)``; None counts all.

    Returns:
        float64 in [-1, 1], shape ``(B,)``; NaN where a map is the same everywhere.

    Raises:
        ValueError: If the shapes differ.

    References:
        Spearman, The proof and measurement of association between two things, 1904.
    """
    _check_pair(first, second)
    where = torch.ones_like(first[:, :1]).bool() if counted is None else counted.bool()
    where = where.expand_as(first).flatten(1)
    left = _centred_ranks(first.flatten(1), where)
    right = _centred_ranks(second.flatten(1), where)
    norms = left.square().sum(dim=1) * right.square().sum(dim=1)
    return ((left * right).sum(dim=1) / norms.sqrt()).clamp(-1, 1)


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of the magnitudes of two maps, each divided by its largest.

    The mean over all places where a Gaussian window of 11 x 11 pixels (sigma 1.5) fits of
    ``(2 a b + c1) (2 s_ab + c2) / ((a^2 + b^2 + c1) (s_a^2 + s_b^2 + c2))`` with the window's
    means a and b, variances and covariance, c1 = 0.01^2 and c2 = 0.03^2. Two maps that are next to
    zero nearly everywhere are much alike by it, whatever their peaks.

    Args:
        first: Shape ``(B, C, H, W)``.
        second: Same shape.

    Returns:
        float64 in [-1, 1], shape ``(B,)``; NaN where a map is zero.

    Raises:
        ValueError: If the shapes differ, or the slices are smaller than the window.

    References:
        Wang, Bovik, Sheikh, Simoncelli: Image quality assessment: from error visibility to
        structural similarity, IEEE Trans. Image Processing 2004, equation 13.
    """
    _check_pair(first, second)
    if min(first.shape[2:]) < _WINDOW:
        msg = f"maps: found slices of {tuple(first.shape[2:])} pixels, expected {_WINDOW} or more"
        raise ValueError(msg)
    left, right = _over_largest(first), _over_largest(second)
    products = torch.stack([left, right, left * left, right * right, left * right], dim=1)
    offsets = torch.arange(_WINDOW, dtype=torch.float64, device=first.device) - _WINDOW // 2
    weights = (-(offsets**2) / (2 * _SIGMA**2)).exp()
    weights /= weights.sum()
    rows = functional.conv2d(products.flatten(0, 1)[:, None], weights.reshape(1, 1, -1, 1))
    moments = functional.conv2d(rows, weights.reshape(1, 1, 1, -1)).squeeze(1)
    a, b, aa, bb, ab = moments.reshape(-1, 5, *moments.shape[1:]).unbind(dim=1)
    c1, c2 = _K1**2, _K2**2
    luminance = (2 * a * b + c1) / (a**2 + b**2 + c1)
    structure = (2 * (ab - a * b) + c2) / (aa - a**2 + bb - b**2 + c2)
    similarity: Tensor = (luminance * structure).mean(dim=(1, 2))
    return similarity


def top_overlap(first: Tensor, second: Tensor, count: int, counted: Tensor | None = None) -> Tensor:
    """Share of the ``count`` pixels of highest magnitude that two maps have in common.

    Two random maps share ``count / n`` of n pixels on average. Ties go to the lower row-major
    index.

    Args:
        first: Shape ``(B, C, H, W)``.
        second: Same shape.
        count: How many pixels are compared.
        counted: True where pixels may be taken, shape ``(B, 1, H, W)``; None allows all.

    Returns:
        float64 in [0, 1], shape ``(B,)``; NaN where a map is zero.

    Raises:
        ValueError: If the shapes differ, or there are no ``count`` pixels.

    References:
        Ghorbani, Abid, Zou: Interpretation of neural networks is fragile, AAAI 2019 (top-k
        intersection).
    """
    _check_pair(first, second)
    if count < 1:
        msg = f"count: found {count} pixels, expected 1 or more"
        raise ValueError(msg)
    allowed = None if counted is None else counted[:, 0].bool()
    taken = []
    for maps in (first, second):
        magnitude = magnitudes(maps)
        order = rank_by_score(magnitude, count, allowed)
        taken.append(torch.zeros_like(magnitude.flatten(1)).scatter(1, order, 1.0))
    overlap = (taken[0] * taken[1]).sum(dim=1) / count
    empty = (first == 0).flatten(1).all(dim=1) | (second == 0).flatten(1).all(dim=1)
    return overlap.masked_fill(empty, torch.nan)


def agreement_table(
    maps: Mapping[str, Tensor], *, count: int = 50, counted: Tensor | None = None
) -> pd.DataFrame:
    """How alike the maps of the same slices are, two at a time: of methods, or of seeds.

    Args:
        maps: By name, each of shape ``(B, C, H, W)``.
        count: Pixels of the overlap.
        counted: True where pixels count, shape ``(B, 1, H, W)``; None counts all.

    Returns:
        Columns ``first, second, spearman, overlap, slices``: means over the slices in which neither
        map is the same everywhere, of magnitudes without signs; ``slices`` is their number.

    Raises:
        ValueError: If shapes differ, or there are no ``count`` pixels.
    """
    rows = []
    for first, second in combinations(maps, 2):
        pair = [magnitudes(maps[name])[:, None] for name in (first, second)]
        ranks = rank_correlation(pair[0], pair[1], counted)
        overlap = top_overlap(pair[0], pair[1], count, counted)
        known = ~ranks.isnan()
        rows.append(
            (first, second, float(ranks.nanmean()), float(overlap[known].mean()), int(known.sum()))
        )
    return pd.DataFrame(rows, columns=["first", "second", "spearman", "overlap", "slices"])


def _centred_ranks(values: Tensor, where: Tensor) -> Tensor:
    """Mean ranks less their mean, 0 where an entry does not count; float64, shape ``(B, N)``."""
    # Entries that do not count come after all others and take no rank from them.
    filled = values.double().masked_fill(~where, torch.inf).contiguous()
    rising = filled.sort(dim=1).values
    below = torch.searchsorted(rising, filled, right=False)
    up_to = torch.searchsorted(rising, filled, right=True)
    size = where.sum(dim=1, keepdim=True)
    ranks = (below + up_to + 1).double() / 2
    return torch.where(where, ranks - (size + 1) / 2, 0.0)


def _over_largest(maps: Tensor) -> Tensor:
    magnitude = magnitudes(maps)
    return magnitude / magnitude.amax(dim=(1, 2), keepdim=True)


def _check_pair(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.dim() != 4:  # noqa: PLR2004
        msg = (
            f"maps: found shapes {tuple(first.shape)} and {tuple(second.shape)}, "
            "expected equal (B, C, H, W)"
        )
        raise ValueError(msg)
