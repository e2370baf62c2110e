import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch import Tensor

from robustness.map_agreement import (
    agreement_table,
    rank_correlation,
    structural_similarity,
    top_overlap,
)


def pair(channels: int = 1, size: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = np.random.default_rng(seed)
    first = draw.normal(size=(4, channels, size, size))
    second = first + draw.normal(size=first.shape)
    # Rounding makes ties.
    return torch.from_numpy(first.round(1)).float(), torch.from_numpy(second.round(1)).float()


def some_pixels(size: int = 16) -> Tensor:
    counted = torch.zeros(4, 1, size, size, dtype=torch.bool)
    for row in range(4):
        counted[row, :, : 7 + row, : 12 - row] = True
    return counted


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("some", [False, True])
def test_rank_correlation_is_scipys(channels: int, some: bool) -> None:
    first, second = pair(channels)
    counted = some_pixels() if some else None
    found = rank_correlation(first, second, counted)
    for row in range(4):
        where = np.ones((channels, 16, 16), dtype=bool)
        if counted is not None:
            where &= counted[row].numpy()
        expected = stats.spearmanr(first[row].numpy()[where], second[row].numpy()[where]).statistic
        assert float(found[row]) == pytest.approx(float(expected), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(1e-6, 1e6))
def test_rising_functions_keep_rank_correlation_and_scales_keep_all(
    seed: int, factor: float
) -> None:
    first, second = (one.double() for one in pair(seed=seed))
    found = rank_correlation(first, second)
    torch.testing.assert_close(rank_correlation(first**3 * factor, second), found)
    torch.testing.assert_close(rank_correlation(second, first), found)
    torch.testing.assert_close(rank_correlation(-first, second), -found)
    alike = structural_similarity(first, second)
    torch.testing.assert_close(structural_similarity(first * factor, second), alike)
    torch.testing.assert_close(structural_similarity(second, first), alike)


def test_equal_maps_are_alike_and_flat_ones_unknown() -> None:
    first, _ = pair()
    first[1] = 0
    torch.testing.assert_close(
        rank_correlation(first, first)[[0, 2, 3]], torch.ones(3, dtype=torch.float64)
    )
    for found in (
        rank_correlation(first, first),
        structural_similarity(first, first),
        top_overlap(first, first, 5),
    ):
        assert found.isnan().tolist() == [False, True, False, False]
        assert found[[0, 2, 3]].tolist() == pytest.approx([1.0] * 3)


def test_structural_similarity_is_that_of_gaussian_filters() -> None:
    first, second = pair(channels=2, size=20)
    found = structural_similarity(first, second)

    def blurred(values: np.ndarray) -> np.ndarray:
        wide: np.ndarray = ndimage.gaussian_filter(values, sigma=1.5, truncate=3.5)
        return wide[5:-5, 5:-5]

    for row in range(4):
        x, y = (one[row].double().abs().sum(dim=0).numpy() for one in (first, second))
        x, y = x / x.max(), y / y.max()
        mx, my = blurred(x), blurred(y)
        vx, vy, cov = blurred(x * x) - mx**2, blurred(y * y) - my**2, blurred(x * y) - mx * my
        expected = (2 * mx * my + 1e-4) * (2 * cov + 9e-4)
        expected /= (mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)
        assert float(found[row]) == pytest.approx(float(expected.mean()), rel=1e-9)


@pytest.mark.parametrize("some", [False, True])
def test_overlap_counts_common_pixels(some: bool) -> None:
    first, second = pair(channels=2)
    counted = some_pixels() if some else None
    found = top_overlap(first, second, 20, counted)
    for row in range(4):
        tops = []
        for one in (first, second):
            size = one[row].double().abs().sum(dim=0).flatten().numpy()
            allowed = np.arange(256) if counted is None else np.flatnonzero(counted[row].numpy())
            tops.append(set(sorted(allowed, key=lambda at: (-size[at], at))[:20]))
        assert float(found[row]) == pytest.approx(len(tops[0] & tops[1]) / 20)


def test_the_table_has_each_pair_once_and_leaves_flat_maps_out() -> None:
    first, second = pair()
    flat = first.clone()
    flat[2] = 0
    table = agreement_table({"a": first, "b": second, "c": flat}, count=10)
    pairs = [(row.first, row.second) for row in table.itertuples()]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    assert table["slices"].tolist() == [4, 3, 3]
    expected = rank_correlation(first.abs(), second.abs()).mean()
    assert table["spearman"][0] == pytest.approx(float(expected))
    assert table["spearman"][1] == pytest.approx(1)
    assert table["overlap"][1] == pytest.approx(1)


def test_what_makes_no_sense_is_refused() -> None:
    first, second = pair()
    with pytest.raises(ValueError, match="expected equal"):
        rank_correlation(first, second[:2])
    with pytest.raises(ValueError, match="expected 11 or more"):
        structural_similarity(first[..., :10], second[..., :10])
    with pytest.raises(ValueError, match="count: found 0"):
        top_overlap(first, second, 0)
    with pytest.raises(ValueError, match="257 pixels to take"):
        top_overlap(first, second, 257)
