"""The ledger of every epoch is kept through a kill, and a class that goes wrong is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from callbacks.checkpoint import AtomicCheckpointIO, run_checkpoints
from callbacks.ledger import LedgerCallback
from callbacks.run_state import RunState
from datamodules.datamodule import DecathlonDataModule
from datamodules.phantom import write_phantom
from lightning_module.ledger_history import LEDGER_COLUMNS, loss_history
from tests.callbacks.ledger_toy import Failing, LedgerToy, Oracle, Seen
from tests.callbacks.test_run_state import InterruptAt, InterruptionError
from tests.callbacks.toy import ToyModule, train_loader, trainer, val_loader
from tests.lightning_module.toy import DiscData, small_module
from tests.places import NewLogger, Place
from tracking.logger import RunLogger
from tracking.reading import fetch_ledger, list_runs

TABLE = "ledger/ledger.csv"

# Resuming writes into the folder of the run that is resumed.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


def fit(
    logger: RunLogger | None,
    *callbacks: Callback,
    module: LightningModule | None = None,
    checkpoint: str | None = None,
    epochs: int = 3,
    **settings: Any,  # noqa: ANN401 (the trainer's own)
) -> Trainer:
    runner = trainer(
        LedgerCallback(),
        RunState(),
        *callbacks,
        *(run_checkpoints() if logger else []),
        logger=logger,
        epochs=epochs,
        enable_checkpointing=logger is not None,
        plugins=[AtomicCheckpointIO()],
        **settings,
    )
    torch.manual_seed(1)
    data = train_loader(classes=2)
    data = type(data)(data.dataset, batch_size=8, collate_fn=data.collate_fn)
    runner.fit(
        module or LedgerToy(), data, val_loader(classes=2), ckpt_path=checkpoint, weights_only=True
    )
    return runner


def table_of(place: Place, logger: RunLogger, file: str = TABLE) -> pd.DataFrame:
    return pd.read_csv(place.artifact(str(logger.version), file))


def test_each_epoch_is_in_the_table_as_it_was_measured(place: Place, new_logger: NewLogger) -> None:
    logger, seen = new_logger(), Seen()
    fit(logger, seen)

    table = table_of(place, logger)
    assert tuple(table.columns) == LEDGER_COLUMNS
    assert len(table) == 2 * 3 * 2 * 2  # splits, epochs, terms, classes
    assert not table.duplicated(["split", "epoch", "term", "class"]).any()
    assert set(table["epoch"]) == {0, 1, 2}
    for row in table.to_dict("records"):
        measured = seen.metrics[row["epoch"]]
        key = f"{row['split']}/loss/{row['term']}/{row['class']}"
        assert row["value"] == pytest.approx(measured[key], rel=1e-6)
        assert row["weight"] == {"bce": 1.0, "batch_dice": 0.5}[row["term"]]
        if row["split"] == "train":
            assert np.isnan(row["dice"])
        else:
            assert row["dice"] == pytest.approx(measured[f"val/dice/{row['class']}"], rel=1e-6)
    for split in ("train", "val"):
        history = loss_history(table, split)
        assert history is not None
        losses = [seen.metrics[epoch][f"{split}/loss"] for epoch in range(3)]
        np.testing.assert_allclose(history.parts.sum((1, 2)), losses, rtol=1e-6)

    (run,) = list_runs("trials")
    found = fetch_ledger(run)
    assert found is not None
    pd.testing.assert_frame_equal(found, table, check_dtype=False)


def test_a_heat_map_of_each_split_is_drawn(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    fit(logger, epochs=1)
    paths = place.paths(str(logger.version))
    assert [path for path in paths if path.startswith("ledger/")] == [
        TABLE,
        "ledger/train.png",
        "ledger/val.png",
    ]
    grid = {path.partition("+")[0] for path in paths if path.startswith("images/")}
    assert grid == {"images/ledger~train", "images/ledger~val"}
    for split in ("train", "val"):
        png = place.artifact(str(logger.version), f"ledger/{split}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert len(png) > 5_000


@pytest.mark.parametrize(
    ("hook", "epoch"),
    [
        ("on_train_batch_end", 1),
        ("on_validation_end", 1),  # the epoch is validated but no checkpoint holds it
        ("on_train_epoch_end", 2),
        ("on_train_end", 3),  # nothing is left to train
    ],
)
def test_a_resumed_run_has_the_whole_history_bit_for_bit(
    hook: str, epoch: int, place: Place, new_logger: NewLogger
) -> None:
    whole = new_logger()
    fit(whole)

    logger = new_logger()
    with pytest.raises(InterruptionError):
        fit(logger, InterruptAt(hook, epoch))
    run_id = str(logger.version)
    assert not [path for path in place.paths(run_id) if path.startswith("ledger/")]

    resumed = new_logger()
    resumed.adopt(run_id, evaluate=False)
    fit(resumed, checkpoint=str(place.checkpoint(run_id)))
    expected = place.stored(str(whole.version)).artifacts
    assert place.stored(run_id).artifacts == expected
    assert TABLE in expected


def test_a_checkpoint_holds_its_own_epoch(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    fit(logger, epochs=2)
    held = torch.load(place.checkpoint(str(logger.version)), weights_only=True)
    rows = held["callbacks"]["LedgerCallback"]["rows"]
    assert {(row[0], row[1]) for row in rows} == {
        (split, epoch) for split in ("train", "val") for epoch in (0, 1)
    }


def test_a_training_that_is_stopped_early_is_written(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    stop = EarlyStopping("val/loss", stopping_threshold=1e9)  # as soon as it can
    fit(logger, stop, epochs=9)
    assert set(table_of(place, logger)["epoch"]) == {0}


def test_an_epoch_that_is_validated_twice_stands_once(place: Place, new_logger: NewLogger) -> None:
    logger, seen = new_logger(), Seen()
    fit(logger, seen, epochs=1, val_check_interval=0.5)
    table = table_of(place, logger)
    assert len(table) == 2 * 2 * 2
    val = table[(table["split"] == "val") & (table["term"] == "bce")]
    measured = [seen.metrics[0][f"val/loss/bce/{name}"] for name in val["class"]]
    assert val["value"].tolist() == pytest.approx(measured)


def test_the_sanity_check_is_no_epoch(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    fit(logger, epochs=1, num_sanity_val_steps=1, limit_val_batches=0.0)
    assert set(table_of(place, logger)["split"]) == {"train"}


def test_a_test_has_a_table_of_its_own(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    module = LedgerToy()
    runner = fit(logger, module=module, epochs=2)
    before = place.artifact(str(logger.version), TABLE).read_bytes()
    module.evaluated_epoch = 1  # type: ignore[assignment]
    runner.test(module, val_loader(classes=2), verbose=False)

    table = table_of(place, logger, "ledger/test.csv")
    assert tuple(table.columns) == LEDGER_COLUMNS
    assert table[["split", "epoch"]].drop_duplicates().to_numpy().tolist() == [["test", 1]]
    metrics = {name: float(value) for name, value in runner.callback_metrics.items()}
    for row in table.to_dict("records"):
        expected = metrics[f"test/loss/{row['term']}/{row['class']}"]
        assert row["value"] == pytest.approx(expected, rel=1e-6)
        assert row["dice"] == pytest.approx(metrics[f"test/dice/{row['class']}"], rel=1e-6)
    assert place.artifact(str(logger.version), TABLE).read_bytes() == before


def test_a_module_without_ledgers_is_left_alone(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    fit(logger, module=ToyModule(classes=2), epochs=1)
    assert not [path for path in place.paths(str(logger.version)) if "ledger" in path]


def test_a_run_without_a_logger_keeps_its_history_and_draws_nothing(place: Place) -> None:
    runner = fit(None, epochs=1)
    (callback,) = [one for one in runner.callbacks if isinstance(one, LedgerCallback)]  # type: ignore[attr-defined]
    assert len(callback.state_dict()["rows"]) == 2 * 2 * 2
    assert place.run_ids() == []


def test_a_softmax_with_further_outputs_and_regularization(
    place: Place, new_logger: NewLogger
) -> None:
    logger, seen = new_logger(), Seen()
    module = small_module(
        "ce+batch_dice(background=false)",
        class_names=["front", "back"],
        outputs="softmax",
        output_weights=[1.0, 0.5],
        regularization=1e-3,
    )
    runner = trainer(LedgerCallback(), seen, logger=logger, epochs=1)
    runner.fit(module, datamodule=DiscData(classes=2, apart=True))

    table = pd.read_csv(place.artifact(str(logger.version), TABLE), keep_default_na=False)
    train, val = (table[table["split"] == split] for split in ("train", "val"))
    assert set(val["term"]) == {"ce", "batch_dice"}
    prefixed = {"output_2.ce", "output_2.batch_dice", "regularization"}
    assert set(train["term"]) == {"ce", "batch_dice", *prefixed}
    assert set(train.loc[train["term"] == "ce", "class"]) == {"background", "front", "back"}
    assert set(train.loc[train["term"] == "batch_dice", "class"]) == {"front", "back"}
    penalty = float(train.loc[train["term"] == "regularization", "value"].iloc[0])
    assert penalty > 0

    (run,) = list_runs("trials")
    stored = fetch_ledger(run)
    assert stored is not None
    for split, apart in (("train", penalty), ("val", 0.0)):
        history = loss_history(stored, split)
        assert history is not None
        assert history.class_names == ("background", "front", "back")
        total = seen.metrics[0][f"{split}/loss"]
        assert history.parts.sum() + apart == pytest.approx(total, rel=1e-5)
        scored = [split == "val" and name != "background" for name in history.class_names]
        assert (~np.isnan(history.dice[0])).tolist() == scored


class WriteState(Callback):
    """Writes each process's ledger to a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        (kept,) = [one for one in trainer.callbacks if isinstance(one, LedgerCallback)]  # type: ignore[attr-defined]
        text = json.dumps(kept.state_dict())
        (self.folder / f"{trainer.global_rank}.json").write_text(text)


