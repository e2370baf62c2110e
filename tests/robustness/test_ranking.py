"""Orders of pixels: stable by score, and random ones that are even and independent."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from robustness.keyed_random import slice_keys, text_key
from robustness.ranking import edge_strength, rank_at_random, rank_by_score, rank_matched
from tests.robustness.reference import Slice, random_order


def _keys(*indices: int, seed: int = 0, name: str = "attack/pixels") -> torch.Tensor:
    case_keys = torch.full((len(indices),), text_key("case"))
    return slice_keys(seed, name, case_keys, torch.tensor(indices))


def _slice(index: int, valid: np.ndarray) -> Slice:
    return Slice("case", index, np.zeros((1, *valid.shape)), np.zeros((1, *valid.shape)), valid)


@given(
    st.lists(
        st.lists(st.sampled_from([-2.0, -0.0, 0.0, 1e-30, 1.0, 3.5]), min_size=12, max_size=12),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 12),
)
def test_high_scores_come_first_and_ties_keep_row_major_order(
    scores: list[list[float]], count: int
) -> None:
    order = rank_by_score(torch.tensor(scores).reshape(-1, 3, 4), count)
    # Python sorts stably, also in reverse.
    expected = [sorted(range(12), key=row.__getitem__, reverse=True)[:count] for row in scores]
    assert order.tolist() == expected
    assert order.shape == (len(scores), count)


def test_the_indices_are_row_major() -> None:
    score = torch.zeros(1, 3, 5)
    score[0, 2, 1] = 2.0
    score[0, 0, 4] = 1.0
    assert rank_by_score(score, 2).tolist() == [[11, 4]]


@pytest.mark.parametrize(
    "rank",
    [
        lambda count: rank_by_score(torch.zeros(2, 3, 4), count),
        lambda count: rank_at_random(_keys(0), 0, torch.ones(1, 1, 3, 4) > 0, count),
    ],
    ids=["score", "random"],
)
def test_more_pixels_than_there_are_is_refused(rank: Callable[[int], torch.Tensor]) -> None:
    assert rank(12).shape[1] == 12
    with pytest.raises(ValueError, match="13 pixels to take, but an image has only 12"):
        rank(13)


@given(st.lists(st.booleans(), min_size=12, max_size=12), st.integers(0, 300), st.integers(0, 9))
def test_the_random_order_is_the_references(valid: list[bool], index: int, repeat: int) -> None:
    region = np.array(valid).reshape(3, 4)
    found = rank_at_random(_keys(index, seed=5), repeat, torch.tensor(region)[None, None], 12)
    assert found.tolist() == [random_order(5, "attack", _slice(index, region), repeat)]


@given(st.integers(1, 60), st.integers(0, 2**32))
def test_the_first_pixels_are_the_same_for_every_count(count: int, seed: int) -> None:
    valid = torch.rand(2, 1, 6, 10, generator=torch.Generator().manual_seed(seed)) > 0.4
    full = rank_at_random(_keys(1, 2, seed=seed), 0, valid, 60)
    assert torch.equal(rank_at_random(_keys(1, 2, seed=seed), 0, valid, count), full[:, :count])


def test_every_pixel_comes_once_and_padding_last_in_its_own_order() -> None:
    valid = torch.ones(8, 1, 16, 16, dtype=torch.bool)
    valid[:, :, 10:] = False
    order = rank_at_random(_keys(*range(8)), 3, valid, 256)
    assert torch.equal(order.sort(dim=1).values, torch.arange(256).expand(8, -1))
    assert (order[:, :160] < 160).all()
    assert torch.equal(order[:, 160:], torch.arange(160, 256).expand(8, -1))


def test_a_slices_order_does_not_depend_on_its_neighbours() -> None:
    valid = torch.ones(3, 1, 8, 8, dtype=torch.bool)
    together = rank_at_random(_keys(4, 5, 6), 0, valid, 9)
    assert torch.equal(rank_at_random(_keys(5), 0, valid[:1], 9), together[1:2])


def test_pixels_are_taken_evenly() -> None:
    """Every valid pixel is as likely as another to be among the first five."""
    valid = torch.ones(1500, 1, 6, 6, dtype=torch.bool)
    valid[:, :, 5:] = False
    order = rank_at_random(_keys(*range(1500)), 0, valid, 5)
    taken = torch.bincount(order.flatten(), minlength=36)
    assert taken[30:].sum() == 0
    # Without replacement the variance is smaller by (n - k) / (n - 1), which chi-square must know.
    statistic = float(stats.chisquare(taken[:30].numpy()).statistic) * 29 / 25
    assert stats.chi2.sf(statistic, 29) > 1e-3


@pytest.mark.parametrize("places", [(0, 1), (0, 4), (3, 4)])
def test_places_in_the_order_are_independent(places: tuple[int, int]) -> None:
    valid = torch.ones(4000, 1, 4, 4, dtype=torch.bool)
    order = rank_at_random(_keys(*range(4000)), 1, valid, 5).numpy()
    first, second = order[:, places[0]], order[:, places[1]]
    pairs = np.zeros((16, 16), dtype=int)
    np.add.at(pairs, (first, second), 1)
    assert np.diag(pairs).sum() == 0
    off_diagonal = pairs[~np.eye(16, dtype=bool)]
    assert stats.chisquare(off_diagonal).pvalue > 1e-3


def test_repeats_and_names_give_other_orders() -> None:
    valid = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    orders = [
        rank_at_random(_keys(0, seed=seed, name=name), repeat, valid, 64)[0].tolist()
        for seed in (0, 1)
        for name in ("a/pixels", "b/pixels")
        for repeat in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 8
    for one in range(8):
        for other in range(one):
            assert stats.kendalltau(orders[one], orders[other]).pvalue > 1e-3


@given(
    st.lists(st.sampled_from([-2.0, 0.0, 1.0]), min_size=12, max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_what_is_not_allowed_comes_last_in_its_own_order(
    scores: list[float], allowed: list[bool]
) -> None:
    mask = torch.tensor(allowed).reshape(1, 3, 4)
    order = rank_by_score(torch.tensor(scores).reshape(1, 3, 4), 12, mask)
    inside = sorted((i for i in range(12) if allowed[i]), key=lambda i: -scores[i])
    assert order.tolist() == [inside + [i for i in range(12) if not allowed[i]]]


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.15, 0.9]), min_size=24, max_size=24),
    st.permutations(range(12)),
    st.integers(1, 6),
    st.integers(0, 1000),
)
def test_matches_are_the_closest_free_pixels_one_after_another(
    intensities: list[float], order: list[int], count: int, index: int
) -> None:
    image = torch.tensor(intensities).reshape(1, 2, 12)
    top = order[:count]
    hashes = torch.tensor([split_hashes(index, 12)])
    allowed = torch.ones(1, 12, dtype=torch.bool)
    found = rank_matched(image, torch.tensor([top]), allowed, hashes)[0].tolist()
    free = [pixel for pixel in range(12) if pixel not in top]
    values = image[0].tolist()
    for wanted, match in zip(top, found, strict=True):
        distance = {
            pixel: np.float32(abs(np.float32(values[0][pixel]) - np.float32(values[0][wanted])))
            + np.float32(abs(np.float32(values[1][pixel]) - np.float32(values[1][wanted])))
            for pixel in free
        }
        closest = [pixel for pixel in free if distance[pixel] == min(distance.values())]
        assert match == max(closest, key=lambda pixel: hashes[0, pixel].item())
        free.remove(match)


def split_hashes(index: int, count: int) -> list[int]:
    """Random int64 without two of them alike."""
    draw = np.random.default_rng(index)
    return [int(number) for number in draw.integers(-(2**63), 2**63 - 1, size=count)]


def test_matches_stay_where_they_are_allowed() -> None:
    image = torch.zeros(1, 1, 8)
    allowed = torch.tensor([[True, True, False, False, False, False, True, True]])
    hashes = torch.arange(8)[None] * 4
    assert rank_matched(image, torch.tensor([[2, 0]]), allowed, hashes).tolist() == [[7, 6]]
    each = torch.stack([allowed, ~allowed], dim=1)
    assert rank_matched(image, torch.tensor([[2, 0]]), each, hashes).tolist() == [[7, 5]]


def test_edges_are_sobels_and_the_frame_is_none() -> None:
    image = torch.from_numpy(np.random.default_rng(0).random((2, 2, 7, 6))).float()
    found = edge_strength(image)
    for one, channel in np.ndindex(2, 2):
        plane = image[one, channel].numpy().astype(np.float64)
        slopes = [ndimage.sobel(plane, axis=axis, mode="nearest") / 8 for axis in (0, 1)]
        assert found[one, channel].numpy() == pytest.approx(np.hypot(*slopes), abs=1e-6)
    ramp = torch.arange(6.0).expand(1, 1, 5, 6)
    assert torch.equal(edge_strength(ramp)[..., 1:-1], torch.ones(1, 1, 5, 4))


def test_the_step_into_padding_is_no_edge() -> None:
    image = torch.ones(1, 1, 6, 6)
    valid = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    valid[..., 4:] = False
    image = image * valid
    assert edge_strength(image)[..., 3].min() > 0
    assert edge_strength(image, valid).abs().max() == 0
