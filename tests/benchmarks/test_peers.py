"""Peers do what they are compared for: the same counts, images and maps as the tool's own."""

import math
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from monai.visualize.gradient_based import VanillaGrad
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset

from benchmarks.engine import paper_attacks
from benchmarks.peers import captum, foolbox, monai
from benchmarks.peers.compare import EPSILON, HIGH, LOW, STEP_SIZE, Given, Summed, against
from benchmarks.peers.loop import attack_slices
from benchmarks.peers.turns import InTurn
from datamodules.batch import Batch
from robustness.attack import Attack
from robustness.attribution_gradients import Gradient, IntegratedGradients
from robustness.counts import FIELDS
from robustness.directed import Fgsm, IteratedFgsm
from robustness.engine import evaluate
from robustness.pgd import Pgd
from robustness.plan import make_plan
from tests.robustness.toy import CPU, ConvNet

ROOT = Path(__file__).resolve().parents[2]
SLICES, SIZE, STEPS = 6, 3, 4


class Counting(nn.Module):
    """Counts the passes through a network, in slices."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forwards = 0
        self.backwards = 0

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image)
        self.forwards += len(image)
        if logits.requires_grad:
            logits.register_hook(self._backward)  # type: ignore[no-untyped-call]
        return logits

    def _backward(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@pytest.fixture
def on() -> Given:
    generator = torch.Generator().manual_seed(0)
    shape = (SLICES, 1, 16, 16)
    batch = Batch(
        image=HIGH * torch.rand(shape, generator=generator),
        mask=(torch.rand(shape, generator=generator) > 0.7).float(),
        valid=torch.ones(shape, dtype=torch.bool),
        case=["a", "b"] * (SLICES // 2),
        slice_index=torch.arange(SLICES),
    )
    network = ConvNet().eval().requires_grad_(requires_grad=False)
    return Given(Counting(network), batch, SIZE)


def _passes(on: Given) -> tuple[int, int]:
    """Those since the last call, for each slice."""
    network = on.network
    assert isinstance(network, Counting)
    found = network.forwards, network.backwards
    network.forwards = network.backwards = 0
    return found[0] // SLICES, found[1] // SLICES


def _counts(on: Given, attacks: Sequence[Attack]) -> dict[tuple[str, int, int, str], int]:
    """What the engine counts, one slice at a time as the loop does."""
    plan = make_plan(attacks)
    found = evaluate(on.network, [on.batch], plan, device=CPU, batch_size=1)
    sums = found.counts.partial().sums.sum(axis=(1, 2))
    return {
        (row.attack, row.point_index, row.repeat, name): int(of_row[FIELDS.index(name)])
        for row, of_row in zip(plan.rows, sums, strict=True)
        for name in ("tp", "fp", "fn")
    }


def test_the_loop_counts_what_the_engine_counts(on: Given) -> None:
    attacks = [one for one in paper_attacks(1) if one.name != "topn_random"]
    found = attack_slices(on.network, on.batch, attacks)
    assert found == _counts(on, attacks)
    clean = found["clean", 0, 0, "fp"]
    assert sum(found[key] != clean for key in found if key[3] == "fp") > len(attacks)


def test_its_random_values_do_on_average_what_those_of_the_engine_do(on: Given) -> None:
    attacks = [one for one in paper_attacks(30) if one.name == "topn_random"]
    found, expected = attack_slices(on.network, on.batch, attacks), _counts(on, attacks)
    for point in range(len(attacks[0].points)):
        means = [
            sum(counts["topn_random", point, repeat, "fp"] for repeat in range(30)) / 30
            for counts in (found, expected)
        ]
        assert means[0] == pytest.approx(means[1], rel=0.05)


def test_the_loop_takes_as_many_passes_as_the_engine_is_measured_against(on: Given) -> None:
    attacks = paper_attacks(2)
    attack_slices(on.network, on.batch, attacks)
    assert _passes(on) == (len(make_plan(attacks).rows) + 1, 1)


def test_the_loop_refuses_other_attacks(on: Given) -> None:
    with pytest.raises(ValueError, match="fgsm: Fgsm is none of the paper's"):
        attack_slices(on.network, on.batch, [Fgsm("fgsm", (EPSILON,))])


def test_captum_s_pgd_takes_the_same_passes_and_stays_in_the_same_ball(on: Given) -> None:
    own = Pgd("pgd", (EPSILON,), low=LOW, high=HIGH, steps=STEPS, step_size=STEP_SIZE)
    ours = torch.cat(on.disturbed(own))
    assert _passes(on) == own.passes == (STEPS, STEPS)
    theirs = torch.cat(captum.attacked(on.network, on.parts(), STEPS))
    assert _passes(on) == (STEPS, STEPS)
    for image in (ours, theirs):
        assert (image - on.batch["image"]).abs().max().item() == pytest.approx(EPSILON, rel=1e-5)
        assert image.min() >= LOW
        assert image.max() <= torch.tensor(HIGH)


def test_foolbox_s_pgd_makes_the_same_images_in_one_forward_pass_more(on: Given) -> None:
    own = IteratedFgsm(
        "ifgsm",
        (EPSILON,),
        low=LOW,
        high=HIGH,
        objective="logit_sum",
        steps=STEPS,
        step_size=STEP_SIZE,
    )
    ours = torch.cat(on.disturbed(own))
    assert _passes(on) == (STEPS, STEPS)
    images = [image for image, _ in on.parts()]
    theirs = torch.cat(foolbox.attacked(on.network, images, STEPS, random_start=False))
    assert _passes(on) == (STEPS + 1, STEPS)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)


def test_gradients_of_captum_and_monai_are_ours(on: Given) -> None:
    ours = torch.cat(on.maps(Gradient()))
    assert _passes(on) == (1, 1)
    images = [image for image, _ in on.parts()]
    by_captum = torch.cat(captum.gradients(on.network, images))
    assert _passes(on) == (1, 1)
    vanilla = VanillaGrad(Summed(on.network))
    by_monai = torch.cat([monai.one_by_one(vanilla, image) for image in images])
    assert _passes(on) == (1, 1)
    torch.testing.assert_close(by_captum, ours, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_monai, ours, rtol=1e-4, atol=1e-5)


def test_integrated_gradients_of_captum_are_ours(on: Given) -> None:
    ours = torch.cat(on.maps(IntegratedGradients(steps=STEPS, valid_only=False)))
    assert _passes(on) == (STEPS, STEPS)
    images = [image for image, _ in on.parts()]
    theirs = torch.cat(captum.integrated(on.network, images, STEPS, SIZE))
    assert _passes(on)[1] == STEPS
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("plain", [True, False])
def test_the_cached_loader_gives_each_slice_once(on: Given, *, plain: bool) -> None:
    items = [
        {"image": image, "mask": mask, "slice_index": index}
        for index, (image, mask) in enumerate(zip(on.batch["image"], on.batch["mask"], strict=True))
    ]
    batches = list(monai.cached(items, SIZE, plain=plain))
    assert all((type(batch["image"]) is Tensor) is plain for batch in batches)
    order = torch.cat([batch["slice_index"] for batch in batches])
    assert sorted(order.tolist()) == list(range(SLICES))
    loaded = torch.cat([torch.as_tensor(batch["image"]) for batch in batches])
    assert torch.equal(loaded, on.batch["image"][order])


def test_a_row_tells_how_many_slices_a_second_both_make() -> None:
    row = against(
        "waits: theirs", partial(time.sleep, 0.04), partial(time.sleep, 0.02), slices=2, rounds=3
    )
    assert 1.2 < row.median < 3.3
    found = re.fullmatch(
        r"waits: theirs / SegStress: ([\d.]+) slices/s / ([\d.]+) slices/s", row.name
    )
    assert found is not None
    assert float(found[1]) == pytest.approx(2 / row.seconds, rel=0.01)
    assert float(found[2]) == pytest.approx(row.median * 2 / row.seconds, rel=0.01)


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        return mse_loss(self.layer(batch["image"]), batch["image"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters())


class Ones(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 80

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": torch.ones(1)}


class Steps:
    """Takes steps of one length, four slices each."""

    def __init__(self, seconds: float) -> None:
        self.of_one = seconds

    def train(self, seconds: float) -> tuple[int, float]:
        steps = math.ceil(max(0.0, seconds) / self.of_one)
        return 4 * steps, steps * self.of_one


def test_trainings_in_turn_get_equal_time_up_to_a_step_of_theirs() -> None:
    turns = InTurn([Steps(0.0001), Steps(3.0)], every=20)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=80,
        logger=False,
        callbacks=[turns],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(), DataLoader(Ones()))
    own, quick, slow = turns.seconds
    assert own <= quick < own + 0.0001
    assert own <= slow < own + 3
    assert [len(pairs) for pairs in turns.pairs] == [4, math.ceil(slow / 3)]
    assert [theirs for theirs, _ in turns.pairs[0]] == pytest.approx([0.0001 / 4] * 4)
    assert 20 * sum(ours for _, ours in turns.pairs[0]) == pytest.approx(own)


def test_the_peers_environment_changes_no_package_of_the_tool() -> None:
    pins = re.compile(r"^([A-Za-z0-9._-]+)==[0-9][0-9a-z.]*$", re.MULTILINE)
    lines = (ROOT / "benchmarks/peers/requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if not line.startswith("#")]
    assert listed
    assert all(pins.fullmatch(line) for line in listed)
    own, theirs = (
        {re.sub(r"[-_.]+", "-", name).lower() for name in pins.findall(text)}
        for text in ((ROOT / "requirements.lock").read_text(encoding="utf-8"), "\n".join(listed))
    )
    assert own.isdisjoint(theirs)
    assert not any(name.startswith("torch") for name in theirs)
