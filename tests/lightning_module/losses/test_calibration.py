import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from monai.losses.nacl_loss import NACLLoss
from monai.metrics.calibration import CalibrationErrorMetric
from torch import Tensor

from lightning_module.losses.calibration import (
    AverageCalibrationError,
    NeighbourAware,
    neighbourhood_share,
)
from lightning_module.losses.cross_entropy import BinaryCrossEntropy, CrossEntropy
from tests.lightning_module.losses.cases import (
    assert_runs_without_values,
    drawing,
    everywhere,
)
from tests.lightning_module.losses.references import case

seeds = st.integers(0, 10_000)


def share_around(mask: Tensor, valid: Tensor, row: int, column: int) -> float:
    rows, columns = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
    kept = valid[rows, columns]
    return mask[rows, columns][kept].sum().item() / kept.sum().item()


@pytest.mark.parametrize("exclusive", [False, True])
@given(seeds)
def test_nacl_is_cross_entropy_and_the_distance_to_the_neighbours(
    exclusive: bool, seed: int
) -> None:
    logits, target, valid = case(exclusive=exclusive, seed=seed)
    entropy = (CrossEntropy if exclusive else BinaryCrossEntropy)(exclusive=exclusive)

    values = NeighbourAware(0.3, exclusive=exclusive)(logits, target, valid)

    base = entropy(logits, target, valid)
    for image in range(len(logits)):
        kept = valid[image, 0]
        for one in range(logits.shape[1]):
            penalties = []
            for row, column in kept.nonzero().tolist():
                share = share_around(target[image, one], kept, row, column)
                wanted = share if exclusive else share - (1 - share)
                penalties.append(abs(wanted - logits[image, one, row, column].item()))
            expected = base[image, one].item() + 0.3 * sum(penalties) / len(penalties)
            assert values[image, one].item() == pytest.approx(expected, abs=1e-9)


@given(seeds)
def test_nacl_agrees_with_monai_but_for_the_border_of_the_image(seed: int) -> None:
    logits, target, _ = case(exclusive=True, size=8, seed=seed)
    # Background two pixels wide around: MONAI's share of it there is that of pixels in the image.
    inner = torch.zeros(8, 8)
    inner[2:-2, 2:-2] = 1
    target = target * inner
    target[:, 0] += 1 - inner
    logits[:, 0] = logits[:, 0].abs() + 1
    valid = everywhere(target)
    # How many of the nine pixels around lie within the image.
    within = torch.full((8, 8), 6.0)
    within[1:-1, 1:-1] = 9
    within[::7, ::7] = 4

    ours = NeighbourAware(exclusive=True)(logits, target, valid).mean()

    theirs = NACLLoss(classes=3, dim=2)(logits.float(), target.argmax(1))
    drop = (1 - within / 9).mean() / 3
    assert ours.item() + 0.1 * drop.item() == pytest.approx(theirs.item(), abs=1e-6)


def test_neighbours_outside_of_the_image_or_left_out_are_not_counted() -> None:
    target = drawing("##.", "##.", "...")
    valid = everywhere(target)
    valid[0, 0, 0, 0] = False

    shares = neighbourhood_share(target, valid)

    assert shares[0, 0, 2, 2].item() == pytest.approx(1 / 4)
    assert shares[0, 0, 1, 1].item() == pytest.approx(3 / 8)
    assert shares[0, 0, 0, 1].item() == pytest.approx(3 / 5)


@pytest.mark.parametrize("exclusive", [False, True])
def test_nacl_holds_sure_logits_back_and_cross_entropy_does_not(exclusive: bool) -> None:
    target = torch.ones(1, 2, 4, 4)
    target[:, 0] = 0
    logits = (20 * (2 * target - 1)).requires_grad_()
    nacl = NeighbourAware(exclusive=exclusive)(logits, target, everywhere(target))

    (slope,) = torch.autograd.grad(nacl.sum(), logits)

    assert (slope[:, 1] > 0).all()
    assert (slope[:, 0] < 0).all()


@pytest.mark.parametrize("penalty", [-0.1, math.nan, True])
def test_penalties_out_of_range_are_refused(penalty: float) -> None:
    with pytest.raises(ValueError, match=r"penalty: found .*, expected a number of at least 0"):
        NeighbourAware(penalty)


