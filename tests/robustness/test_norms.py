"""Budgets: what is projected lies in them, and is the nearest or the best that does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustness.norms import NORMS, Budget, Norm, budget, lengths, steepest
from tests.robustness.toy_optima import linear_optimum, nearest_in_budget

BOTH = pytest.mark.parametrize("norm", NORMS)
LOW, HIGH = 0.0, 0.2
EPSILONS = st.sampled_from([1e-3, 0.02, 0.1, 0.7, 3.0])


def _clean(seed: int, channels: int = 2) -> Tensor:
    """Images with many pixels at the ends of the range, and some outside of it."""
    random = torch.Generator().manual_seed(seed)
    image = (0.3 * torch.rand((2, channels, 6, 6), generator=random) - 0.05).clamp(0, 0.22)
    image[:, :, 0, :2] = 0.9
    return image


def _movable() -> Tensor:
    movable = torch.ones((2, 1, 6, 6), dtype=torch.bool)
    movable[0, :, :, 4:] = False
    return movable


def _noise(seed: int, shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1000)) ** 3


def _budget(seed: int, epsilon: float, norm: Norm) -> Budget:
    return budget(_clean(seed), _movable(), LOW, HIGH, epsilon, norm)


def _exact_lengths(image: Tensor, clean: Tensor, norm: Norm) -> np.ndarray:
    way = (image.double() - clean.double()).flatten(1).numpy()
    found: np.ndarray = np.linalg.norm(way, ord=np.inf if norm == "linf" else 2, axis=1)
    return found


def _lies_in(image: Tensor, within: Budget) -> None:
    """Epsilon, range and padding hold."""
    found = _exact_lengths(image, within.clean, within.norm)
    assert (found <= within.epsilon * (1 + 1e-6)).all()
    assert (image >= within.clean.clamp(max=LOW)).all()
    assert (image <= within.clean.clamp(min=HIGH)).all()
    assert torch.equal(torch.where(_movable(), 0, image), torch.where(_movable(), 0, within.clean))


@BOTH
@given(seed=st.integers(0, 50), epsilon=EPSILONS, size=st.sampled_from([1e-4, 0.1, 10.0]))
@settings(max_examples=40)
def test_a_projection_lies_in_the_budget_and_is_the_nearest_that_does(
    norm: Norm, seed: int, epsilon: float, size: float
) -> None:
    within = _budget(seed, epsilon, norm)
    outside = within.clean + size * _noise(seed, within.clean.shape)
    found = within.project(outside)
    _lies_in(found, within)
    for row in range(2):
        expected = nearest_in_budget(
            outside[row].numpy(),
            within.clean[row].numpy(),
            epsilon,
            norm,
            low=LOW,
            high=HIGH,
            allowed=_movable()[row].numpy(),
        )
        np.testing.assert_allclose(found[row].numpy(), expected, rtol=0, atol=1e-6)


@BOTH
@given(seed=st.integers(0, 50), epsilon=EPSILONS)
@settings(max_examples=40)
def test_the_farthest_image_is_the_optimum_of_the_linear_model(
    norm: Norm, seed: int, epsilon: float
) -> None:
    within = _budget(seed, epsilon, norm)
    gradient = _noise(seed, within.clean.shape)
    found = within.farthest(gradient)
    _lies_in(found, within)
    for row in range(2):
        weight, clean = gradient[row].double().numpy(), within.clean[row].double().numpy()
        allowed = _movable()[row].numpy()
        expected = linear_optimum(weight, clean, epsilon, norm, low=LOW, high=HIGH, allowed=allowed)
        gain, best = (
            float((weight * (image - clean)).sum()) for image in (found[row].numpy(), expected)
        )
        assert gain == pytest.approx(best, rel=1e-5, abs=1e-7 * float(np.abs(weight).sum()))


@BOTH
def test_what_lies_in_the_budget_stays_where_it_is(norm: Norm) -> None:
    within = _budget(0, 0.05, norm)
    inside = within.project(within.clean + _noise(0, within.clean.shape))
    torch.testing.assert_close(within.project(inside), inside, rtol=0, atol=1e-7)
    assert torch.equal(within.project(within.clean), within.clean)


@BOTH
def test_a_pixel_that_is_clean_outside_of_the_range_is_not_forced_into_it(norm: Norm) -> None:
    clean = torch.tensor([-0.5, 0.1, 0.9]).reshape(1, 1, 1, 3)
    within = budget(clean, clean > -9, LOW, HIGH, 10.0, norm)
    assert within.lower.flatten().tolist() == pytest.approx([-0.5, 0.0, 0.0])
    assert within.upper.flatten().tolist() == pytest.approx([0.2, 0.2, 0.9])
    assert torch.equal(within.project(clean), clean)


def test_without_bounds_the_projection_is_the_usual_shortening() -> None:
    clean = torch.zeros(1, 1, 2, 2)
    within = budget(clean, clean == 0, -100, 100, 2.0, "l2")
    found = within.project(torch.tensor([3.0, 0.0, 4.0, 0.0]).reshape(1, 1, 2, 2))
    torch.testing.assert_close(found.flatten(), torch.tensor([1.2, 0.0, 1.6, 0.0]))


def test_the_length_that_pixels_at_their_bounds_do_not_use_goes_to_the_others() -> None:
    clean = torch.zeros(1, 1, 1, 2)
    within = budget(clean, clean == 0, -100, 0.6, 1.0, "l2")
    found = within.project(torch.tensor([[[[9.0, -9.0]]]]))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.6, -0.8]))


@pytest.mark.parametrize("size", [1.0, 1e-30, 1e30])
def test_the_direction_does_not_depend_on_the_size_of_the_gradient(size: float) -> None:
    gradient = torch.tensor([3.0, 0.0, -4.0, 0.0]).reshape(1, 1, 2, 2) * size
    torch.testing.assert_close(
        steepest(gradient, "l2").flatten(), torch.tensor([0.6, 0.0, -0.8, 0.0])
    )
    assert steepest(gradient, "linf").flatten().tolist() == [1, 0, -1, 0]


@BOTH
def test_no_gradient_is_no_direction(norm: Norm) -> None:
    within = _budget(0, 0.1, norm)
    nothing = torch.zeros_like(within.clean)
    assert not steepest(nothing, norm).any()
    assert torch.equal(within.farthest(nothing), within.clean)
    assert torch.equal(within.at(nothing, torch.zeros(2)), within.clean)


def test_lengths_are_over_channels_and_pixels() -> None:
    way = torch.tensor([3.0, 0.0, -4.0, 0.0]).reshape(1, 2, 1, 2)
    assert lengths(way, "linf").tolist() == [4.0]
    assert lengths(way, "l2").tolist() == [5.0]


@BOTH
def test_random_points_are_uniform_in_the_ball(norm: Norm) -> None:
    """Of a ball in n dimensions the share 2^-n lies within half the radius (or half of a cube)."""
    random = torch.Generator().manual_seed(0)
    clean = torch.zeros(4000, 1, 1, 3)
    within = budget(clean, clean == 0, -9, 9, 2.0, norm)
    shape = (4000, 1, 1, 3)
    if norm == "linf":
        noise = 2 * torch.rand(shape, generator=random) - 1
    else:
        noise = torch.randn(shape, generator=random)
    found = within.at(noise, torch.rand(4000, generator=random))
    size = lengths(found, norm)
    assert float(size.max()) <= 2.0 * (1 + 1e-6)
    assert float((size < 1).float().mean()) == pytest.approx(1 / 8, abs=0.02)
    assert float(found.mean()) == pytest.approx(0, abs=0.03)


def test_the_dimensions_of_the_ball_are_the_pixels_that_may_change() -> None:
    clean = torch.zeros(1, 1, 2, 3)
    movable = torch.tensor([True, False, False, True, False, False]).reshape(1, 1, 2, 3)
    within = budget(clean, movable, -9, 9, 2.0, "l2")
    found = within.at(torch.ones_like(clean), torch.tensor([0.25]))
    expected = 2.0 * 0.25 ** (1 / 2) / 2**0.5
    torch.testing.assert_close(found, torch.where(movable, expected, 0.0))
