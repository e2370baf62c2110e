"""Corruptions as attacks: severities, draws, padding, settings."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustness.attack import Passes
from robustness.corruption_kinds import KINDS
from robustness.corruption_models import Draw
from robustness.corruptions import CorruptionAttack
from tests.robustness.scans import (
    HIGH,
    batch_of,
    corrupt,
    made_by,
    one_scan,
    scans,
)
from tests.robustness.toy import (
    CONF,
    CallCounter,
    ConvNet,
    attack_specs,
    build,
)

ALL = tuple(KINDS)
RANDOM = tuple(name for name, kind in KINDS.items() if kind.random)


@pytest.mark.parametrize("kind", ALL)
def test_each_severity_disturbs_every_scan_more(kind: str) -> None:
    slices = [replace(one, case=f"case_{number}") for number, one in enumerate(scans(9, size=36))]
    batch = batch_of(slices)
    changes = torch.stack(
        [(image - batch.image).abs().flatten(1).mean(dim=1) for image in corrupt(batch, kind)]
    )
    assert (changes[0] > 0).all()
    assert (changes.diff(dim=0) > 0).all()


@pytest.mark.parametrize("kind", ALL)
def test_the_strongest_is_a_plausible_scan_still(kind: str) -> None:
    batch = batch_of(scans(size=36))
    image = corrupt(batch, kind, severities=(5,))[0]
    inside = batch.valid.expand_as(image)
    assert torch.isfinite(image).all()
    # Less than a quarter of the range on average, and no value far out of the range.
    assert (image - batch.image)[inside].abs().mean() < 0.25 * HIGH
    assert image[inside].min() > -0.4 * HIGH
    assert image[inside].max() < 1.7 * HIGH


@pytest.mark.parametrize("kind", ALL)
def test_strengths_rise_and_say_where_they_come_from(kind: str) -> None:
    found = KINDS[kind]
    assert sorted(set(found.strengths)) == list(found.strengths)
    assert found.source
    assert found.unit


@pytest.mark.parametrize("kind", ALL)
def test_padding_stays_and_has_no_share_in_the_scan(kind: str) -> None:
    slices = scans(3)
    marked = [replace(one, image=np.where(one.valid, one.image, np.float32(9))) for one in slices]
    clean, other = batch_of(slices), batch_of(marked)
    for first, second in zip(corrupt(clean, kind), corrupt(other, kind), strict=True):
        padding = ~clean.valid.expand_as(first)
        assert torch.equal(first[padding], clean.image[padding])
        assert torch.equal(second[padding], other.image[padding])
        assert torch.equal(first[~padding], second[~padding])


@pytest.mark.parametrize("kind", ALL)
def test_padding_is_part_of_the_scan_where_asked(kind: str) -> None:
    batch = batch_of(scans(3))
    image = corrupt(batch, kind, valid_only=False)[-1]
    assert image.shape == batch.image.shape
    assert not torch.equal(image, corrupt(batch, kind)[-1])


def test_a_hole_in_the_valid_pixels_stays_and_so_does_a_slice_of_padding() -> None:
    slices = scans(2)
    hole, nothing = slices[0].valid.copy(), np.zeros_like(slices[1].valid)
    hole[5:8, 5:8] = False
    batch = batch_of([replace(slices[0], valid=hole), replace(slices[1], valid=nothing)])
    image = corrupt(batch, "intensity_shift", severities=(5,))[0]
    moved = (image != batch.image)[:, 0]
    assert torch.equal(moved[0], torch.from_numpy(hole))
    assert not moved[1].any()


@pytest.mark.parametrize("kind", ALL)
def test_a_slice_comes_out_the_same_beside_other_slices(kind: str) -> None:
    slices = [replace(one, case=f"case_{number}") for number, one in enumerate(scans(5))]
    together, others = batch_of(slices), batch_of([slices[3], *scans(2, seed=5)])
    pairs = zip(corrupt(together, kind), corrupt(others, kind), strict=True)
    assert all(torch.equal(first[3], second[0]) for first, second in pairs)


# Ghosts have eight forms alone, so that two draws may well agree: they are looked at below.
@pytest.mark.parametrize("kind", sorted({*RANDOM} - {"ghosting"}))
def test_repeats_seeds_names_cases_and_slices_draw_anew(kind: str) -> None:
    one = scans(1)[0]
    twins = [one, replace(one, case="other"), replace(one, index=7), one]
    batch = batch_of(twins)
    attack = CorruptionAttack(kind, kind=kind, severities=(5,), repeats=2)
    repeats = made_by(attack, batch)
    drawn = [
        *repeats[0][:3],
        repeats[1][0],
        made_by(attack, batch, seed=1)[0][0],
        made_by(replace(attack, name="other"), batch)[0][0],
    ]
    assert torch.equal(repeats[0][0], repeats[0][3])
    for place, image in enumerate(drawn):
        assert not any(torch.equal(image, other) for other in drawn[:place])


@pytest.mark.parametrize("kind", ALL)
def test_a_severity_does_not_depend_on_which_others_are_made(kind: str) -> None:
    batch = batch_of(scans(2))
    every, few = corrupt(batch, kind), corrupt(batch, kind, severities=(0, 2, 5))
    assert torch.equal(few[0], batch.image)
    assert torch.equal(few[1], every[1])
    assert torch.equal(few[2], every[4])


@pytest.mark.parametrize("kind", ALL)
def test_channels_and_images_stay_apart(kind: str) -> None:
    batch = batch_of(scans(3, channels=3, classes=2, size=12))
    before = batch.image.clone()
    images = corrupt(batch, kind)
    assert torch.equal(batch.image, before)
    for image in images:
        assert type(image) is Tensor
        assert image.dtype == torch.float32
        assert image.shape == before.shape
        assert ((image != before).flatten(2).any(dim=2)).all()


@settings(max_examples=25)
@given(
    kind=st.sampled_from(ALL),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    constant=st.booleans(),
)
def test_small_and_constant_scans_stay_finite(
    kind: str, height: int, width: int, constant: bool
) -> None:
    draw = np.random.default_rng(height * 10 + width)
    shape = (1, height, width)
    batch = one_scan(np.full(shape, 0.1) if constant else draw.random(shape) * HIGH)
    for image in corrupt(batch, kind):
        assert torch.isfinite(image).all()


@pytest.mark.parametrize("kind", ALL)
def test_slices_of_one_box_are_corrupted_at_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two boxes in the batch: a model is called twice, however many slices there are."""
    sizes: list[int] = []
    model = KINDS[kind]

    def counting(scans: Tensor, strength: float, draw: Draw) -> Tensor:
        sizes.append(len(scans))
        return model.apply(scans, strength, draw)

    monkeypatch.setitem(KINDS, kind, replace(model, apply=counting))
    assert len(corrupt(batch_of(scans(9)), kind, severities=(3,))) == 1
    assert sorted(sizes) == [4, 5]


