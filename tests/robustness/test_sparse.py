"""What holds for every attack on a fixed number of pixels, and projected gradient ascent."""

import inspect
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustness.attack import Attack, AttackBatch
from robustness.batches import attack_batch, fixed_size
from robustness.evolution import OnePixelEvolution
from robustness.greedy import GreedyCountAttack, JsmaAttack
from robustness.sparse import PgdL0, SparseAttack
from robustness.sparse_search import SparseRandomSearch
from tests.robustness.toy import CPU, CallCounter, ConvNet, as_batch, check_refused, make_slices
from tests.robustness.toy_optima import Linear, sparse_linear_optimum, toy_batch

COUNTS = (1, 3, 8)
ATTACKS: list[SparseAttack] = [
    PgdL0("pgd", COUNTS, steps=4, restarts=3),
    PgdL0("pgd_once", COUNTS, steps=1, restarts=1, objective="bce"),
    SparseRandomSearch("search", COUNTS, queries=9, repeats=2),
    OnePixelEvolution("evolution", COUNTS, population=4, generations=2, repeats=2),
    JsmaAttack("jsma", COUNTS, rerank_every=2),
    JsmaAttack("jsma_objective", COUNTS, objective="soft_dice"),
    GreedyCountAttack("greedy", COUNTS, valid_only=True, rerank_every=3),
    GreedyCountAttack("greedy_level", COUNTS, valid_only=True, value=0.13, score="gain"),
]
EACH = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


def _batch(network: Callable[[Tensor], Tensor] | None = None, seed: int = 0) -> AttackBatch:
    slices = make_slices(6, channels=2, classes=2, size=12, seed=seed)
    (piece,) = fixed_size([as_batch(slices)], 6)
    batch = attack_batch(network or ConvNet(2, 2).eval(), piece, CPU)
    return replace(batch, image=batch.image * 0.2)


def _disturbed(attack: Attack, batch: AttackBatch, seed: int = 0) -> dict[tuple[int, int], Tensor]:
    return {(point, repeat): image for point, repeat, image in attack.disturb(batch, seed)}


@EACH
@settings(max_examples=6)
@given(
    seed=st.integers(0, 100),
    ends=st.sampled_from([(0.0, 0.2), (0.05, 0.1), (-1.0, 3.0)]),
    valid_only=st.booleans(),
)
def test_at_most_so_many_pixels_change_and_stay_in_the_range(
    attack: SparseAttack, seed: int, ends: tuple[float, float], valid_only: bool
) -> None:
    batch = _batch(seed=seed)
    # A level has no ends.
    if not isinstance(getattr(attack, "value", ""), float):
        attack = replace(attack, low=ends[0], high=ends[1])
    attack = replace(attack, valid_only=valid_only)
    before = batch.image.clone()
    found = _disturbed(attack, batch, seed)
    assert set(found) == {(point, r) for point in range(3) for r in range(attack.repeats)}
    for (point, _), image in found.items():
        changed = image != batch.image
        assert torch.isfinite(image).all()
        assert changed.any(dim=1).flatten(1).sum(dim=1).max() <= COUNTS[point]
        if getattr(attack, "value", "directed") == "directed":
            assert ((image >= ends[0]) & (image <= np.float32(ends[1])))[changed].all()
        assert not valid_only or not (changed & ~batch.valid).any()
    assert torch.equal(batch.image, before)


@EACH
def test_every_pass_is_stated(attack: SparseAttack) -> None:
    network = CallCounter(ConvNet(2, 2).eval())
    batch = _batch(network)
    attack.degenerate(batch)
    for _ in attack.disturb(batch, 0):
        pass
    assert attack.passes == (network.forwards, network.backwards)
    twice = isinstance(attack, JsmaAttack) and attack.objective == "regions"
    assert (2 if twice else 1) * network.under_gradient == network.backwards
    assert network.sizes == {6}


