import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.spread import (
    BORDER_MEASURES,
    THRESHOLDS,
    magnitudes,
    measure_names,
    spread,
    truth_regions,
)

SIZE = 8
PIXELS = SIZE * SIZE


def blob_masks(count: int, classes: int = 1, seed: int = 0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    masks = np.zeros((count, classes, SIZE, SIZE), dtype=np.float32)
    for row in range(count):
        for each in range(classes):
            top, left = draw.integers(0, SIZE - 3, size=2)
            masks[row, each, top : top + 3, left : left + 2] = 1
    return torch.from_numpy(masks)


def random_maps(count: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.normal(size=(count, channels, SIZE, SIZE)) ** 3).float()


def one_pixel() -> torch.Tensor:
    maps = torch.zeros(1, 1, SIZE, SIZE)
    maps[0, 0, 3, 4] = -2.5
    return maps


def loops(maps: np.ndarray, mask: np.ndarray, counted: np.ndarray, band: float) -> dict[str, float]:
    """One slice by loops over pixels: maps (C, H, W), mask (K, H, W), counted (H, W)."""
    height, width = counted.shape
    size = {
        (i, j): float(np.abs(maps[:, i, j].astype(float)).sum())
        for i in range(height)
        for j in range(width)
        if counted[i, j]
    }
    total, most, n = sum(size.values()), max(size.values()), len(size)
    inside = {(i, j): bool(mask[:, i, j].any()) for i in range(height) for j in range(width)}
    shares = {at: value / total for at, value in size.items()}
    found = {
        f"active_share_{t:g}": sum(value > t * most for value in size.values()) / n
        for t in THRESHOLDS
    }
    found["entropy"] = -sum(p * math.log(p) for p in shares.values() if p > 0)
    found["effective_pixels"] = math.exp(found["entropy"])
    pairs = sum(abs(a - b) for a in size.values() for b in size.values())
    found["gini"] = pairs / (2 * n * total)
    found["participation"] = 1 / sum(p * p for p in shares.values())
    steps = [((i, j), (i + di, j + dj)) for i, j in size for di, dj in ((0, 1), (1, 0))]
    found["sharpness"] = sum(abs(shares[a] - shares[b]) for a, b in steps if b in shares)

    def distance(at: tuple[int, int]) -> float:
        others = [there for there, side in inside.items() if side != inside[at]]
        return min(math.dist(at, there) for there in others) - 0.5

    far = {at: distance(at) for at in shares}
    found["radius"] = sum(share * far[at] for at, share in shares.items())
    found["border_share"] = sum(share for at, share in shares.items() if far[at] < band)
    for name, side in (("inside_share", True), ("outside_share", False)):
        found[name] = sum(
            share for at, share in shares.items() if inside[at] == side and far[at] >= band
        )
    return found


@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("some", [False, True])
def test_measures_agree_with_loops(channels: int, classes: int, some: bool) -> None:
    maps, mask = random_maps(5, channels), blob_masks(5, classes)
    counted = torch.ones(5, 1, SIZE, SIZE, dtype=torch.bool)
    if some:
        counted[:, :, :, 6:] = False
        counted[2, :, 7] = False
        counted[1, :, :2] = False
        counted[3, :, :, 0] = False
    found = spread(maps, truth_regions(mask), counted=counted, band=1.5)
    assert set(found) == set(measure_names())
    for row in range(5):
        expected = loops(maps[row].numpy(), mask[row].numpy(), counted[row, 0].numpy(), 1.5)
        assert set(expected) == set(found)
        for name, value in expected.items():
            assert float(found[name][row]) == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_one_pixel_is_as_narrow_as_can_be() -> None:
    found = spread(one_pixel(), truth_regions(blob_masks(1)))
    known = {
        "active_share_0.1": 1 / PIXELS,
        "entropy": 0.0,
        "effective_pixels": 1.0,
        "gini": 1 - 1 / PIXELS,
        "participation": 1.0,
        "sharpness": 4.0,
    }
    for name, value in known.items():
        assert float(found[name]) == pytest.approx(value, abs=1e-12), name


def test_a_uniform_map_is_as_wide_as_can_be() -> None:
    maps = torch.full((1, 2, SIZE, SIZE), -0.3)
    found = spread(maps, truth_regions(blob_masks(1)))
    known = {
        "active_share_0.5": 1.0,
        "entropy": math.log(PIXELS),
        "effective_pixels": PIXELS,
        "gini": 0.0,
        "participation": PIXELS,
        "sharpness": 0.0,
    }
    for name, value in known.items():
        assert float(found[name]) == pytest.approx(value, abs=1e-9), name


def test_uniform_over_what_counts_has_as_many_effective_pixels() -> None:
    counted = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    counted[..., :3, :5] = True
    maps = torch.ones(1, 1, SIZE, SIZE)
    found = spread(maps, truth_regions(blob_masks(1)), counted=counted)
    assert float(found["effective_pixels"]) == pytest.approx(15)
    assert float(found["gini"]) == pytest.approx(0, abs=1e-12)
    assert float(found["active_share_0.5"]) == 1


def test_what_does_not_count_changes_nothing() -> None:
    counted = torch.ones(3, 1, SIZE, SIZE, dtype=torch.bool)
    counted[..., 5:] = False
    maps, regions = random_maps(3), truth_regions(blob_masks(3))
    other = torch.where(counted, maps, 1e6)
    first, second = (spread(one, regions, counted=counted) for one in (maps, other))
    for name, values in first.items():
        assert torch.equal(values, second[name]), name


@settings(max_examples=30, deadline=None)
@given(
    factor=st.floats(1e-20, 1e20),
    channels=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_positive_scaling_changes_nothing_and_all_stays_in_range(
    factor: float, channels: int, seed: int
) -> None:
    maps, regions = random_maps(2, channels, seed).double(), truth_regions(blob_masks(2, 2, seed))
    found, scaled = spread(maps, regions), spread(maps * factor, regions)
    for name, values in found.items():
        torch.testing.assert_close(scaled[name], values, rtol=1e-6, atol=1e-9)
    for name in ("effective_pixels", "participation"):
        assert bool(((found[name] >= 1) & (found[name] <= PIXELS + 1e-6)).all())
    # Renyi's entropies fall with their order, so that this one is the larger of the two.
    assert bool((found["effective_pixels"] >= found["participation"] - 1e-9).all())
    assert bool(((found["gini"] >= 0) & (found["gini"] < 1)).all())
    assert bool(((found["sharpness"] >= 0) & (found["sharpness"] <= 4)).all())
    shares = sum(found[name] for name in ("inside_share", "border_share", "outside_share"))
    torch.testing.assert_close(shares, torch.ones(2, dtype=torch.float64))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_flips_and_turns_change_nothing(seed: int) -> None:
    maps, mask = random_maps(2, 2, seed), blob_masks(2, 1, seed)
    found = spread(maps, truth_regions(mask))
    turned = spread(maps.rot90(1, (2, 3)).flip(3), truth_regions(mask.rot90(1, (2, 3)).flip(3)))
    for name, values in found.items():
        torch.testing.assert_close(turned[name], values, rtol=1e-9, atol=1e-12)


def test_tiny_maps_are_measured_like_others() -> None:
    maps, regions = random_maps(2).double(), truth_regions(blob_masks(2))
    tiny = spread(maps * 1e-300, regions)
    for name, values in spread(maps, regions).items():
        torch.testing.assert_close(tiny[name], values, rtol=1e-6, atol=1e-9)


def test_a_map_of_zeros_has_no_measure() -> None:
    maps = random_maps(3)
    maps[1] = 0
    found = spread(maps, truth_regions(blob_masks(3)))
    for name, values in found.items():
        assert values.isnan().tolist() == [False, True, False], name


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_a_border_only_its_measures_are_unknown(value: float) -> None:
    mask = blob_masks(2)
    mask[1] = value
    found = spread(random_maps(2), truth_regions(mask))
    for name, values in found.items():
        assert values.isnan().tolist() == [False, name in BORDER_MEASURES], name


def test_each_slice_is_measured_alone() -> None:
    maps, mask = random_maps(4, 2), blob_masks(4)
    together = spread(maps, truth_regions(mask))
    for row in range(4):
        alone = spread(maps[row : row + 1], truth_regions(mask[row : row + 1]))
        for name, values in alone.items():
            torch.testing.assert_close(values[0], together[name][row], rtol=1e-12, atol=1e-12)


def test_the_border_runs_between_pixels() -> None:
    mask = torch.zeros(1, 1, 1, 6)
    mask[..., 3:] = 1
    regions = truth_regions(mask)
    assert regions.distance[0, 0].tolist() == [2.5, 1.5, 0.5, 0.5, 1.5, 2.5]
    assert regions.inside[0, 0].tolist() == [False] * 3 + [True] * 3
    maps = torch.tensor([1.0, 2, 3, 4, 5, 6]).reshape(1, 1, 1, 6)
    found = spread(maps, regions, band=1.0)
    assert float(found["outside_share"]) == pytest.approx(3 / 21)
    assert float(found["border_share"]) == pytest.approx(7 / 21)
    assert float(found["inside_share"]) == pytest.approx(11 / 21)


def test_active_pixels_lie_above_the_threshold_and_not_on_it() -> None:
    maps = torch.tensor([8.0, 4.0, 5.0, 0.0]).reshape(1, 1, 2, 2)
    found = spread(maps, truth_regions(torch.zeros(1, 1, 2, 2)), thresholds=(0.5, 0.4))
    assert float(found["active_share_0.5"]) == 0.5
    assert float(found["active_share_0.4"]) == 0.75


def test_magnitudes_of_channels_do_not_cancel() -> None:
    maps = torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1)
    assert magnitudes(maps).tolist() == [[[2.0]]]


def test_what_makes_no_sense_is_refused() -> None:
    maps, regions = random_maps(2), truth_regions(blob_masks(2))
    with pytest.raises(ValueError, match="maps: found shape"):
        spread(maps[:1], regions)
    with pytest.raises(ValueError, match="NaN or infinite"):
        spread(maps / 0, regions)
    with pytest.raises(ValueError, match="thresholds: found"):
        spread(maps, regions, thresholds=(0.1, 1.0))
    with pytest.raises(ValueError, match="band: found"):
        spread(maps, regions, band=0)
    with pytest.raises(ValueError, match="counted: found shape"):
        spread(maps, regions, counted=torch.ones(2, SIZE, SIZE, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask: found shape"):
        truth_regions(torch.zeros(2, SIZE, SIZE))