def test_no_pass_is_made() -> None:
    network = CallCounter(ConvNet().eval())
    batch = batch_of(scans(2), network)
    for kind in ALL:
        attack = CorruptionAttack(kind, kind=kind)
        assert len(list(attack.disturb(batch, 0))) == 5
        assert attack.passes == Passes(0, 0)
        assert not attack.degenerate(batch).any()
    assert network.forwards == network.backwards == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "blurr"}, "kind is blurr, expected one of .*did you mean blur"),
        ({"kind": "blur", "severities": ()}, "severities is"),
        ({"kind": "blur", "severities": (6,)}, "severities is"),
        ({"kind": "blur", "severities": (2, 1)}, "rising numbers, each once"),
        ({"kind": "spike", "low": 0.2}, "finite numbers, low below high"),
        ({"kind": "spike", "high": math.nan}, "finite numbers, low below high"),
        ({"kind": "blur", "high": 1.0}, "no effect where kind is blur"),
        ({"kind": "low_resolution", "low": -1.0}, "no effect where kind is low_resolution"),
        ({"kind": "spike", "repeats": 0}, "repeats is 0, expected 1 or more"),
        ({"kind": "blur", "repeats": 2}, "1, since nothing in blur is random"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"attack wrong: .*{message}"):
        CorruptionAttack("wrong", **settings)


def test_the_configuration_has_every_kind_once() -> None:
    attacks = [build(spec) for spec in attack_specs(CONF / "robustness/add/corruptions.yaml")]
    assert [attack.settings()["kind"] for attack in attacks] == list(ALL)
    for attack in attacks:
        assert attack.points == (1.0, 2.0, 3.0, 4.0, 5.0)
        assert (attack.axis, attack.unit) == ("severity", "severity")
