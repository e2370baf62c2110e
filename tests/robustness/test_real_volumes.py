"""A briefly trained network on real slices: the engine against the reference, pixel by pixel."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_module.unet import UNet
from robustness.attack import AttackBatch
from robustness.attribution import explain
from robustness.attribution_backprop import DeepLift
from robustness.attribution_gradients import IntegratedGradients, SmoothGrad
from robustness.attribution_method import Attribution, baseline_image
from robustness.batches import attack_batch, fixed_size
from robustness.directed import Fgsm, NoiseControl
from robustness.explained import explained
from robustness.greedy import GreedyCountAttack
from robustness.network_state import untouched
from robustness.objectives import OBJECTIVES, Objective
from robustness.pgd import Pgd
from robustness.pixel_attacks import CountAttack
from robustness.ranking import edge_strength
from robustness.sparse_search import SparseRandomSearch
from robustness.spread import spread, truth_regions
from robustness.trust import check_trust
from tests.robustness.agreement import Agreement, compare
from tests.robustness.reference import (
    LOGIT_ROUNDING,
    SCORE_ROUNDING,
    Key,
    Slice,
    Tally,
    gradient_of,
    logits_of,
    recipe,
    reference_counts,
)
from tests.robustness.toy import (
    CONF,
    as_batch,
    attack_specs,
    build,
    count,
    counts_by_key,
    few_repeats,
)

pytestmark = pytest.mark.real

SIZE = 64
SPECS = [few_repeats(spec, repeats=5) for spec in attack_specs(CONF / "default.yaml")]


def _read(task: Path, case: str) -> list[Slice]:
    """All slices of a volume along depth, scaled to 0.2, with zeros on the right and below."""
    volume, label = (
        np.asarray(nib.load(task / folder / f"{case}.nii.gz").dataobj, dtype=np.float64)  # type: ignore[attr-defined]
        for folder in ("imagesTr", "labelsTr")
    )
    scaled = 0.2 * (volume - volume.min()) / (volume.max() - volume.min())
    height, width, depth = volume.shape
    slices = []
    for index in range(depth):
        image = np.zeros((1, SIZE, SIZE), dtype=np.float32)
        mask, valid = np.zeros((1, SIZE, SIZE), dtype=bool), np.zeros((SIZE, SIZE), dtype=bool)
        image[0, :height, :width] = scaled[:, :, index]
        mask[0, :height, :width] = label[:, :, index] > 0
        valid[:height, :width] = True
        slices.append(Slice(case, index, image, mask, valid))
    return slices


@pytest.fixture(scope="module")
def cases(real_data: Path) -> list[list[Slice]]:
    """Six volumes: three to train on, three to attack."""
    task = real_data / "Task04_Hippocampus"
    names = sorted(path.name.removesuffix(".nii.gz") for path in (task / "labelsTr").glob("h*.gz"))
    return [_read(task, name) for name in names[:6]]


@pytest.fixture(scope="module")
def attacked(cases: list[list[Slice]]) -> list[Slice]:
    """Every ninth slice of three volumes, empty ones included."""
    return [one for case in cases[3:] for one in case[::9]]


@pytest.fixture(scope="module")
def network(cases: list[list[Slice]]) -> nn.Module:
    """A small U-Net after a few steps: far from random weights, and not sure of everything."""
    slices = [one for case in cases[:3] for one in case]
    draw = np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet(1, 1, channels=(8, 16, 32))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    # Falling to nothing, so that the last few steps do not decide how good the network is.
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=180)
    for _ in range(180):
        batch = as_batch([slices[number] for number in draw.choice(len(slices), 16)])
        logits = network(batch["image"])
        probs = logits.sigmoid()
        overlap = 2 * (probs * batch["mask"]).sum() / (probs.square() + batch["mask"]).sum()
        bce = nn.functional.binary_cross_entropy_with_logits(logits, batch["mask"])
        optimizer.zero_grad()
        (bce + 1 - overlap).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


@pytest.fixture(scope="module")
def found(network: nn.Module, attacked: list[Slice]) -> dict[int, dict[Key, tuple[int, ...]]]:
    attacks = [build(spec) for spec in SPECS]
    return {
        size: counts_by_key(count(network, attacked, attacks, batch_size=size)) for size in (8, 32)
    }


@pytest.fixture(scope="module")
def expected(network: nn.Module, attacked: list[Slice]) -> dict[int, dict[Key, Tally]]:
    recipes = [recipe(*spec) for spec in SPECS]
    return {fill: reference_counts(network, attacked, recipes, fill=fill) for fill in (8, 1)}


def _dice(rows: Sequence[tuple[int, ...]]) -> float:
    return float(np.mean([2 * tp / (2 * tp + fp + fn) for tp, fp, fn in rows]))


def test_the_network_has_learned_and_the_attacks_hurt(
    found: dict[int, dict[Key, tuple[int, ...]]],
) -> None:
    clean = [numbers[:3] for key, numbers in found[8].items() if key[0] == "clean"]
    hurt = [numbers[:3] for key, numbers in found[8].items() if key[:2] == ("topn_random", 7)]
    assert _dice(clean) > 0.5
    assert _dice(hurt) < _dice(clean) - 0.02


def test_attacks_that_see_more_do_more(network: nn.Module, attacked: list[Slice]) -> None:
    """At equal budgets: PGD beats one step beats noise; renewed and searched pixels beat ranked."""
    attacks = [
        NoiseControl("noise", epsilons=(0.004,)),
        Fgsm("fgsm", objective="balanced_bce", epsilons=(0.004,)),
        Pgd("pgd", objective="balanced_bce", steps=10, epsilons=(0.004,)),
        CountAttack("ranked", counts=(5,), value="directed", high=0.2, valid_only=True),
        GreedyCountAttack("renewed", counts=(5,), valid_only=True),
        SparseRandomSearch("searched", counts=(5,), queries=150),
    ]
    frame = count(network, attacked, attacks, batch_size=16)
    sums = frame.groupby("attack")[["tp", "fp", "fn"]].sum()
    dice = (2 * sums["tp"] / (2 * sums["tp"] + sums["fp"] + sums["fn"])).to_dict()
    assert dice["pgd"] < dice["fgsm"] < dice["noise"], dice
    assert dice["renewed"] < dice["ranked"] < dice["clean"], dice
    assert dice["searched"] < dice["ranked"], dice


def test_rounding_is_smaller_than_what_the_bound_allows(
    network: nn.Module, attacked: list[Slice]
) -> None:
    for one in attacked[::3]:
        logits = [logits_of(network, one.image, size) for size in (1, 8, 32)]
        assert max(np.abs(logits[0] - other).max() for other in logits[1:]) < LOGIT_ROUNDING
        for of_logits in (False, True):
            gradients = [
                gradient_of(network, one.image, size, of_logits=of_logits) for size in (1, 8, 32)
            ]
            scale = np.abs(gradients[0]).max()
            moved = max(np.abs(gradients[0] - other).max() for other in gradients[1:])
            assert moved <= SCORE_ROUNDING / 2 * scale


def test_every_number_is_the_references(
    found: dict[int, dict[Key, tuple[int, ...]]], expected: dict[int, dict[Key, Tally]]
) -> None:
    assert found[8].keys() == expected[8].keys()
    different = [key for key, tally in expected[8].items() if found[8][key] != tally.numbers()]
    assert not different


@pytest.mark.parametrize("fill", [1, 8])
@pytest.mark.parametrize("batch_size", [8, 32])
def test_differences_stay_within_rounding(
    found: dict[int, dict[Key, tuple[int, ...]]],
    expected: dict[int, dict[Key, Tally]],
    batch_size: int,
    fill: int,
) -> None:
    agreement: Agreement = compare(found[batch_size], expected[fill], SIZE**2)
    print(f"batches of {batch_size} against {fill}: {agreement}")
    assert not agreement.unexplained
    assert agreement.borderline <= 1e-5 * agreement.slices * SIZE**2
    assert agreement.tied <= 0.02 * agreement.slices
    assert agreement.flipped <= agreement.borderline + agreement.tied * SIZE


@pytest.fixture(scope="module")
def largest(network: nn.Module, cases: list[list[Slice]]) -> AttackBatch:
    """The slices with the largest foreground of three volumes that were not trained on."""
    slices = [max(case, key=lambda one: int(one.mask.sum())) for case in cases[3:]]
    (piece,) = fixed_size([as_batch(slices)], len(slices))
    return attack_batch(network, piece, torch.device("cpu"))


@pytest.mark.parametrize("method", [IntegratedGradients(), DeepLift()], ids=lambda one: one.name)
@pytest.mark.parametrize("what", ["all", "frozen"])
def test_contributions_add_up_to_one_percent(
    method: Attribution, what: str, network: nn.Module, largest: AttackBatch
) -> None:
    with untouched(network):
        objective = explained(what, largest)
        found = explain(method, network, largest, objective).flatten(1).sum(dim=1)
        blank = baseline_image(largest, 0.0, valid_only=True)
        expected = largest.value(objective, largest.image) - largest.value(objective, blank)
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0)


def test_sound_methods_forget_with_the_network_and_edges_do_not(
    network: nn.Module, largest: AttackBatch
) -> None:
    def gradient(batch: AttackBatch, objective: Objective) -> Tensor:
        return batch.ascent(objective, batch.image).gradient

    def edges(batch: AttackBatch, objective: Objective) -> Tensor:
        return edge_strength(batch.image, batch.valid)

    methods = {"gradient": gradient, "edges": edges}
    checked = check_trust(
        network, largest, methods, OBJECTIVES["probability_sum"], by_magnitude=list(methods)
    )
    verdicts = {name: one.verdict for name, one in checked.items()}
    assert "randomised" not in verdicts["gradient"].failed
    assert verdicts["gradient"].randomised < 0.5 < verdicts["edges"].randomised
    assert "randomised" in verdicts["edges"].failed


def test_what_the_network_looks_at_lies_about_the_truth(
    network: nn.Module, largest: AttackBatch
) -> None:
    """Nearer to its border than chance, and over fewer pixels."""
    with untouched(network):
        maps = explain(SmoothGrad(), network, largest, explained("frozen", largest))
    regions = truth_regions(largest.mask)
    found = spread(maps, regions, counted=largest.valid)
    flat = spread(torch.ones_like(maps), regions, counted=largest.valid)
    assert bool((found["radius"] < 0.7 * flat["radius"]).all())
    assert bool((found["effective_pixels"] < flat["effective_pixels"]).all())
