"""The engine: the plan, counts that depend on nothing but slices and seed, and what they cost."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from robustness.attack import Attack
from robustness.counter import Attacker
from robustness.counts import CLEAN_ROW, FIELDS, Row, counts_frame
from robustness.directed import Fgsm
from robustness.engine import evaluate, evaluate_many
from robustness.network_state import untouched
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.plan import make_plan
from tests.robustness.reference import Slice
from tests.robustness.toy import (
    CONF,
    CPU,
    CallCounter,
    ConvNet,
    Thresholded,
    as_batch,
    attack_specs,
    batches_of,
    build,
    class_names,
    count,
    count_table,
    few_attacks,
    few_repeats,
    make_slices,
    with_its_source,
)

RANDOM = [
    CountAttack("values", counts=(2, 6), repeats=3),
    LevelAttack("levels_control", levels=(0.0, 1.0), ranking="random", repeats=2),
]


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    pd.testing.assert_index_equal(one.columns, other.columns)
    return one.equals(other)


def test_a_plan_has_one_row_for_every_disturbance() -> None:
    plan = make_plan(RANDOM)
    assert plan.attacks == tuple(RANDOM)
    assert plan.rows[0] == CLEAN_ROW == Row("clean", "clean", 0, 0.0, 0)
    assert [
        (row.attack, row.axis, row.point_index, row.point, row.repeat) for row in plan.rows[1:]
    ] == [
        *(("values", "pixels", 0, 2.0, repeat) for repeat in range(3)),
        *(("values", "pixels", 1, 6.0, repeat) for repeat in range(3)),
        *(("levels_control", "level", 0, 0.0, repeat) for repeat in range(2)),
        *(("levels_control", "level", 1, 1.0, repeat) for repeat in range(2)),
    ]
    assert len(plan.rows) == 11
    assert plan.cost == (11 + 1, 1)


@pytest.mark.parametrize("name", ["clean", "values"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    attacks = [*RANDOM, LevelAttack(name, levels=(0.1,))]
    with pytest.raises(ValueError, match=f"attack {name}: the name is taken, expected a unique"):
        make_plan(attacks)


def test_without_attacks_the_clean_slices_are_counted() -> None:
    network, slices = ConvNet().eval(), make_slices(5)
    frame = count(network, slices, [])
    with torch.no_grad():
        predicted = network(as_batch(slices)["image"]).numpy() > 0
    truth = np.stack([one.mask for one in slices])
    assert frame["attack"].unique().tolist() == ["clean"]
    assert frame["tp"].sum() == (predicted & truth).sum()
    assert frame["fp"].sum() == (predicted & ~truth).sum()
    assert frame["fn"].sum() == (~predicted & truth).sum()
    assert frame["slices_all"].sum() == 5
    assert frame[["change_q20", "degenerate"]].to_numpy().sum() == 0


def test_the_same_seed_gives_the_same_counts_and_another_one_others() -> None:
    network, slices = ConvNet(2, 2).eval(), make_slices(6, channels=2, classes=2)
    first, again, other = (count(network, slices, few_attacks(), seed=seed) for seed in (3, 3, 4))
    assert _same(first, again)
    random = first["attack"].str.startswith("values")
    assert not _same(first[random], other[random])
    assert _same(first[~random], other[~random])


@pytest.mark.parametrize("loader", [1, 3, 5, 64])
def test_the_loaders_batches_do_not_matter(loader: int) -> None:
    network, slices = ConvNet(classes=2).eval(), make_slices(11, classes=2)
    assert _same(
        count(network, slices, few_attacks(), loader=loader),
        count(network, slices, few_attacks(), loader=8),
    )


def test_the_order_of_slices_and_their_split_over_processes_do_not_matter() -> None:
    network, slices = ConvNet(classes=2).eval(), make_slices(13, classes=2)
    expected = count(network, slices, few_attacks())
    shuffled = [slices[number] for number in np.random.default_rng(0).permutation(13)]
    assert _same(count(network, shuffled, few_attacks()), expected)
    halves = [shuffled[0::2], shuffled[1::2], []]
    parts = []
    for half in halves:
        table, plan = count_table(network, half, few_attacks())
        parts.append(table.partial())
    for order in (parts, parts[::-1]):
        assert _same(counts_frame(order, plan.rows, class_names(2)), expected)


def test_attacks_do_not_depend_on_each_other() -> None:
    network, slices = ConvNet().eval(), make_slices(6)
    together = count(network, slices, few_attacks())
    for attack in few_attacks():
        few = with_its_source(attack)
        alone = count(network, slices, few)
        names = ["clean", *(one.name for one in few)]
        expected = together[together["attack"].isin(names)]
        assert _same(alone, expected.reset_index(drop=True))


def test_the_layout_of_images_in_memory_does_not_matter() -> None:
    network, slices = ConvNet(classes=2).eval(), make_slices(8, classes=2)
    plan = make_plan(few_attacks())
    frames = []
    for layout in (torch.contiguous_format, torch.channels_last):
        batch = as_batch(slices)
        given = {**batch, "image": batch["image"].to(memory_format=layout)}
        table = evaluate(network, [given], plan, device=CPU, batch_size=8).counts
        frames.append(counts_frame([table.partial()], plan.rows, class_names(2)))
    assert _same(*frames)


def test_an_attack_that_changes_nothing_gives_the_clean_counts() -> None:
    slices = [replace(one, image=np.zeros_like(one.image)) for one in make_slices(5, classes=2)]
    frame = count(ConvNet(classes=2).eval(), slices, [LevelAttack("zero", levels=(0.0,))])
    numbers = [name for name in FIELDS if name != "degenerate"]
    clean = frame.loc[frame["attack"] == "clean", numbers].reset_index(drop=True)
    assert _same(frame.loc[frame["attack"] == "zero", numbers].reset_index(drop=True), clean)
    assert (frame["change_q20"] == 0).all()


def test_the_change_is_the_mean_over_all_pixels_of_the_slice() -> None:
    image = np.full((1, 16, 16), 0.25, dtype=np.float32)
    truth = np.ones((1, 16, 16), dtype=bool)
    slices = [Slice("case", 0, image, truth, truth[0])]
    frame = count(ConvNet().eval(), slices, [LevelAttack("five", levels=(0.0, 1.25), pixels=5)])
    assert frame["change_q20"].tolist() == [0, 5 * 2**18 // 256, 5 * 2**20 // 256]


def test_slices_without_a_gradient_are_counted_as_degenerate_by_gradient_attacks_alone() -> None:
    frame = count(Thresholded(ConvNet()).eval(), make_slices(6), few_attacks())
    by_attack = frame[frame["repeat"] == 0].groupby(["attack", "point_index"])["degenerate"].sum()
    controls = by_attack.loc[["clean", "values_control"]]
    assert controls.tolist() == [0] * len(controls)
    assert (by_attack.drop(["clean", "values_control"]) == 1).all()


@pytest.mark.parametrize("slices", [8, 11, 24])
def test_it_costs_one_pass_for_each_row_and_one_gradient_for_each_objective(slices: int) -> None:
    attacks = [build(few_repeats(spec, 5)) for spec in attack_specs(CONF / "default.yaml")]
    network = CallCounter(ConvNet().eval())
    _, plan = count_table(network, make_slices(slices, size=12), attacks, loader=3)
    batches = -(-slices // 8)
    assert network.backwards == network.under_gradient == 2 * batches
    assert (network.forwards, network.backwards) == tuple(n * batches for n in plan.cost)
    assert network.sizes == {8}


@pytest.mark.parametrize(
    ("attacks", "gradients"),
    [
        ([], 0),
        (RANDOM[1:], 0),
        ([LevelAttack("a", (0.1,)), LevelAttack("b", (0.1,), ranking="gradient_abs")], 1),
        ([LevelAttack("a", (0.1,), ranking="gradient_logit")], 1),
    ],
    ids=["none", "random", "one", "logit"],
)
def test_gradients_that_no_attack_uses_are_not_computed(
    attacks: Sequence[Attack], gradients: int
) -> None:
    network = CallCounter(ConvNet().eval())
    count(network, make_slices(4), attacks)
    assert network.backwards == network.under_gradient == gradients


@pytest.mark.parametrize("mode", [torch.no_grad(), torch.inference_mode()], ids=["no", "inference"])
@pytest.mark.parametrize("training", [True, False])
def test_counts_are_the_same_wherever_gradients_are_off(
    mode: AbstractContextManager[None], training: bool
) -> None:
    network, slices = ConvNet(norm=True, dropout=0.5).train(training), make_slices(6)
    with untouched(network):
        expected = count(network, slices, few_attacks())
    with mode, untouched(network):
        assert _same(count(network, slices, few_attacks()), expected)


def test_progress_is_told_the_slices_and_not_what_fills_up() -> None:
    told: list[int] = []
    batches = batches_of(make_slices(11), 4)
    plan = make_plan([])
    evaluate(ConvNet().eval(), batches, plan, device=CPU, batch_size=8, on_slices=told.append)
    assert told == [8, 3]


def test_logits_of_another_shape_than_the_masks_are_refused() -> None:
    message = (
        r"the network gives logits of shape \(8, 3, 24, 24\), "
        r"expected that of the masks: \(8, 2, 24, 24\)"
    )
    with pytest.raises(ValueError, match=message):
        count(ConvNet(classes=3).eval(), make_slices(2, classes=2), few_attacks())


def test_a_network_that_gives_no_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        count(lambda image: image * float("nan"), make_slices(2), few_attacks())


def test_half_precision_logits_are_counted() -> None:
    network, slices = ConvNet().eval(), make_slices(6)
    exact = count(network, slices, [])
    rounded = count(lambda image: network(image).bfloat16(), slices, [])
    assert exact[["tp", "fp", "fn"]].equals(rounded[["tp", "fp", "fn"]])


def test_a_network_that_diverged_does_not_pass_for_one_that_finds_nothing() -> None:
    def diverged(image: Tensor) -> Tensor:
        return torch.full_like(image, float("nan"))

    batches = batches_of(make_slices(3), 8)
    with pytest.raises(ValueError, match="NaN or infinite logits on clean slices"):
        evaluate(diverged, batches, make_plan(RANDOM), device=CPU, batch_size=16)


def test_a_plan_refuses_a_name_that_is_no_slug() -> None:
    class Unchecked(CountAttack):
        def __post_init__(self) -> None:
            """Nothing is looked at, as in an attack of somebody's own."""

    with pytest.raises(ValueError, match=r"up/down.*letters a-z"):
        make_plan([Unchecked("up/down", counts=(1,))])


