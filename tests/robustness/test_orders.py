"""Rankings beside the paper's: which score they go by, where they may go, and their controls."""

from itertools import pairwise

import pytest
import torch

from robustness.attack import GRADIENT_RANKINGS, AttackBatch
from robustness.keyed_random import slice_keys
from robustness.orders import RANKINGS, matched_entries, random_entries, ranked_entries
from robustness.ranking import edge_strength
from tests.robustness.toy import ConvNet, make_slices
from tests.robustness.toy_optima import toy_batch

PIXELS = 144


def _batch(size: int = 12) -> AttackBatch:
    slices = make_slices(5, channels=2, size=size)
    image = torch.stack([torch.from_numpy(one.image) for one in slices])
    valid = torch.stack([torch.from_numpy(one.valid) for one in slices])[:, None]
    return toy_batch(ConvNet(2).eval(), image, valid=valid)


def _keys(batch: AttackBatch, name: str = "a/pixels") -> torch.Tensor:
    return slice_keys(0, name, batch.case_keys, batch.slice_index)


@pytest.mark.parametrize("ranking", GRADIENT_RANKINGS)
def test_the_papers_rankings_are_the_batchs(ranking: str) -> None:
    batch = _batch()
    found = ranked_entries(batch, ranking, 30, valid_only=False, per_channel=False)
    assert torch.equal(found, batch.ranked_pixels(ranking, 30))


def test_the_lowest_gradient_comes_first() -> None:
    batch = _batch()
    score = batch.gradient("probability_sum").sum(dim=1).flatten(1)
    found = ranked_entries(batch, "gradient_low", PIXELS, valid_only=False, per_channel=False)
    for row in range(5):
        assert found[row].tolist() == sorted(range(PIXELS), key=score[row].tolist().__getitem__)


@pytest.mark.parametrize("valid_only", [False, True])
def test_edges_are_ranked_by_their_strength(valid_only: bool) -> None:
    batch = _batch()
    found = ranked_entries(batch, "edge", 40, valid_only=valid_only, per_channel=False)
    strength = edge_strength(batch.image, batch.valid if valid_only else None).sum(dim=1)
    ranked = strength.flatten(1).gather(1, found)
    assert all((first >= second).all() for first, second in pairwise(ranked.unbind(1)))
    assert batch.valid.flatten(1).gather(1, found).all() == valid_only


@pytest.mark.parametrize("ranking", sorted(set(RANKINGS) - {"intensity_matched", "random"}))
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_valid_order_is_the_full_one_without_padding(ranking: str, per_channel: bool) -> None:
    batch = _batch()
    entries = PIXELS * (2 if per_channel else 1)
    full, inside = (
        ranked_entries(batch, ranking, entries, valid_only=only, per_channel=per_channel)
        for only in (False, True)
    )
    assert torch.equal(full.sort(dim=1).values, torch.arange(entries).expand(5, -1))
    for row, valid in enumerate(batch.valid.flatten(1).tolist()):
        number = sum(valid) * entries // PIXELS
        assert all(valid[entry % PIXELS] for entry in inside[row, :number].tolist())
        # The image's edges at the border of the padding are others.
        if ranking != "edge":
            expected = [entry for entry in full[row].tolist() if valid[entry % PIXELS]]
            assert inside[row, :number].tolist() == expected


def test_single_entries_are_drawn_from_all_channels() -> None:
    batch = _batch()
    number = int(batch.valid[0].sum())
    found = random_entries(batch, _keys(batch), 0, 2 * number, per_channel=True)[0]
    valid = batch.valid[0].expand(2, -1, -1).flatten()
    assert sorted(found.tolist()) == valid.nonzero().flatten().tolist()


@pytest.mark.parametrize("valid_only", [False, True])
@pytest.mark.parametrize("per_channel", [False, True])
def test_matches_are_other_pixels_as_bright(valid_only: bool, per_channel: bool) -> None:
    batch = _batch(24)
    where = {"valid_only": valid_only, "per_channel": per_channel}
    top = ranked_entries(batch, "gradient", 12, **where)
    found = matched_entries(batch, _keys(batch), 0, 12, **where)
    for row in range(5):
        assert len({*top[row].tolist(), *found[row].tolist()}) == 24
    if per_channel:
        assert torch.equal(found // 24**2, top // 24**2)
    image = batch.image.flatten(1)[:, None] if per_channel else batch.image.flatten(2)
    drawn = random_entries(batch, _keys(batch), 0, 12, per_channel=per_channel)
    apart = [
        (
            image.gather(2, top[:, None].expand(-1, image.shape[1], -1))
            - image.gather(2, other[:, None].expand(-1, image.shape[1], -1))
        ).abs()
        for other in (found, drawn)
    ]
    assert apart[0].mean() < 0.25 * apart[1].mean()
    if valid_only:
        assert batch.valid.flatten(1).gather(1, found % 24**2).all()


def test_ties_between_matches_are_random_and_keyed() -> None:
    batch = toy_batch(lambda image: image.sum(dim=1, keepdim=True), torch.zeros(3, 1, 8, 8))
    where = {"valid_only": False, "per_channel": False}
    keys = _keys(batch)
    found = [matched_entries(batch, keys, repeat, 4, **where) for repeat in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0][0], found[0][1])
    # All gradients are equal, so that the top ones are the first four.
    assert found[0].min() >= 4
