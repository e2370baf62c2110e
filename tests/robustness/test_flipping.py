from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.batches import attack_batch, fixed_size
from robustness.flipping import Flipping, pixel_flipping
from robustness.objectives import Objective, logit_sum, probability_sum
from robustness.saliency import Forward
from tests.robustness.toy import CPU, CallCounter, ConvNet, batches_of, make_slices


def batch_of(forward: Forward, *, channels: int = 1, classes: int = 1) -> AttackBatch:
    slices = make_slices(4, channels=channels, classes=classes, size=12)
    (piece,) = fixed_size(batches_of(slices, 4), 4)
    return attack_batch(forward, piece, CPU)


def weighed(image: Tensor) -> Tensor:
    """A linear network: pixels count the more the further right and down they lie."""
    size = image.shape[-1]
    weights = torch.arange(1.0, size * size + 1).reshape(size, size) / size**2
    return (image * weights).sum(dim=1, keepdim=True)


def in_loops(
    batch: AttackBatch,
    order: list[list[int]],
    objective: Objective,
    steps: int,
    baseline: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Curves slice by slice and pixel by pixel."""
    curves = []
    for inserted in (False, True):
        points = []
        for step in range(steps + 1):
            images = batch.image.clone()
            for row, pixels in enumerate(order):
                flipped = set(pixels[: round(step / steps * len(pixels))])
                for pixel in pixels:
                    if (pixel in flipped) != inserted:
                        levels = [
                            fmean(channel.flatten()[pixels].tolist())
                            if baseline is None
                            else baseline
                            for channel in batch.image[row]
                        ]
                        images[row].flatten(1)[:, pixel] = torch.tensor(levels)
            points.append(batch.value(objective, images).numpy())
        curves.append(np.stack(points, axis=1))
    deletion, insertion = curves
    clean, blank = deletion[:, :1], insertion[:, :1]
    return (deletion - blank) / (clean - blank), (insertion - blank) / (clean - blank)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("baseline", [0.0, 0.1, None])
def test_curves_are_those_of_loops(signed: bool, baseline: float | None) -> None:
    batch = batch_of(ConvNet(2, 3), channels=2, classes=3)
    maps = batch.gradient("probability_sum")
    found = pixel_flipping(
        batch, maps, probability_sum, steps=5, signed=signed, baseline=baseline
    ).ranked
    order = []
    for row in range(4):
        score = (maps[row] if signed else maps[row].abs()).double().sum(dim=0).flatten().tolist()
        allowed = np.flatnonzero(batch.valid[row].numpy()).tolist()
        order.append(sorted(allowed, key=lambda at: (-score[at], at)))
    deletion, insertion = in_loops(batch, order, probability_sum, 5, baseline)
    np.testing.assert_allclose(found.deletion.numpy(), deletion, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.insertion.numpy(), insertion, rtol=1e-3, atol=1e-4)
    expected = np.trapezoid(deletion, np.linspace(0, 1, 6), axis=1)
    np.testing.assert_allclose(found.deletion_area.numpy(), expected, rtol=1e-3, atol=1e-4)


def flip_weighed(maps_of: str) -> Flipping:
    batch = batch_of(weighed)
    # What each pixel adds to the sum of a linear network's outputs.
    truth = batch.gradient("logit_sum") * batch.image
    maps = {"best": truth, "worst": -truth}[maps_of]
    return pixel_flipping(batch, maps, logit_sum, steps=10, baseline=0.0)


def test_no_order_beats_that_of_a_linear_network() -> None:
    best, worst = (flip_weighed(name) for name in ("best", "worst"))
    assert bool((best.deletion_gain > 0.05).all())
    assert bool((best.insertion_gain > 0.05).all())
    assert bool((worst.deletion_gain < -0.05).all())
    for curves in (worst.ranked, best.at_random):
        assert bool((best.ranked.deletion <= curves.deletion + 1e-6).all())
        assert bool((best.ranked.insertion >= curves.insertion - 1e-6).all())


def test_deletion_and_insertion_mirror_each_other_in_a_linear_network() -> None:
    found = flip_weighed("best").ranked
    torch.testing.assert_close(
        found.deletion + found.insertion, torch.ones_like(found.deletion), rtol=1e-4, atol=1e-4
    )


def test_a_good_order_gains_where_the_blank_slice_has_the_higher_objective() -> None:
    def darkness(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return -logit_sum(logits, target, valid)

    batch = batch_of(weighed)
    maps = batch.ascent(darkness, batch.image).gradient * batch.image
    found, inverted = (
        pixel_flipping(batch, one, darkness, steps=10, baseline=0.0) for one in (maps, -maps)
    )
    assert found.ranked.deletion[:, 0].tolist() == [-1.0] * 4
    for gain in (found.deletion_gain, found.insertion_gain):
        assert bool((gain > 0.05).all())
    assert bool((inverted.deletion_gain < -0.05).all())


def test_curves_begin_and_end_clean_or_blank() -> None:
    for curves in (flip_weighed("best").ranked, flip_weighed("best").at_random):
        assert curves.deletion[:, 0].tolist() == curves.insertion[:, -1].tolist() == [1.0] * 4
        assert curves.deletion[:, -1].tolist() == curves.insertion[:, 0].tolist() == [0.0] * 4
        assert curves.shares.tolist() == pytest.approx(np.linspace(0, 1, 11).tolist())


def test_passes_are_counted() -> None:
    network = CallCounter(ConvNet())
    batch = batch_of(network)
    for steps in (1, 2, 7):
        network.forwards = 0
        pixel_flipping(batch, batch.image, logit_sum, steps=steps)
        assert network.forwards == 4 * steps - 2
    assert network.backwards == 0


def test_the_random_order_is_a_function_of_seed_case_and_slice() -> None:
    batch = batch_of(ConvNet())
    first = pixel_flipping(batch, batch.image, logit_sum, steps=4).at_random
    again = pixel_flipping(batch, -batch.image, logit_sum, steps=4).at_random
    other = pixel_flipping(batch, batch.image, logit_sum, steps=4, seed=1).at_random
    assert torch.equal(first.deletion, again.deletion)
    assert not torch.equal(first.deletion, other.deletion)
    rows = torch.tensor([3, 1])
    names = ("image", "mask", "valid", "case_keys", "slice_index", "counted")
    few = replace(batch, **{name: getattr(batch, name)[rows] for name in names})
    alone = pixel_flipping(few, few.image, logit_sum, steps=4).at_random
    torch.testing.assert_close(alone.deletion, first.deletion[rows], rtol=1e-4, atol=1e-5)


def test_padding_is_left_alone() -> None:
    seen = []

    def forward(image: Tensor) -> Tensor:
        seen.append(image.clone())
        return weighed(image)

    batch = batch_of(forward)
    pixel_flipping(batch, batch.image, logit_sum, steps=3, baseline=0.7)
    for image in seen:
        assert torch.equal(image[~batch.valid], batch.image[~batch.valid])
    assert bool((torch.stack(seen) == 0.7).any())


def test_an_objective_that_never_moves_has_no_curve() -> None:
    batch = batch_of(lambda image: image[:, :1] * 0 + 1)
    found = pixel_flipping(batch, batch.image, logit_sum, steps=2)
    assert bool(found.deletion_gain.isnan().all())


def test_what_makes_no_sense_is_refused() -> None:
    batch = batch_of(weighed)
    with pytest.raises(ValueError, match="steps: found 0"):
        pixel_flipping(batch, batch.image, logit_sum, steps=0)
    with pytest.raises(ValueError, match="maps: found shape"):
        pixel_flipping(batch, batch.image[:2], logit_sum)


def test_equal_values_are_flipped_in_a_random_order() -> None:
    """Of a map of two values all high ones come first, and rows do not decide among them."""
    seen: list[Tensor] = []

    def forward(image: Tensor) -> Tensor:
        seen.append(image.clone())
        return weighed(image)

    batch = batch_of(forward)
    high = batch.valid & (torch.arange(12) % 2 == 0)[:, None]
    pixel_flipping(batch, high.float(), logit_sum, steps=10, baseline=0.7)
    first = seen[2]  # after the clean and the blank slices
    for row in range(4):
        flipped = torch.nonzero((first[row] != batch.image[row]).flatten()).flatten()
        places = torch.nonzero(high[row].flatten()).flatten()
        assert 0 < len(flipped) < len(places)
        assert set(flipped.tolist()) < set(places.tolist())
        assert flipped.tolist() != places[: len(flipped)].tolist()
        # All over the high ones: in both halves of them.
        assert int(flipped.min()) < int(places[len(places) // 2]) < int(flipped.max())


def test_a_map_that_is_the_same_everywhere_has_no_order() -> None:
    batch = batch_of(weighed)
    for level in (0.0, 0.3):
        flat = torch.full_like(batch.image, level)
        found = pixel_flipping(batch, flat, logit_sum, steps=4)
        assert bool(found.deletion_gain.isnan().all())
        assert bool(found.insertion_gain.isnan().all())
    some = batch.image.clone()
    some[1] = 0
    found = pixel_flipping(batch, some, logit_sum, steps=4)
    assert found.deletion_gain.isnan().tolist() == [False, True, False, False]
