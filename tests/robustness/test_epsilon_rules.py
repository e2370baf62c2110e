"""What holds for every norm-bounded attack: budgets, passes, chance, odd input and settings."""

from dataclasses import replace
from typing import Any

import jsonargparse
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness.apgd import Apgd
from robustness.attack import Attack, Passes
from robustness.directed import (
    EpsilonAttack,
    Fgsm,
    IteratedFgsm,
    MomentumFgsm,
    NoiseControl,
)
from robustness.norms import Norm
from robustness.pgd import CosPgd, Pgd, SegPgd
from tests.robustness.directed_kinds import (
    ALL,
    BOTH,
    CLASSES,
    CLEAN_START,
    KINDS,
    RESTARTED,
    exact_lengths,
    images_of,
    slices_batch,
    toy_images,
)
from tests.robustness.toy import CallCounter, ConvNet, Thresholded
from tests.robustness.toy_optima import Linear, Quadratic, toy_batch


@ALL
@BOTH
@given(
    seed=st.integers(0, 9),
    channels=st.integers(1, 2),
    classes=st.integers(1, 2),
    top=st.sampled_from([0.2, 1.0]),
    valid_only=st.booleans(),
)
@settings(max_examples=6)
def test_budget_range_and_padding_hold(
    kind: str, norm: Norm, seed: int, channels: int, classes: int, top: float, valid_only: bool
) -> None:
    network = ConvNet(channels, classes, seed=seed).eval()
    batch = slices_batch(network, channels=channels, classes=classes, seed=seed)
    epsilons = (0.0, 0.003, 0.1, 2.0)
    attack = KINDS[kind]("a", epsilons, norm=norm, high=top, valid_only=valid_only)
    clean = batch.image.clone()
    found = images_of(attack, batch)
    assert list(found) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert torch.equal(found[0, 0], clean)
    for (index, _), image in found.items():
        assert image.shape == clean.shape
        assert image.dtype == torch.float32
        assert (
            exact_lengths(image.double() - clean.double(), norm) <= epsilons[index] * 1.000001
        ).all()
        assert (image >= clean.clamp(max=0.0)).all()
        assert (image <= clean.clamp(min=top)).all()
        if valid_only:
            assert torch.equal(torch.where(batch.valid, clean, image), clean)
    assert torch.equal(batch.image, clean)
    changed = (found[2, 0] != clean).flatten(1).any(dim=1)
    assert changed.any()


@ALL
@BOTH
def test_padding_is_attacked_where_it_may_be(kind: str, norm: Norm) -> None:
    batch = slices_batch(ConvNet().eval())
    found = images_of(KINDS[kind]("a", (0.1,), norm=norm, valid_only=False), batch)[0, 0]
    assert (torch.where(batch.valid, batch.image, found) != batch.image).any()


@ALL
@BOTH
@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("epsilons", [(0.0,), (0.1,), (0.0, 0.1, 0.2), (0.05, 0.1)])
def test_passes_are_those_that_are_stated(
    kind: str, norm: Norm, restarts: int, epsilons: tuple[float, ...]
) -> None:
    more: dict[str, Any] = {"restarts": restarts} if kind in RESTARTED else {}
    if kind not in CLEAN_START:
        more["repeats"] = 2
    attack = KINDS[kind]("a", epsilons, norm=norm, **more)
    network = CallCounter(ConvNet().eval())
    batch = slices_batch(network)
    attack.degenerate(batch)
    images_of(attack, batch)
    assert Passes(network.forwards, network.backwards) == attack.passes
    assert network.sizes <= {8}


def test_the_numbers_of_passes() -> None:
    """By hand: n epsilons above 0, T steps, R restarts, P repeats."""
    common: dict[str, Any] = {"epsilons": (0.0, 0.1, 0.2)}
    assert Fgsm("a", **common).passes == (1, 1)
    assert IteratedFgsm("a", steps=10, **common).passes == (19, 19)
    assert MomentumFgsm("a", steps=10, **common).passes == (19, 19)
    assert Pgd("a", steps=10, **common).passes == (20, 20)
    assert Pgd("a", steps=10, restarts=3, repeats=2, **common).passes == (132, 120)
    assert SegPgd("a", steps=10, restarts=2, **common).passes == (44, 40)
    assert CosPgd("a", steps=10, **common).passes == (20, 20)
    assert Apgd("a", steps=10, **common).passes == (22, 20)
    assert Apgd("a", steps=10, restarts=3, **common).passes == (66, 60)
    assert NoiseControl("a", repeats=5, **common).passes == (0, 0)


@ALL
@BOTH
def test_a_slice_fares_the_same_in_any_batch(kind: str, norm: Norm) -> None:
    network = Quadratic(torch.full((1, 6, 6), 0.07))
    images = toy_images(1)
    attack = KINDS[kind]("a", (0.02, 0.1), norm=norm)
    whole = images_of(attack, toy_batch(network, images), seed=3)
    for row in range(3):
        alone = toy_batch(network, images[row : row + 1], first_slice=row)
        for key, image in images_of(attack, alone, seed=3).items():
            torch.testing.assert_close(image[0], whole[key][row], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [*RESTARTED, "noise"])