@EACH
def test_a_slice_does_not_depend_on_its_neighbours_nor_on_other_points(
    attack: SparseAttack,
) -> None:
    batch = _batch()
    order = torch.tensor([4, 2, 2, 1, 5, 3])
    other = replace(
        batch,
        image=batch.image[order],
        mask=batch.mask[order],
        valid=batch.valid[order],
        case_keys=batch.case_keys[order],
        slice_index=batch.slice_index[order],
        counted=batch.counted[order],
    )
    found, again = _disturbed(attack, batch), _disturbed(attack, other)
    assert all(torch.equal(image[order], again[place]) for place, image in found.items())
    # One point alone gives the same, but for greedy ones, whose last round ends with it.
    if not isinstance(attack, GreedyCountAttack | JsmaAttack):
        alone = _disturbed(replace(attack, counts=(3,)), batch)
        assert torch.equal(alone[0, attack.repeats - 1], found[1, attack.repeats - 1])


@EACH
def test_the_seed_decides_and_nothing_else_does(attack: SparseAttack) -> None:
    first, again, other = (_disturbed(attack, _batch(), seed) for seed in (0, 0, 1))
    assert all(torch.equal(image, again[place]) for place, image in first.items())
    random = isinstance(attack, SparseRandomSearch | OnePixelEvolution)
    same = all(torch.equal(image, other[place]) for place, image in first.items())
    assert same != (random or getattr(attack, "restarts", 1) > 1)
    if random:
        assert not torch.equal(first[2, 0], first[2, 1])


@EACH
def test_without_any_gradient_images_stay_within_the_budget(attack: SparseAttack) -> None:
    batch = _batch(lambda image: (image * 0).sum(dim=1, keepdim=True).expand(-1, 2, -1, -1) - 1)
    for (point, _), image in _disturbed(attack, batch).items():
        assert torch.isfinite(image).all()
        changed = (image != batch.image).any(dim=1).flatten(1).sum(dim=1)
        assert changed.max() <= COUNTS[point]
    blind = isinstance(attack, SparseRandomSearch | OnePixelEvolution)
    none = blind or attack.objective == "regions"
    assert attack.degenerate(batch).tolist() == [not none] * 6


@EACH
def test_more_pixels_than_there_are_are_refused(attack: SparseAttack) -> None:
    batch = _batch()
    fewest = int(batch.valid.flatten(1).sum(dim=1).min())
    attack = replace(attack, valid_only=True)
    list(replace(attack, counts=(fewest,)).disturb(batch, 0))
    with pytest.raises(ValueError, match=rf"attack {attack.name}: .* is {fewest + 1}, expected at"):
        list(replace(attack, counts=(1, fewest + 1)).disturb(batch, 0))
    with pytest.raises(ValueError, match=r"is 145, expected at most 144, all pixels of a slice"):
        list(replace(attack, counts=(145,), valid_only=False).disturb(batch, 0))


@EACH
def test_an_unknown_objective_is_named_with_the_nearest(attack: SparseAttack) -> None:
    wrong = replace(attack, objective="soft_dise")
    with pytest.raises(ValueError, match=r"objective soft_dise: unknown; did you mean soft_dice\?"):
        list(wrong.disturb(_batch(), 0))


def test_every_option_is_described() -> None:
    for kind in {type(attack) for attack in ATTACKS}:
        described = inspect.getdoc(kind) or ""
        assert all(f"{option}: " in described for option in inspect.signature(kind).parameters)


@EACH
def test_axes_units_and_points(attack: SparseAttack) -> None:
    assert (attack.axis, attack.unit) == ("pixels", "pixels per slice")
    assert attack.points == (1.0, 3.0, 8.0)