@pytest.mark.parametrize("bins", [1, 7, 20])
@pytest.mark.parametrize("exclusive", [False, True])
@given(seeds)
def test_ml1_ace_is_the_mean_gap_of_the_filled_bins(bins: int, exclusive: bool, seed: int) -> None:
    logits, target, valid = case(exclusive=exclusive, seed=seed)
    probs = logits.softmax(1) if exclusive else logits.sigmoid()

    values = AverageCalibrationError(bins, exclusive=exclusive)(logits, target, valid)

    for image in range(len(logits)):
        kept = valid[image, 0]
        for one in range(logits.shape[1]):
            filled: dict[int, list[tuple[float, float]]] = {}
            known = (probs[image, one][kept].tolist(), target[image, one][kept].tolist())
            for p, y in zip(*known, strict=True):
                filled.setdefault(math.ceil(p * bins), []).append((p, y))
            gaps = [abs(sum(p - y for p, y in pixels)) / len(pixels) for pixels in filled.values()]
            expected = sum(gaps) / len(gaps)
            assert values[image, one].item() == pytest.approx(expected, abs=1e-9)


@given(seeds)
def test_ml1_ace_agrees_with_the_metric_of_monai(seed: int) -> None:
    logits, target, _ = case(exclusive=True, size=12, seed=seed)
    # MONAI's bins are wider by 1e-7 and its numbers are of single precision.
    edges = 20 * logits.softmax(1)
    assume(((edges - edges.round()).abs() > 1e-5).all().item())
    metric = CalibrationErrorMetric(calibration_reduction="average", metric_reduction="none")

    values = AverageCalibrationError(exclusive=True)(logits, target, everywhere(target))

    theirs = metric(logits.softmax(1), target)
    assert isinstance(theirs, Tensor)
    torch.testing.assert_close(values, theirs.double(), atol=1e-6, rtol=0)


@given(st.integers(0, 16))
def test_ml1_ace_of_a_calibrated_constant_is_zero(true_pixels: int) -> None:
    target = (torch.arange(16) < true_pixels).double().view(1, 1, 4, 4)
    share = torch.full_like(target, true_pixels / 16)

    value = AverageCalibrationError()(share.logit(), target, everywhere(target))

    assert value.item() == pytest.approx(0, abs=1e-12)


def test_ml1_ace_is_zero_for_several_calibrated_levels_and_not_for_surer_ones() -> None:
    target = drawing("#...", "###.")
    levels = torch.tensor([0.25, 0.75]).view(1, 1, 2, 1).expand_as(target)
    term = AverageCalibrationError()

    assert term(levels.logit(), target, everywhere(target)).item() == pytest.approx(0, abs=1e-6)
    surer = term(3 * levels.logit(), target, everywhere(target)).item()
    assert surer == pytest.approx(27 / 28 - 0.75, abs=1e-6)


def test_a_probability_on_the_edge_of_two_bins_is_in_the_lower_one() -> None:
    target = drawing("#.")
    logits = torch.tensor([0.25, 0.5]).logit().view(1, 1, 1, 2)

    value = AverageCalibrationError(bins=2)(logits, target, everywhere(target))

    assert value.item() == pytest.approx(0.5 - (0.25 + 0.5) / 2)


def test_gradient_of_ml1_ace_moves_a_constant_towards_the_share() -> None:
    target = drawing("#...")

    def slope(logit: float) -> float:
        logits = torch.full_like(target, logit, requires_grad=True)
        value = AverageCalibrationError()(logits, target, everywhere(target))
        return torch.autograd.grad(value.sum(), logits)[0].sum().item()

    assert slope(0.0) > 0
    assert slope(-2.0) < 0


@pytest.mark.parametrize("bins", [0, -3, 2.5, True])
def test_numbers_of_bins_out_of_range_are_refused(bins: int) -> None:
    with pytest.raises(ValueError, match=r"bins: found .*, expected a whole number of at least 1"):
        AverageCalibrationError(bins)


@pytest.mark.parametrize("exclusive", [False, True])
def test_runs_without_values(exclusive: bool) -> None:
    assert_runs_without_values(NeighbourAware(exclusive=exclusive))
    assert_runs_without_values(AverageCalibrationError(exclusive=exclusive))
