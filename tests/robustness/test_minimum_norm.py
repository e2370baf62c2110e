"""A disturbance near the shortest that ruins a mask, against networks where it is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustness.distances import DistanceTable, distances_frame
from robustness.minimum_norm import MinimumNormAttack, slice_dice
from robustness.norms import NORMS, Norm
from tests.robustness.reference import Slice
from tests.robustness.shortest import (
    HIGH,
    Pixelwise,
    batch_of,
    broken_network,
    distances_of,
    predicted_as_truth,
    scans,
)
from tests.robustness.toy import (
    CallCounter,
    Thresholded,
)


@pytest.mark.parametrize("slope", [5.0, 50.0, 250.0])
@pytest.mark.parametrize(("norm", "excess"), [("linf", 0.002), ("l2", 0.3)])
def test_the_known_minimum_of_pixels_of_their_own_is_found(
    slope: float, norm: Norm, excess: float
) -> None:
    network, thresholds = Pixelwise(slope), (0.25, 0.5, 0.75)
    attack = MinimumNormAttack("a", thresholds=thresholds, norm=norm)
    _, distances, dice = distances_of(attack, network.batch())
    assert dice.tolist() == [1.0] * 4
    for threshold, found in zip(thresholds, distances, strict=True):
        shares = found.numpy() / np.array(network.shortest(threshold, norm))
        assert shares.min() > 1 - 1e-4
        assert shares.mean() < 1 + excess


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_distance_to_a_common_half_space_is_found(norm: Norm) -> None:
    """All pixels hang on one number, so that the mask falls as a whole: a hyperplane."""
    draw = torch.Generator().manual_seed(0)
    normal = torch.randn(1, 8, 8, generator=draw)
    image = torch.full((3, 1, 8, 8), 0.1) + torch.tensor([0.0, 0.002, 0.004])[:, None, None, None]
    offset = (image[0] * normal).sum() - 0.3

    def network(images: Tensor) -> Tensor:
        value = (images * normal).flatten(1).sum(dim=1) - offset
        return value[:, None, None, None].expand(-1, 1, 8, 8)

    slices = [
        Slice("x", index, one.numpy(), np.ones((1, 8, 8), bool), np.ones((8, 8), bool))
        for index, one in enumerate(image)
    ]
    dual = normal.abs().sum() if norm == "linf" else normal.norm()
    expected = network(image)[:, 0, 0, 0] / dual
    attack = MinimumNormAttack("a", norm=norm, tighten=12)
    _, (found,), _ = distances_of(attack, batch_of(slices, network))
    torch.testing.assert_close(found.float(), expected, rtol=2e-3, atol=0)
    assert (found.float() > expected * (1 - 1e-4)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_bisection_and_weights_pay(norm: Norm) -> None:
    batch = Pixelwise().batch()
    few = MinimumNormAttack("a", norm=norm, steps=12, tighten=0)
    loose, tight, more = (
        distances_of(attack, batch)[1][0]
        for attack in (few, replace(few, tighten=8), replace(few, steps=60))
    )
    assert (tight <= loose).all()
    assert (tight < loose).any()
    assert more.mean() < loose.mean()


@settings(max_examples=20)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    objective=st.sampled_from(["soft_dice", "bce", "margin"]),
    channels=st.integers(1, 2),
    classes=st.integers(1, 2),
    valid_only=st.booleans(),
    seed=st.integers(0, 5),
)
def test_what_is_yielded_is_broken_in_range_and_as_far_as_it_says(
    *, norm: Norm, objective: str, channels: int, classes: int, valid_only: bool, seed: int
) -> None:
    network = broken_network(channels, classes, seed)
    slices = scans(6, channels=channels, classes=classes, size=12, seed=seed)
    batch = batch_of(predicted_as_truth(slices[:4], network) + slices[4:], network)
    before = batch.image.clone()
    attack = MinimumNormAttack(
        "a", (0.3, 0.6), norm, 20, 4, objective=objective, valid_only=valid_only
    )
    images, distances, clean = distances_of(attack, batch)
    assert torch.equal(batch.image, before)
    for threshold, image, distance in zip(attack.thresholds, images, distances, strict=True):
        change = (image.double() - before.double()).flatten(1)
        length = change.abs().amax(dim=1) if norm == "linf" else change.norm(dim=1)
        dice = slice_dice(batch.logits(image), batch.mask, batch.counted)
        found = distance.isfinite() & (distance > 0)
        assert (dice[found] < threshold).all()
        torch.testing.assert_close(distance[found], length[found])
        assert (length[~found] == 0).all()
        assert torch.equal(distance.isnan(), clean.isnan())
        assert torch.equal(distance == 0, clean < threshold)
        assert ((image >= 0) & (image <= np.float32(HIGH))).all()
        if valid_only:
            padding = ~batch.valid.expand_as(image)
            assert torch.equal(image[padding], before[padding])
    known = ~clean.isnan()
    assert (distances[0][known] >= distances[1][known]).all()


def test_most_slices_of_an_ordinary_network_break() -> None:
    network = broken_network()
    batch = batch_of(predicted_as_truth(scans(6), network), network)
    for norm in ("linf", "l2"):
        _, (found,), dice = distances_of(MinimumNormAttack("a", norm=norm, steps=30), batch)
        assert dice.tolist() == [1.0] * 6
        assert found.isfinite().all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_shorter_than_random_noise_that_breaks(norm: Norm) -> None:
    network = broken_network()
    batch = batch_of(predicted_as_truth(scans(6), network), network)
    _, (found,), _ = distances_of(MinimumNormAttack("a", norm=norm, steps=30), batch)
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        noise = torch.rand(batch.image.shape, generator=draw) * 2 - 1
        flat = noise.flatten(1)
        length = flat.abs().amax(dim=1) if norm == "linf" else flat.norm(dim=1)
        image = batch.image + noise * (found.float() / length)[:, None, None, None]
        assert (slice_dice(batch.logits(image), batch.mask, batch.counted) >= 0.5).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_slice_comes_out_the_same_beside_other_slices(norm: Norm) -> None:
    network = broken_network()
    slices = predicted_as_truth(scans(6), network)
    attack = MinimumNormAttack("a", (0.4, 0.6), norm, steps=20)
    together = [image for _, _, image in attack.disturb(batch_of(slices, network, 6), 0)]
    others = batch_of([slices[4], slices[1]], network, 6)
    for first, (_, _, second) in zip(together, attack.disturb(others, 0), strict=True):
        torch.testing.assert_close(first[4], second[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(first[1], second[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("thresholds", "steps", "tighten"), [((0.5,), 1, 0), ((0.5,), 2, 3), ((0.2, 0.5, 0.8), 7, 2)]
)
def test_passes_are_those_that_are_stated(
    norm: Norm, thresholds: tuple[float, ...], steps: int, tighten: int
) -> None:
    network = CallCounter(broken_network())
    attack = MinimumNormAttack("a", thresholds, norm, steps, tighten)
    batch = batch_of(scans(4), network)
    attack.settled(batch)
    assert len(list(attack.disturb(batch, 0))) == len(thresholds)
    assert (network.forwards, network.backwards) == attack.passes
    gradients = 1 + len(thresholds) * (steps - 1)
    assert attack.passes == (1 + gradients + len(thresholds) * tighten, gradients)
    assert network.sizes == {4}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_a_gradient_nothing_moves_and_nothing_breaks(norm: Norm) -> None:
    network = Thresholded(broken_network()).eval()
    batch = batch_of(predicted_as_truth(scans(1), network), network)
    images, (found,), dice = distances_of(MinimumNormAttack("a", norm=norm, steps=12), batch)
    assert dice.item() == 1
    assert found.item() == math.inf
    assert torch.equal(images[0], batch.image)


@pytest.mark.parametrize("norm", NORMS)
def test_a_saturated_objective_is_made_good_by_the_logits(norm: Norm) -> None:
    """In float32 the sigmoid of these logits is exactly 0 or 1, and so is every gradient 0."""
    network = Pixelwise(1e5)
    batch = network.batch()
    assert (batch.gradient("soft_dice") == 0).all()
    _, (found,), _ = distances_of(MinimumNormAttack("a", norm=norm), batch)
    shares = found.numpy() / np.array(network.shortest(0.5, norm))
    assert shares.min() > 1 - 1e-4
    assert shares.max() < (1.01 if norm == "linf" else 1.5)


@pytest.mark.parametrize("norm", NORMS)
def test_an_objective_that_leads_nowhere_is_left_after_half_of_the_steps(norm: Norm) -> None:
    """The sum of probabilities only ever finds more: masks of true pixels alone stay whole."""
    network = Pixelwise()
    known = network.batch()
    batch = replace(known, counted=known.mask > 0)
    attack = MinimumNormAttack("a", norm=norm, objective="probability_sum", steps=60)
    _, (found,), _ = distances_of(attack, batch)
    assert found.isfinite().all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_uncounted_pixels_break_nothing(norm: Norm) -> None:
    network = Pixelwise()
    known = network.batch()
    counted = torch.ones_like(known.counted)
    counted[..., 6:] = False
    batch = replace(known, counted=counted)
    (image,), (found,), _ = distances_of(MinimumNormAttack("a", norm=norm, steps=40), batch)
    assert found.isfinite().all()
    dice = slice_dice(batch.logits(image)[..., :6], batch.mask[..., :6], counted[..., :6])
    assert (dice < 0.5).all()


def test_slice_dice_is_averaged_over_the_classes_with_truth() -> None:
    draw = np.random.default_rng(0)
    logits = torch.from_numpy(draw.standard_normal((5, 3, 6, 6)))
    mask = torch.from_numpy(draw.random((5, 3, 6, 6)) < 0.4)
    counted = torch.from_numpy(draw.random((5, 1, 6, 6)) < 0.8)
    mask[1, 2], mask[2] = False, False
    found = slice_dice(logits, mask.float(), counted)
    for row in range(5):
        kept = counted[row, 0]
        each = []
        for label in range(3):
            truth, guess = mask[row, label][kept], logits[row, label][kept] > 0
            if truth.any():
                each.append(2 * (truth & guess).sum().item() / (truth.sum() + guess.sum()).item())
        expected = float(np.mean(each)) if each else math.nan
        assert found[row].item() == pytest.approx(expected, nan_ok=True)
    assert found.isnan().tolist() == [False, False, True, False, False]


def test_the_table_takes_what_is_measured() -> None:
    network = broken_network()
    slices = predicted_as_truth(scans(3), network)
    batch = batch_of(slices, network, 4)
    attack = MinimumNormAttack("a", (0.4, 0.6), steps=10)
    clean, table = batch.logits(batch.image), DistanceTable()
    for point, repeat, image in attack.disturb(batch, 0):
        distances, dice = attack.measure(batch, point, image, clean)
        table.add(
            attack,
            point_index=point,
            repeat=repeat,
            cases=[one.case for one in slices],
            slice_index=batch.slice_index,
            distances=distances,
            clean_dice=dice,
        )
    frame = distances_frame([table.partial()])
    assert frame["threshold"].tolist() == [0.4] * 3 + [0.6] * 3
    assert frame["case"].tolist() == ["case_0", "case_1", "case_2"] * 2
    assert set(frame["norm"]) == {"linf"}
    assert (frame["clean_dice"] == 1).all()
