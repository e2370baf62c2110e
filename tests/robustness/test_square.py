"""The search without gradients stays within its budget and finds what can be found."""

import pytest
import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.batches import attack_batch, fixed_size
from robustness.square import SquareSearch
from tests.robustness.toy import CPU, CallCounter, ConvNet, as_batch, make_slices

EPSILONS = (0.0, 0.05, 0.1)


def batch_of(forward: object, *, channels: int = 2, count: int = 9) -> AttackBatch:
    slices = make_slices(count, channels=channels, classes=2, size=16)
    (piece,) = fixed_size([as_batch(slices)], count)
    return attack_batch(forward, piece, CPU)  # type: ignore[arg-type]


def images(attack: SquareSearch, batch: AttackBatch) -> dict[int, Tensor]:
    return {index: image for index, _, image in attack.disturb(batch, 0)}


def test_it_stays_within_epsilon_range_and_valid_pixels() -> None:
    batch = batch_of(ConvNet(2, 2).eval())
    found = images(SquareSearch("square", EPSILONS, high=1.0, queries=20), batch)
    assert torch.equal(found[0], batch.image)
    for index, epsilon in enumerate(EPSILONS):
        change = found[index] - batch.image
        assert change.abs().max() <= epsilon * (1 + 1e-6)
        assert not change[~batch.valid.expand_as(change)].any()
        assert found[index].min() >= 0
        assert found[index].max() <= 1


def test_each_query_is_one_forward_pass() -> None:
    network = CallCounter(ConvNet(2, 2).eval())
    attack = SquareSearch("square", EPSILONS, queries=7, repeats=2)
    for _ in attack.disturb(batch_of(network), 0):
        pass
    assert (network.forwards, network.backwards) == attack.passes == (2 * 2 * 7, 0)


def test_more_queries_never_find_less() -> None:
    batch = batch_of(ConvNet(2, 2).eval())
    values = [
        batch.value("bce", images(SquareSearch("s", (0.1,), high=1.0, queries=n), batch)[0])
        for n in (1, 10, 60)
    ]
    clean = batch.value("bce", batch.image)
    assert (values[0] <= values[1]).all()
    assert (values[2] > clean).all()
    assert values[1].sum() < values[2].sum()


def test_it_comes_near_the_optimum_of_a_linear_network() -> None:
    """Where every pixel should rise, squares of a positive sign are kept and others are not."""

    def brighter(image: Tensor) -> Tensor:
        return image.sum(dim=1, keepdim=True).expand(-1, 2, -1, -1)

    batch = batch_of(brighter, channels=1)
    batch.mask.zero_()
    found = images(SquareSearch("s", (0.1,), high=2.0, queries=300), batch)[0]
    change = (found - batch.image)[batch.valid]
    assert (change > 0).float().mean() > 0.85


def test_a_slice_is_attacked_alike_in_any_batch() -> None:
    network = ConvNet(2, 2).eval()
    attack = SquareSearch("s", (0.1,), high=1.0, queries=15)
    whole, part = batch_of(network), batch_of(network, count=8)
    rows = 7  # the last slice of a set is made otherwise
    torch.testing.assert_close(images(attack, whole)[0][:rows], images(attack, part)[0][:rows])


def test_repeats_differ_and_seeds_too() -> None:
    batch = batch_of(ConvNet(2, 2).eval())
    attack = SquareSearch("s", (0.1,), high=1.0, queries=5, repeats=2)
    first, second = (image for _, _, image in attack.disturb(batch, 0))
    other = next(image for _, _, image in attack.disturb(batch, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "l2"}, "norm is l2, expected one of linf"),
        ({"queries": 0}, "queries is 0"),
        ({"share": 0.0}, "share is 0"),
        ({"share": 1.5}, "share is 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"attack s: {message}"):
        SquareSearch("s", (0.1,), **settings)  # type: ignore[arg-type]