def test_two_processes_keep_the_same_ledger(tmp_path: Path) -> None:
    runner = trainer(
        LedgerCallback(),
        WriteState(tmp_path),
        epochs=1,
        strategy="ddp_fork",
        devices=2,
        use_distributed_sampler=False,
    )
    runner.fit(small_module("bce", class_names=["a", "b"]), datamodule=DiscData(classes=2))
    first, second = ((tmp_path / f"{rank}.json").read_text() for rank in (0, 1))
    assert first == second
    assert len(json.loads(first)["rows"]) == 2 * 2


def warnings_in(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("Warning: ")]


@pytest.fixture
def phantom(tmp_path: Path) -> DecathlonDataModule:
    write_phantom(tmp_path, cases=8, classes=5)
    return DecathlonDataModule(
        root=str(tmp_path),
        task="Task00_Phantom",
        merge_labels=False,
        batch_size=16,
        eval_batch_size=16,
        cache_dir=str(tmp_path / "cache"),
    )


def test_a_class_that_fails_is_invisible_in_the_total_and_plain_in_the_ledger(
    phantom: DecathlonDataModule,
    place: Place,
    new_logger: NewLogger,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shares = []
    for weight in (1.0, 10.0):
        logger = new_logger()
        module = Oracle(phantom.class_names, weight)
        runner = trainer(LedgerCallback(), logger=logger)
        capsys.readouterr()
        runner.test(module, datamodule=phantom, verbose=False)
        printed = warnings_in(capsys.readouterr().out)

        total = float(runner.callback_metrics["test/loss"])
        history = loss_history(table_of(place, logger, "ledger/test.csv"), "test")
        assert history is not None
        share, dice = history.class_shares()[0, -1], history.dice[0]
        shares.append(share)
        assert dice[-1] == 0
        assert dice[:-1].min() > 0.7
        if weight == 1:
            assert total < 0.03
            assert share < 0.12
            (line,) = printed
            assert line == (
                f"Warning: test, epoch 0: class part_5 has {100 * share:.3g} % of the loss (an "
                f"even share is 20 %) and Dice 0.00, the others {np.median(dice[:-1]):.2f}: the "
                "total does not tell; raise its weight in --model.class_weights, or that of a "
                "term that counts classes alike, such as batch_dice"
            )
        else:
            assert printed == []
    before, after = shares
    assert after / (1 - after) == pytest.approx(10 * before / (1 - before), rel=1e-4)


def test_a_class_is_warned_of_when_it_lasts_and_at_the_end(
    place: Place, new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = new_logger()
    with pytest.raises(InterruptionError):
        fit(logger, InterruptAt("on_train_epoch_start", 2), module=Failing(), epochs=5)
    assert warnings_in(capsys.readouterr().out) == []

    resumed = new_logger()
    resumed.adopt(str(logger.version), evaluate=False)
    last = str(place.checkpoint(str(logger.version)))
    fit(resumed, module=Failing(), checkpoint=last, epochs=5)
    third, end = warnings_in(capsys.readouterr().out)
    assert third.startswith("Warning: val, epoch 2: class part_1 has ")
    assert end.startswith("Warning: val, epoch 4: class part_1 has ")


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_short_training_warns_once(epochs: int, capsys: pytest.CaptureFixture[str]) -> None:
    fit(None, module=Failing(), epochs=epochs)
    (line,) = warnings_in(capsys.readouterr().out)
    assert line.startswith(f"Warning: val, epoch {epochs - 1}: class part_1 has ")


def test_classes_that_do_alike_are_not_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    fit(None, epochs=1)
    assert warnings_in(capsys.readouterr().out) == []
