from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.batches import attack_batch, fixed_size
from robustness.keyed_random import counter_hashes, slice_keys, uniforms
from robustness.stability import stability
from tests.robustness.toy import CPU, ConvNet, batches_of, make_slices


def batch_of(channels: int = 1) -> AttackBatch:
    (piece,) = fixed_size(batches_of(make_slices(4, channels=channels, size=12), 4), 4)
    return attack_batch(ConvNet(channels), piece, CPU)


def squares(image: Tensor) -> Tensor:
    return image**2


def test_a_map_that_is_the_image_changes_as_the_image_does() -> None:
    found = stability(lambda image: -3 * image, batch_of(2))
    assert found.ratio.tolist() == pytest.approx([1.0] * 4, rel=1e-4)


def test_a_map_without_the_image_never_changes() -> None:
    batch = batch_of()
    fixed = torch.rand_like(batch.image)
    found = stability(lambda image: fixed, batch)
    assert found.ratio.tolist() == [0.0] * 4
    assert found.spearman.tolist() == pytest.approx([1.0] * 4)


def test_numbers_are_those_of_loops() -> None:
    batch, noise, samples, seed = batch_of(2), 0.05, 3, 7
    found = stability(squares, batch, noise=noise, samples=samples, seed=seed)
    keys = slice_keys(seed, "stability/noise", batch.case_keys, batch.slice_index)
    for row in range(4):
        clean = batch.image[row].double()
        where = batch.valid[row].expand_as(clean)
        brightness = batch.image[row][where]
        scale = noise * (brightness.max() - brightness.min())
        ratios, ranks = [], []
        for sample in range(samples):
            drawn = uniforms(counter_hashes(keys, sample, clean.numel()))[row]
            moved = batch.image[row] + (2 * drawn.reshape(clean.shape) - 1) * scale
            noisy = torch.where(where, moved, batch.image[row])
            change = (squares(noisy) - squares(batch.image[row])).double().norm()
            move = (noisy.double() - clean).norm()
            whole = squares(batch.image[row]).double().norm()
            ratios.append(float(change / whole / (move / clean.norm())))
            first, second = (squares(one)[where].numpy() for one in (noisy, batch.image[row]))
            ranks.append(float(stats.spearmanr(first, second).statistic))
        assert float(found.ratio[row]) == pytest.approx(max(ratios), rel=1e-5)
        assert float(found.spearman[row]) == pytest.approx(sum(ranks) / samples, rel=1e-5)


def test_a_slice_is_measured_alike_in_any_batch() -> None:
    batch = batch_of()
    rows = torch.tensor([2, 0])
    names = ("image", "mask", "valid", "case_keys", "slice_index", "counted")
    few = replace(batch, **{name: getattr(batch, name)[rows] for name in names})
    whole, part = stability(squares, batch), stability(squares, few)
    torch.testing.assert_close(part.ratio, whole.ratio[rows])
    torch.testing.assert_close(part.spearman, whole.spearman[rows])
    other = stability(squares, batch, seed=1)
    assert not torch.equal(other.ratio, whole.ratio)


def test_noise_stays_within_its_bound_and_out_of_the_padding() -> None:
    seen = []

    def maps(image: Tensor) -> Tensor:
        seen.append(image.clone())
        return image

    batch = batch_of()
    stability(maps, batch, noise=0.01, samples=3)
    assert torch.equal(seen[0], batch.image)
    assert len(seen) == 4
    ranges = [float(one[where].max() - one[where].min()) for one, where in _valid(batch)]
    for noisy in seen[1:]:
        move = (noisy - batch.image).abs()
        for row, size in enumerate(ranges):
            assert 0.009 * size < float(move[row].max()) <= 0.01 * size + 1e-7
        assert not bool(move[~batch.valid].any())


def _valid(batch: AttackBatch) -> list[tuple[Tensor, Tensor]]:
    return [(batch.image[row], batch.valid[row].expand_as(batch.image[row])) for row in range(4)]


def test_a_map_of_zeros_has_no_stability() -> None:
    found = stability(lambda image: image * (image > 9), batch_of())
    assert bool(found.ratio.isnan().all())
    assert bool(found.spearman.isnan().all())


@pytest.mark.parametrize(("noise", "samples"), [(0.0, 2), (0.1, 0)])
def test_what_makes_no_sense_is_refused(noise: float, samples: int) -> None:
    with pytest.raises(ValueError, match="expected both above 0"):
        stability(squares, batch_of(), noise=noise, samples=samples)