NAN = float("nan")
WRONG: dict[str, tuple[Callable[[], Attack], str]] = {
    "name": (lambda: PgdL0("Pgd", (1,)), "expected letters"),
    "none": (lambda: PgdL0("a", ()), r"counts is \(\), expected one or more finite"),
    "falling": (lambda: JsmaAttack("a", (2, 1)), "expected rising numbers, each once"),
    "zero": (lambda: SparseRandomSearch("a", (0, 1)), "expected 1 or more pixels"),
    "range": (lambda: OnePixelEvolution("a", (1,), low=0.2), "low below high"),
    "nan": (lambda: PgdL0("a", (1,), high=NAN), "low below high"),
    "steps": (lambda: PgdL0("a", (1,), steps=0), "steps is 0, expected 1 or more"),
    "restarts": (lambda: PgdL0("a", (1,), restarts=0), "restarts is 0, expected 1 or more"),
    "step": (lambda: PgdL0("a", (1,), step_size=0.0), "step_size is 0.0, expected a finite"),
    "queries": (lambda: SparseRandomSearch("a", (1,), queries=0), "queries is 0"),
    "alpha": (lambda: SparseRandomSearch("a", (1,), alpha=1.5), "alpha is 1.5, expected a share"),
    "repeats": (lambda: SparseRandomSearch("a", (1,), repeats=0), "repeats is 0"),
    "population": (lambda: OnePixelEvolution("a", (1,), population=2), "expected 3 or more"),
    "generations": (lambda: OnePixelEvolution("a", (1,), generations=-1), "expected 0 or more"),
    "mutation": (lambda: OnePixelEvolution("a", (1,), mutation=NAN), "mutation is nan"),
    "rerank": (lambda: JsmaAttack("a", (1,), rerank_every=0), "rerank_every is 0"),
    "value": (lambda: GreedyCountAttack("a", (1,), value="uniform"), "value is uniform, expected"),
    "nan value": (lambda: GreedyCountAttack("a", (1,), value=NAN), "value is nan, expected"),
    "idle range": (
        lambda: GreedyCountAttack("a", (1,), value=0.2, high=1.0),
        "high is 1.0, expected 0.2: no effect where value is 0.2",
    ),
    "score": (
        lambda: GreedyCountAttack("a", (1,), score="gian"),  # type: ignore[arg-type]
        r"score is gian, expected one of gradient, gradient_abs, gain \(did you mean gain\?\)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_settings_that_make_no_sense_are_refused(wrong: str) -> None:
    check_refused(*WRONG[wrong])


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 20))
def test_on_a_linear_network_the_ascent_is_optimal(seed: int, count: int) -> None:
    """The best pixels are those with the largest weight times room."""
    draw = np.random.default_rng(seed)
    weight = draw.normal(size=(2, 6, 7)).astype(np.float32)
    clean = (draw.random((2, 6, 7)) * 0.2).astype(np.float32)
    valid = draw.random((6, 7)) < 0.7
    batch = toy_batch(
        Linear(torch.from_numpy(weight)),
        torch.from_numpy(clean)[None],
        valid=torch.from_numpy(valid)[None, None],
    )
    count = min(count, int(valid.sum()))
    # A step that is long against the range makes the projection compare weight times room.
    attack = PgdL0("a", (count,), objective="logit_sum", steps=2, step_size=50.0, restarts=1)
    found = _disturbed(attack, batch)[0, 0][0].numpy()
    optimum = sparse_linear_optimum(weight, clean, count, low=0.0, high=0.2, allowed=valid)
    gain = (weight * (found - clean)).sum(dtype=np.float64)
    assert gain >= 0.995 * (weight * (optimum - clean)).sum(dtype=np.float64)


def test_more_steps_and_more_restarts_do_not_weaken_the_ascent() -> None:
    batch = _batch()
    values = [
        batch.value("bce", _disturbed(attack, batch)[0, 0])
        for attack in (
            PgdL0("a", (8,), "bce", steps=1, restarts=1),
            PgdL0("a", (8,), "bce", steps=30, restarts=1),
            PgdL0("a", (8,), "bce", steps=30, restarts=3),
        )
    ]
    assert values[1].mean() > values[0].mean()
    assert (values[2] >= values[1] * (1 - 1e-6)).all()


def test_the_ascent_beats_one_shot_ranking() -> None:
    batch = _batch()
    one_shot = GreedyCountAttack("a", (8,), objective="bce", valid_only=True, rerank_every=8)
    attacks = (one_shot, PgdL0("b", (8,), "bce", restarts=1))
    ranked, ascended = (batch.value("bce", _disturbed(one, batch)[0, 0]) for one in attacks)
    assert ascended.sum() > ranked.sum()
