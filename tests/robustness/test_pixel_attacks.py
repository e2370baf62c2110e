"""The paper's attacks: which pixels are replaced, and by what."""

from dataclasses import replace

import pytest
import torch
from scipy import stats

from robustness.attack import Attack, AttackBatch
from robustness.batches import attack_batch, fixed_size
from robustness.orders import RANKINGS
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.values import local_median
from tests.robustness.pixel_batches import (
    ATTACKS,
    CONTROL,
    COUNTS,
    EACH,
    LEVELS,
    PIXELS,
    SIDE,
    VALUES,
    changed_pixels,
    disturbed,
    pixel_batch,
)
from tests.robustness.toy import (
    CPU,
    CallCounter,
    ConvNet,
    as_batch,
    make_slices,
)


@EACH
def test_every_point_and_repeat_comes_once(attack: Attack) -> None:
    found = [(point, repeat) for point, repeat, _ in attack.disturb(pixel_batch(), 0)]
    everything = {
        (point, repeat) for point in range(len(attack.points)) for repeat in range(attack.repeats)
    }
    assert len(found) == len(everything)
    assert set(found) == everything


@EACH
def test_all_channels_of_as_many_pixels_as_announced_are_replaced(
    attack: LevelAttack | CountAttack,
) -> None:
    batch = pixel_batch()
    for (point, _), image in disturbed(attack, batch).items():
        number = attack.pixels if isinstance(attack, LevelAttack) else attack.counts[point]
        different = (image != batch.image).flatten(2)
        assert torch.equal(different[:, 0], different[:, 1])
        assert different[:, 0].sum(dim=1).tolist() == [number] * 8


@EACH
def test_the_clean_images_stay_as_they_are(attack: Attack) -> None:
    batch = pixel_batch()
    before = batch.image.clone()
    kept = [(image, image.clone()) for _, _, image in attack.disturb(batch, 0)]
    assert torch.equal(batch.image, before)
    assert all(torch.equal(image, then) for image, then in kept)


def test_levels_are_written_as_they_are_and_always_in_the_same_pixels() -> None:
    batch = pixel_batch()
    top = batch.ranked_pixels("gradient", 4)
    for (point, _), image in disturbed(LEVELS, batch).items():
        taken = image.flatten(2).gather(2, top[:, None].expand(-1, 2, -1))
        assert (taken == LEVELS.levels[point]).all()
        others = image.flatten(2).scatter(2, top[:, None].expand(-1, 2, -1), 0.0)
        clean = batch.image.flatten(2).scatter(2, top[:, None].expand(-1, 2, -1), 0.0)
        assert torch.equal(others, clean)


def test_counts_take_the_highest_ranked_pixels_and_keep_those_they_have() -> None:
    batch = pixel_batch()
    order = batch.ranked_pixels("gradient", 10)
    for (point, _), image in disturbed(COUNTS, batch).items():
        for row in range(8):
            pixels = changed_pixels(image, batch)[row].nonzero().flatten().tolist()
            assert sorted(order[row, : COUNTS.counts[point]].tolist()) == pixels


@pytest.mark.parametrize("attack", [VALUES, CONTROL], ids=["values", "control"])
def test_a_ranked_pixel_keeps_its_random_value_at_every_point(attack: CountAttack) -> None:
    batch = pixel_batch()
    found = disturbed(attack, batch)
    for repeat in range(4):
        largest = found[2, repeat]
        for point in range(2):
            image = found[point, repeat]
            changed = changed_pixels(image, batch).reshape(8, 1, SIDE, SIDE).expand_as(image)
            assert torch.equal(image[changed], largest[changed])


