import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses.boundary_loss import BoundaryLoss
from monai.losses.hausdorff_loss import HausdorffDTLoss
from torch import Tensor

from lightning_module.losses.distance import Boundary, Hausdorff, outline_distance
from tests.lightning_module.losses.cases import (
    assert_background_can_be_left_out,
    certain,
    drawing,
    everywhere,
)
from tests.lightning_module.losses.references import case
from tests.lightning_module.toy import random_case

seeds = st.integers(0, 10_000)


def pixels(valid: Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row, column in valid.nonzero().tolist()]


def across(mask: Tensor, valid: Tensor, row: int, column: int) -> float:
    """Distance to the nearest valid pixel on the other side, by looking at all of them."""
    side = bool(mask[row, column])
    others = [pixel for pixel in pixels(valid) if bool(mask[pixel]) != side]
    if not others:
        return 0.0
    return min(math.hypot(row - there[0], column - there[1]) for there in others)


@given(seeds)
def test_distances_are_those_to_the_nearest_valid_pixel_across(seed: int) -> None:
    _, target, valid = random_case(samples=1, classes=2, seed=seed)

    distances = outline_distance(target > 0.5, valid)

    for one in range(2):
        for row, column in pixels(valid[0, 0]):
            expected = across(target[0, one] > 0.5, valid[0, 0], row, column)
            assert distances[0, one, row, column].item() == pytest.approx(expected, abs=1e-9)


@given(seeds)
def test_boundary_is_the_mean_of_probability_times_signed_distance(seed: int) -> None:
    logits, target, valid = random_case(samples=1, classes=1, seed=seed)
    probs, mask, kept = logits.sigmoid()[0, 0], target[0, 0] > 0.5, valid[0, 0]
    terms = []
    for row, column in pixels(kept):
        distance = across(mask, kept, row, column)
        signed = -max(distance - 1, 0) if mask[row, column] else distance
        terms.append(signed * probs[row, column].item())

    value = Boundary()(logits, target, valid)

    assert value.item() == pytest.approx(sum(terms) / len(terms), abs=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@given(seeds)
def test_hausdorff_is_the_mean_of_errors_times_distances(alpha: float, seed: int) -> None:
    logits, target, valid = random_case(samples=1, classes=1, seed=seed)
    probs, mask, kept = logits.sigmoid()[0, 0], target[0, 0] > 0.5, valid[0, 0]
    terms = []
    for row, column in pixels(kept):
        weight = sum(across(side, kept, row, column) ** alpha for side in (mask, probs > 0.5))
        terms.append((probs[row, column] - target[0, 0, row, column]).item() ** 2 * weight)

    value = Hausdorff(alpha)(logits, target, valid)

    assert value.item() == pytest.approx(sum(terms) / len(terms), abs=1e-9)


@pytest.mark.parametrize("exclusive", [False, True])
@given(seeds)
def test_losses_agree_with_monai_where_no_pixel_is_left_out(exclusive: bool, seed: int) -> None:
    logits, target, _ = case(exclusive=exclusive, seed=seed)
    valid = everywhere(target)

    boundary = Boundary(exclusive=exclusive)(logits, target, valid)
    hausdorff = Hausdorff(exclusive=exclusive)(logits, target, valid)

    theirs = BoundaryLoss(sigmoid=not exclusive, softmax=exclusive, reduction="none")
    torch.testing.assert_close(boundary, theirs(logits, target), atol=1e-6, rtol=1e-6)
    dt_loss = HausdorffDTLoss(
        include_background=True, sigmoid=not exclusive, softmax=exclusive, reduction="none"
    )
    expected = dt_loss(logits, target)[:, :, 0, 0]
    torch.testing.assert_close(hausdorff, expected, atol=1e-6, rtol=1e-6)


@given(seeds)
def test_boundary_is_lowest_at_the_truth_where_it_is_the_mean_distance_inside(seed: int) -> None:
    logits, target, valid = random_case(seed=seed)
    inside = (1 - outline_distance(target > 0.5, valid)).clamp(max=0) * target * valid

    lowest = Boundary()(1000 * (2 * target - 1), target, valid)

    torch.testing.assert_close(lowest, inside.sum((2, 3)) / valid.sum((2, 3)))
    assert (lowest <= Boundary()(logits, target, valid) + 1e-12).all()


def test_boundary_grows_with_a_false_positive_and_with_its_distance() -> None:
    truth = drawing("###.......", "###.......", "###.......")
    near = drawing("####......", "###.......", "###.......")
    far = drawing("###......#", "###.......", "###.......")
    further = drawing("###.....##", "###.......", "###.......")

    values = [
        Boundary()(certain(prediction), truth, everywhere(truth)).item()
        for prediction in (truth, near, far, further)
    ]

    assert values == sorted(values)
    assert values[1] - values[0] == pytest.approx(1 / 30)
    assert values[2] - values[0] == pytest.approx(7 / 30)


def test_hausdorff_falls_as_an_outlier_moves_nearer() -> None:
    truth = drawing("##.........", "##.........", "##.........")
    values = []
    for column in range(10, 2, -1):
        prediction = truth.clone()
        prediction[0, 0, 1, column] = 1
        values.append(Hausdorff()(certain(prediction), truth, everywhere(truth)).item())

    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("truth", [torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)])
def test_without_an_outline_of_truth_only_hausdorff_sees_one_of_the_prediction(
    truth: Tensor,
) -> None:
    logits = torch.full_like(truth, -2.0)
    logits[..., :2, :2] = 2.0
    logits.requires_grad_()
    flat = torch.full_like(truth, -2.0)

    by_boundary = Boundary()(logits, truth, everywhere(truth))
    by_hausdorff = Hausdorff()(logits, truth, everywhere(truth))

    assert by_boundary.item() == 0
    assert not torch.autograd.grad(by_boundary.sum(), logits)[0].any()
    assert by_hausdorff.item() > 0
    assert Hausdorff()(flat, truth, everywhere(truth)).item() == 0


@pytest.mark.parametrize("alpha", [0.4, -1.0, math.inf, True, "two"])
def test_exponents_out_of_range_are_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha: found .*, expected a number of at least 0\.5"):
        Hausdorff(alpha)


@pytest.mark.parametrize("name", ["boundary", "hausdorff"])
def test_background_can_be_left_out(name: str) -> None:
    assert_background_can_be_left_out(name)