def test_nothing_is_counted_in_pixels_that_are_ignored() -> None:
    network, slices = ConvNet().eval(), make_slices(6)
    ignored = torch.zeros(6, 1, 24, 24, dtype=torch.bool)
    ignored[:, :, 4:15, 3:11] = True
    plan = make_plan(RANDOM)

    def frame(mask: torch.Tensor, *, size: int) -> pd.DataFrame:
        whole = {**as_batch(slices), "mask": mask, "ignored": ignored}
        parts = [
            {key: value[start : start + size] for key, value in whole.items()}
            for start in range(0, 6, size)
        ]
        table = evaluate(network, parts, plan, device=CPU, batch_size=16).counts
        return counts_frame([table.partial()], plan.rows, class_names(1))

    mask = as_batch(slices)["mask"]
    found = frame(mask, size=6)
    assert _same(found, frame(torch.where(ignored, 1 - mask, mask), size=4))
    clean = found[found["attack"] == "clean"]
    with torch.no_grad():
        predicted = (network(as_batch(slices)["image"]) > 0) & ~ignored
    truth = (mask > 0) & ~ignored
    assert clean["tp"].sum() == (predicted & truth).sum()
    assert clean["fp"].sum() == (predicted & ~truth).sum()
    assert clean["fn"].sum() == (~predicted & truth).sum()