def test_random_values_lie_in_their_range_and_differ_between_slices_and_repeats() -> None:
    batch = pixel_batch(channels=1)
    found = disturbed(VALUES, batch)
    drawn = torch.stack(
        [found[2, repeat][found[2, repeat] != batch.image].reshape(8, 10) for repeat in range(4)]
    )
    assert 2.0 <= drawn.min() < 2.1
    assert 2.9 < drawn.max() < 3.0
    assert len(set(drawn.flatten().tolist())) == drawn.numel()
    assert stats.kstest(drawn.flatten().numpy() - 2, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("value", ["uniform", "salt_and_pepper"])
def test_of_a_pair_of_repeats_the_second_has_the_opposite_values(value: str) -> None:
    batch = pixel_batch(channels=1)
    alone = replace(VALUES, value=value)
    single = disturbed(alone, batch)
    paired = disturbed(replace(alone, half_width=0.01, repeats=6), batch)
    pixels = batch.ranked_pixels("gradient", 10)
    for point, count in enumerate(VALUES.counts):
        for repeat in (0, 2):
            first, second = paired[point, repeat], paired[point, repeat + 1]
            assert torch.equal(first, single[point, repeat])
            assert not torch.equal(second, single[point, repeat + 1])
            taken = [one.flatten(1).gather(1, pixels[:, :count]) for one in (first, second)]
            torch.testing.assert_close(taken[0] + taken[1], torch.full((8, count), 5.0))
            changed = changed_pixels(second, batch)
            assert int(changed.sum()) == 8 * count
            assert changed.gather(1, pixels[:, :count]).all()


@pytest.mark.parametrize("half_width", [0.0, 0.01])
def test_a_control_differs_from_its_attack_in_the_pixels_alone(half_width: float) -> None:
    batch = pixel_batch(channels=1)
    attacked, control = (
        disturbed(replace(one, half_width=half_width, repeats=6), batch)
        for one in (VALUES, CONTROL)
    )
    elsewhere = 0
    for place, image in attacked.items():
        values = image[image != batch.image].reshape(8, -1).sort(dim=1).values
        other = control[place]
        assert torch.equal(values, other[other != batch.image].reshape(8, -1).sort(dim=1).values)
        elsewhere += int((changed_pixels(image, batch) != changed_pixels(other, batch)).sum())
    assert elsewhere > 0


def test_without_values_like_a_control_has_values_of_its_own() -> None:
    batch = pixel_batch(channels=1)
    own, shared = (
        disturbed(replace(CONTROL, values_like=name), batch)[2, 0] for name in ("", "values")
    )
    assert torch.equal(changed_pixels(own, batch), changed_pixels(shared, batch))
    changed = changed_pixels(own, batch).reshape(8, 1, SIDE, SIDE)
    assert (own != shared)[changed].all()


@EACH
def test_random_pixels_lie_in_the_valid_region(attack: LevelAttack | CountAttack) -> None:
    batch = pixel_batch()
    outside = ~batch.valid.flatten(1)
    touched = torch.zeros_like(outside)
    for image in disturbed(attack, batch).values():
        touched |= changed_pixels(image, batch)
    assert (touched & ~outside).any()
    if attack.ranking == "random":
        assert not (touched & outside).any()


def test_padding_is_an_ordinary_pixel_for_the_paper_attacks() -> None:
    """The gradient is highest in the padding here, so that is where the pixels are taken."""
    batch = pixel_batch(channels=1)
    weight = torch.where(batch.valid[:1], 1.0, 2.0)
    linear = AttackBatch(
        lambda image: image * weight,
        batch.image,
        batch.mask,
        batch.valid,
        batch.case_keys,
        batch.slice_index,
        batch.counted,
    )
    attack = replace(COUNTS, ranking="gradient_logit")
    for image in disturbed(attack, linear).values():
        assert not (changed_pixels(image, linear) & linear.valid[:1].flatten(1)).any()


def test_repeats_take_other_random_pixels() -> None:
    batch = pixel_batch()
    attack = replace(LEVELS, ranking="random", repeats=30)
    found = disturbed(attack, batch)
    choices = {
        tuple(changed_pixels(found[2, repeat], batch)[row].nonzero().flatten().tolist())
        for repeat in range(30)
        for row in range(8)
    }
    assert len(choices) == 30 * 8


@pytest.mark.parametrize("attack", [VALUES, CONTROL], ids=["values", "control"])
def test_another_seed_gives_other_numbers_and_the_same_seed_the_same(attack: CountAttack) -> None:
    first, again, other = (disturbed(attack, pixel_batch(), seed) for seed in (0, 0, 1))
    assert all(torch.equal(image, again[place]) for place, image in first.items())
    assert not any(torch.equal(image, other[place]) for place, image in first.items())


def test_a_gradient_attack_has_nothing_to_go_by_where_the_gradient_is_zero() -> None:
    batch = pixel_batch(thresholded=True)
    assert LEVELS.degenerate(batch).tolist() == [False] * 7 + [True]
    assert CONTROL.degenerate(batch).tolist() == [False] * 8
    first_pixels = changed_pixels(disturbed(COUNTS, batch)[2, 0], batch)[-1].nonzero().flatten()
    assert first_pixels.tolist() == list(range(10))


def test_axes_units_and_points() -> None:
    assert (LEVELS.axis, LEVELS.unit, LEVELS.points) == (
        "level",
        "image intensity",
        (-3.0, 0.5, 7.0),
    )
    assert (COUNTS.axis, COUNTS.unit, COUNTS.points) == (
        "pixels",
        "pixels per slice",
        (1.0, 3.0, 10.0),
    )
    assert all(type(point) is float for attack in ATTACKS for point in attack.points)


@pytest.mark.parametrize("ranking", RANKINGS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_padding_is_left_alone_on_request(ranking: str, per_channel: bool) -> None:
    batch = pixel_batch()
    attacks: list[Attack] = [
        LevelAttack("a", (3.0,), 30, ranking, valid_only=True, per_channel=per_channel),
        CountAttack("b", (40,), 3.0, ranking=ranking, valid_only=True, per_channel=per_channel),
    ]
    for attack, number in zip(attacks, (30, 40), strict=True):
        for image in disturbed(attack, batch).values():
            changed = (image != batch.image) & batch.valid
            entries = changed if per_channel else changed.any(dim=1)
            assert entries.flatten(1).sum(dim=1).tolist() == [number] * 8
            assert torch.equal(image * ~batch.valid, batch.image * ~batch.valid)


def test_single_entries_are_ranked_over_all_channels() -> None:
    batch = pixel_batch()
    attack = CountAttack("a", (1, 7), value=-2.0, per_channel=True)
    assert attack.unit == "channel entries per slice"
    gradient = batch.gradient("probability_sum").flatten(1)
    for row, image in enumerate(disturbed(attack, batch)[1, 0]):
        changed = (image != batch.image[row]).flatten().nonzero().flatten().tolist()
        order = sorted(range(2 * PIXELS), key=gradient[row].tolist().__getitem__, reverse=True)
        assert changed == sorted(order[:7])


def test_directed_values_raise_the_rankings_objective_in_each_channel() -> None:
    batch = pixel_batch()
    for ranking, objective in (
        ("gradient_abs", "probability_sum"),
        ("gradient_logit", "logit_sum"),
    ):
        attack = CountAttack("a", (20,), "directed", low=-4.0, high=5.0, ranking=ranking)
        image = disturbed(attack, batch)[0, 0]
        gradient = batch.gradient(objective)
        changed = image != batch.image
        assert changed.flatten(1).sum(dim=1).tolist() == [40] * 8
        expected = torch.where(gradient > 0, 5.0, -4.0)
        assert torch.equal(image[changed], expected[changed])
    assert (image[changed] == 5.0).any()
    assert (image[changed] == -4.0).any()


@pytest.mark.parametrize("per_channel", [False, True])
def test_medians_come_from_the_clean_image(per_channel: bool) -> None:
    batch = pixel_batch()
    attack = CountAttack("a", (30,), "local_median", window=5, per_channel=per_channel)
    image = disturbed(attack, batch)[0, 0]
    changed = image != batch.image
    everywhere = torch.ones_like(batch.valid)
    assert torch.equal(image[changed], local_median(batch.image, everywhere, 5)[changed])
    assert changed.flatten(1).sum(dim=1).min() > 5


def test_salt_and_pepper_is_either_end_as_often() -> None:
    batch = pixel_batch(channels=1)
    attack = CountAttack("a", (60,), "salt_and_pepper", low=-1.0, high=2.0, repeats=5)
    found = disturbed(attack, batch)
    drawn = torch.stack([found[0, repeat][found[0, repeat] != batch.image] for repeat in range(5)])
    assert set(drawn.flatten().tolist()) == {-1.0, 2.0}
    assert stats.binomtest(int((drawn > 0).sum()), drawn.numel()).pvalue > 1e-3


PASSES: list[tuple[str, float | str, int]] = [
    *((ranking, 0.2, int(ranking not in {"edge", "random"})) for ranking in RANKINGS),
    ("random", "directed", 1),
    ("edge", "directed", 1),
    ("edge", "local_median", 0),
    ("random", "salt_and_pepper", 0),
]


@pytest.mark.parametrize(("ranking", "value", "gradients"), PASSES)
def test_no_gradient_is_taken_that_is_not_used(
    ranking: str, value: float | str, gradients: int
) -> None:
    network = CallCounter(ConvNet(2).eval())
    (piece,) = fixed_size([as_batch(make_slices(8, channels=2, size=SIDE))], 8)
    batch = attack_batch(network, piece, CPU)
    attack = CountAttack("a", (1, 9), value, ranking=ranking)
    attack.degenerate(batch)
    list(attack.disturb(batch, 0))
    assert attack.passes == (network.forwards, network.backwards) == (gradients, gradients)


def test_a_directed_control_has_nothing_to_go_by_without_a_gradient() -> None:
    batch = pixel_batch(thresholded=True)
    attack = CountAttack("a", (3,), "directed", ranking="random")
    assert attack.degenerate(batch).tolist() == [False] * 7 + [True]


def test_more_pixels_than_the_valid_region_or_its_half_has_are_refused() -> None:
    batch = pixel_batch()
    fewest = int(batch.valid.flatten(1).sum(dim=1).min())
    list(LevelAttack("a", (0.1,), fewest, valid_only=True).disturb(batch, 0))
    for ranking, most in (("gradient", fewest), ("random", fewest), ("edge", fewest)):
        attack = LevelAttack("a", (0.1,), most + 1, ranking, valid_only=True)
        with pytest.raises(
            ValueError, match=rf"attack a: .* {most + 1}, expected at most {most}, al"
        ):
            list(attack.disturb(batch, 0))
    matched = CountAttack("a", (PIXELS // 2 + 1,), 0.1, ranking="intensity_matched")
    with pytest.raises(
        ValueError, match=r"attack a: .* 73, expected at most 72, half of a slice's p"
    ):
        list(matched.disturb(batch, 0))
    list(replace(matched, counts=(PIXELS // 2,)).disturb(batch, 0))
