"""The complaint that the ledger answers: a loss of 1 %, and classes that are not found at all.

Five classes with a sigmoid each, as in the question behind it; the phantom's parts are rare
and alike, so that cross-entropy gives some of them up while its mean over pixels looks fine.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch

from datamodules.datamodule import DecathlonDataModule
from datamodules.phantom import write_phantom
from lightning_module.ledger_history import loss_history, read_ledger
from lightning_module.losses.compound import CompoundLoss
from lightning_module.module import SegmentationModule
from tests.places import Place

pytestmark = pytest.mark.slow

CLASSES = 5


@dataclass(frozen=True)
class Trained:
    """A run that lost a class.

    Attributes:
        run_id: The run.
        place: Its store.
        table: Its ledger.
        said: What the training printed.
    """

    run_id: str
    place: Place
    table: pd.DataFrame
    said: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    place = Place(tmp_path_factory.mktemp("lost"))
    place.store.mkdir()
    write_phantom(place.folder, cases=16, classes=CLASSES, seed=0)
    process = place.start(
        "fit",
        *("--config", str(Path(__file__).parent.parent / "conf" / "task" / "phantom.yaml")),
        *("--robustness.attacks", "[]", "--robustness.pictures", "0"),
        *("--data.root", str(place.folder), "--data.cache_dir", str(place.folder / "cache")),
        *("--data.merge_labels", "false", "--data.batch_size", "8"),
        *("--model.loss", "bce", "--model.channels", "[8,16,32]", "--model.learning_rate", "0.01"),
        *("--trainer.max_epochs", "20", "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false"),
    )
    out, error = process.communicate(timeout=280)
    assert process.returncode == 0, out + error
    (run_id,) = place.run_ids()
    table = read_ledger(place.artifact(run_id, "ledger/ledger.csv"))
    return Trained(run_id, place, table, out + error)


def test_the_total_hides_the_class_and_ledger_and_warning_show_it(trained: Trained) -> None:
    metrics = trained.place.client.get_run(trained.run_id).data.metrics
    dice = {name: metrics[f"val/dice/{name}"] for name in names()}
    lost = [name for name, value in dice.items() if value < 0.1]
    found = [name for name, value in dice.items() if value > 0.5]
    assert lost
    assert found

    # The total: next to nothing.
    assert metrics["val/loss"] < 0.02

    # The ledger: the same classes at the last epoch, with about their even share.
    history = loss_history(trained.table, "val")
    assert history is not None
    assert history.class_names == tuple(names())
    assert set(lost) & {parting.name for parting in history.partings()}
    sums = history.parts.sum((1, 2))
    assert sums[-1] == pytest.approx(metrics["val/loss"], rel=1e-6)

    # The warning: the name, the share, the Dice and those of the others.
    warned = [line for line in trained.said.splitlines() if line.startswith("Warning: val")]
    for parting in history.partings():
        assert any(f"class {parting.name} has " in line for line in warned)
    assert all("of the loss (an even share is 20 %) and Dice 0." in line for line in warned)
    assert trained.place.artifact(trained.run_id, "ledger/val.png").stat().st_size > 10_000


def test_a_weight_multiplies_the_odds_of_the_class_by_itself(trained: Trained) -> None:
    """On the same network and slices, so that nothing else changes; a weight of 1000 as well."""
    data = DecathlonDataModule(
        str(trained.place.folder),
        "Task00_Phantom",
        merge_labels=False,
        cache_dir=str(trained.place.folder / "cache"),
    )
    data.setup("validate")
    module = SegmentationModule.load_from_checkpoint(
        trained.place.checkpoint(trained.run_id), weights_only=True
    ).eval()
    lost = names().index(worst(trained))
    shares, totals = [], []
    for weight in (1.0, 10.0, 1000.0):
        weights = [weight if index == lost else 1.0 for index in range(CLASSES)]
        loss, sums, total = CompoundLoss("bce", weights), torch.zeros(CLASSES), 0.0
        with torch.no_grad():
            for batch in data.val_dataloader():
                logits = module(batch["image"])
                value = loss(logits, batch["mask"], torch.ones_like(batch["valid"]))
                sums += value.ledger[0].sum(0)
                total += value.total.item() * len(logits)
        shares.append((sums[lost] / sums.sum()).item())
        totals.append(total)
    odds = [share / (1 - share) for share in shares]
    assert odds[1] == pytest.approx(10 * odds[0], rel=1e-4)
    assert odds[2] == pytest.approx(1000 * odds[0], rel=1e-4)
    # The mean is over K classes whatever they weigh: the total rises by (w - 1) times the share.
    assert totals[1] == pytest.approx(totals[0] * (1 + 9 * shares[0]), rel=1e-4)
    assert totals[2] == pytest.approx(totals[0] * (1 + 999 * shares[0]), rel=1e-4)


def names() -> list[str]:
    return [f"part_{index}" for index in range(1, CLASSES + 1)]


def worst(trained: Trained) -> str:
    metrics = trained.place.client.get_run(trained.run_id).data.metrics
    return min(names(), key=lambda name: metrics[f"val/dice/{name}"])