def test_attacks_are_made_once_and_counted_on_every_network() -> None:
    """On the network they are made on they count as ever; on another one as its own would."""
    slices, attacks = make_slices(11), few_attacks()
    source, victim = CallCounter(ConvNet(seed=1).eval()), CallCounter(ConvNet(seed=2).eval())
    plan = make_plan(attacks)
    found = evaluate_many(
        [source, victim], batches_of(slices, 4), plan, Attacker(source), device=CPU, batch_size=8
    )
    white, transferred = (
        counts_frame([one.counts.partial()], plan.rows, class_names(1)) for one in found
    )
    pd.testing.assert_frame_equal(white, count(source.network, slices, attacks))
    own = count(victim.network, slices, attacks)
    blind = ["clean", "values_control"]
    at = transferred["attack"].isin(blind)
    pd.testing.assert_frame_equal(transferred[at], own[at])
    changed = ["change_q20", "slices", "degenerate"]
    pd.testing.assert_frame_equal(transferred[changed], white[changed])
    assert not transferred[~at].equals(own[~at])
    assert victim.backwards == 0
    assert victim.forwards == len(plan.rows) * 2


def test_an_objective_of_the_caller_is_found_by_its_name() -> None:
    def darkness(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return -logits.flatten(1).sum(dim=1)

    network = ConvNet().eval()
    attack = Fgsm("fgsm", (0.1,), objective="darkness", high=1.0)
    plan = make_plan([attack])
    batches = list(batches_of(make_slices(8), 8))
    with pytest.raises(ValueError, match="attack fgsm: objective darkness: unknown"):
        evaluate(network, batches, plan, device=CPU)
    attacker = Attacker(network, {"darkness": darkness})
    frame = counts_frame(
        [evaluate(network, batches, plan, device=CPU, attacker=attacker).counts.partial()],
        plan.rows,
        class_names(1),
    )
    positive = (frame["tp"] + frame["fp"]).groupby(frame["attack"]).sum()
    assert positive["fgsm"] < positive["clean"]


def test_a_network_that_diverges_under_attack_is_refused() -> None:
    """Its masks would be empty, and its Dice that of a network that was fooled."""
    inner = ConvNet().eval()

    def fragile(image: Tensor) -> Tensor:
        logits: Tensor = inner(image)
        return torch.where(image.amax((1, 2, 3), keepdim=True) > 1.5, torch.nan, logits)

    attacks = [
        LevelAttack("mild", levels=(0.5,), ranking="random"),
        LevelAttack("strong", levels=(0.5, 2.0), ranking="random"),
    ]
    with pytest.raises(ValueError, match="attack strong: the network gives NaN or infinite"):
        count(fragile, make_slices(9), attacks)


def test_every_attack_works_on_tensors_of_inference_mode() -> None:
    """A test outside of fit hands over batches that no gradient can go through."""
    attacks: list[Attack] = []
    for name in ("lab", "add/minimum_norm", "add/directed", "sparse"):
        specs = attack_specs(CONF / "robustness" / f"{name}.yaml")
        attacks += [
            _shorter(build((kind, {**settings, "name": f"{name[-3:]}_{settings['name']}"})))
            for kind, settings in specs
        ]
    network, slices = ConvNet().eval(), make_slices(6, size=16)
    outside = count(network, slices, attacks)
    with torch.inference_mode():
        inside = count(network, slices, attacks)
    pd.testing.assert_frame_equal(inside, outside)


def _shorter(attack: Attack) -> Attack:
    """The same attack with few steps and small numbers of pixels."""
    few = {"steps": 3, "queries": 4, "generations": 1, "population": 5, "restarts": 1, "tighten": 1}
    known = {one.name for one in fields(attack)}
    changes: dict[str, object] = {name: value for name, value in few.items() if name in known}
    if "counts" in known:
        changes["counts"] = (2, 5)
    if "values_like" in known:
        changes["values_like"] = ""
    changed: Attack = replace(attack, **changes)  # type: ignore[arg-type]
    return changed