@BOTH
def test_chance_is_a_function_of_seed_name_slice_and_repeat(kind: str, norm: Norm) -> None:
    # Without a gradient the random start is all there is.
    network = Linear(torch.zeros(1, 6, 6))
    batch = toy_batch(network, toy_images(1)[:1].expand(3, -1, -1, -1))
    attack = KINDS[kind]("a", (0.02,), norm=norm, repeats=2)
    first = images_of(attack, batch, seed=1)
    again = images_of(attack, batch, seed=1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    others = [
        first[0, 1],
        images_of(attack, batch, seed=2)[0, 0],
        images_of(replace(attack, name="b"), batch, seed=1)[0, 0],
        first[0, 0].roll(1, dims=0),
    ]
    assert not any(torch.equal(first[0, 0][row], other[row]) for other in others for row in (0, 1))


@ALL
@BOTH
def test_slices_without_a_gradient_stay_finite_and_within_the_budget(kind: str, norm: Norm) -> None:
    batch = slices_batch(Thresholded(ConvNet()).eval())
    attack = KINDS[kind]("a", (0.05,), norm=norm)
    found = images_of(attack, batch)[0, 0]
    assert torch.isfinite(found).all()
    assert (exact_lengths(found - batch.image, norm) <= 0.05 * 1.00001).all()
    told = attack.degenerate(batch).tolist()
    assert told == [False] * 7 + [kind in CLEAN_START]
    if kind in CLEAN_START:
        assert torch.equal(found[7], batch.image[7])


def test_a_gradient_in_padding_alone_is_nothing_to_go_by() -> None:
    weight = torch.zeros(1, 6, 6)
    weight[..., 5] = 1
    valid = torch.ones(3, 1, 6, 6, dtype=torch.bool)
    valid[:2, ..., 5] = False
    batch = toy_batch(Linear(weight), toy_images(0), valid=valid)
    assert Fgsm("a", (0.1,)).degenerate(batch).tolist() == [True, True, False]
    assert not Fgsm("a", (0.1,), valid_only=False).degenerate(batch).any()


@ALL
@BOTH
def test_attacks_work_inside_inference_mode(kind: str, norm: Norm) -> None:
    attack = KINDS[kind]("a", (0.05,), norm=norm)
    network = ConvNet().eval()
    outside = images_of(attack, slices_batch(network))[0, 0]
    with torch.inference_mode():
        inside = images_of(attack, slices_batch(network))[0, 0]
    assert torch.equal(outside, inside)


def test_axis_unit_points_and_share() -> None:
    attack = Fgsm("a", (0, 0.01, 0.1), low=0.1, high=0.5)
    assert (attack.axis, attack.unit) == ("epsilon", "image intensity")
    assert attack.points == (0.0, 0.01, 0.1)
    assert attack.epsilon_share(0.1) == pytest.approx(0.25)


@ALL
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"epsilons": ()}, "epsilons"),
        ({"epsilons": (-0.1, 0.1)}, "0 or more"),
        ({"epsilons": (0.1, float("nan"))}, "epsilons"),
        ({"epsilons": (0.1, float("inf"))}, "epsilons"),
        ({"epsilons": (0.2, 0.1)}, "rising"),
        ({"epsilons": (0.1, 0.1)}, "rising"),
        ({"norm": "linff"}, "did you mean linf"),
        ({"low": 0.2}, "low below high"),
        ({"repeats": 0}, "repeats"),
        ({"name": "no slug"}, "name"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    kind: str, wrong: dict[str, Any], told: str
) -> None:
    given: dict[str, Any] = {"name": "a", "epsilons": (0.1,), **wrong}
    with pytest.raises(ValueError, match=told):
        KINDS[kind](given.pop("name"), given.pop("epsilons"), **given)


@pytest.mark.parametrize(
    ("attack", "wrong", "told"),
    [
        (Fgsm, {"repeats": 2}, "nothing in it is random"),
        (IteratedFgsm, {"steps": 0}, "steps is 0"),
        (IteratedFgsm, {"step_size": 0.0}, "step_size"),
        (MomentumFgsm, {"decay": -1.0}, "decay"),
        (Pgd, {"restarts": 0}, "restarts is 0"),
        (Pgd, {"steps": 0}, "steps is 0"),
        (Pgd, {"step_size": -0.1}, "step_size"),
        (SegPgd, {"objective": "soft_dice"}, "objective is soft_dice, expected one of bce"),
        (CosPgd, {"objective": "jss"}, "did you mean js"),
        (Apgd, {"steps": 0}, "steps is 0"),
        (Apgd, {"restarts": 0}, "restarts is 0"),
    ],
)
def test_settings_of_one_attack_are_refused(
    attack: type[EpsilonAttack], wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=f"attack a: .*{told}"):
        attack("a", (0.1,), **wrong)


def test_an_objective_that_nobody_knows_is_refused() -> None:
    batch = slices_batch(ConvNet().eval())
    with pytest.raises(ValueError, match="objective nothing: unknown"):
        images_of(Apgd("a", (0.1,), objective="nothing"), batch)


def test_an_objective_of_the_caller_s_is_followed() -> None:
    batch = replace(
        toy_batch(Linear(torch.ones(1, 6, 6)), toy_images(0)),
        objectives={"training_loss": lambda logits, target, valid: -logits.flatten(1).sum(dim=1)},
    )
    for kind in ("fgsm", "pgd", "apgd"):
        found = images_of(KINDS[kind]("a", (0.5,), objective="training_loss"), batch)[0, 0]
        assert not found.any()


@pytest.mark.parametrize("kind", [*CLASSES, "noise"])
def test_attacks_are_made_from_a_configuration(kind: str) -> None:
    attack = CLASSES.get(kind, NoiseControl)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Attack, "attack")
    init_args = {"name": "a", "epsilons": [0, 0.01], "norm": "l2", "high": 1.0}
    path = f"{attack.__module__}.{attack.__name__}"
    parsed = parser.parse_object({"attack": {"class_path": path, "init_args": init_args}})
    made = parser.instantiate_classes(parsed).attack
    assert made == attack("a", (0, 0.01), norm="l2", high=1.0)
