"""A run that was interrupted goes on as if it had not been; what is sent twice stands once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from callbacks.checkpoint import AtomicCheckpointIO, run_checkpoints
from callbacks.evaluating import weights_sha256
from callbacks.robustness import RobustnessCallback
from callbacks.run_state import CHECKPOINT_KEY, RunState, run_logger
from tests.callbacks.toy import ATTACKS, ToyModule, train_loader, trainer, val_loader
from tests.places import NewLogger, Place
from tracking.logger import RunLogger


class InterruptionError(RuntimeError):
    """What stands for a crash or Ctrl-C."""


class InterruptAt(Callback):
    """Raises at a hook of an epoch."""

    def __init__(self, hook: str, epoch: int) -> None:
        self.epoch = epoch
        setattr(self, hook, self._interrupt)

    def _interrupt(self, trainer: Trainer, *_: object) -> None:
        if trainer.current_epoch == self.epoch:
            raise InterruptionError


class Metrics(Callback):
    """Logs a train and a val metric each epoch, as the house's module does."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, "val/weight", pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, "train/weight", pl_module)

    def _log(self, trainer: Trainer, key: str, module: LightningModule) -> None:
        value = float(next(module.parameters()).detach().sum())
        for logger in trainer.loggers:
            logger.log_metrics({key: value}, step=trainer.current_epoch)


class Data:
    """Tells fingerprints, as a DataModule does."""

    def fingerprints(self, split: str) -> dict[str, str]:
        return {"data": "d" * 64, "split": split}


# Resuming writes into the folder of the run that is resumed.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


def fit(
    logger: RunLogger, *callbacks: Callback, checkpoint: str | None = None, epochs: int = 3
) -> ToyModule:
    module = ToyModule()
    runner = trainer(
        Metrics(),
        RobustnessCallback(list(ATTACKS), batch_size=16, pictures=1),
        RunState({"seed_everything": 3}),
        *callbacks,
        *run_checkpoints(),
        logger=logger,
        epochs=epochs,
        enable_checkpointing=True,
        plugins=[AtomicCheckpointIO()],
    )
    torch.manual_seed(1)
    data = train_loader()
    # In order: what shuffles by the global generator goes on differently after a resume.
    data = type(data)(data.dataset, batch_size=8, collate_fn=data.collate_fn)
    module.network[3] = torch.nn.Identity()
    runner.fit(module, data, val_loader(), ckpt_path=checkpoint, weights_only=True)
    return module


def test_metrics_are_sent_after_the_checkpoint_that_holds_them(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    stored_at: list[tuple[int, int]] = []

    class Watch(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            run_id = str(logger.version)
            stored = len(place.client.get_metric_history(run_id, "val/weight"))
            path = place.checkpoint(run_id)
            kept = 0
            if path.exists():
                held = torch.load(path, weights_only=True)[CHECKPOINT_KEY]["unsent"]
                kept = len([one for one in held if one[0] == "val/weight"])
            stored_at.append((stored, kept))

    fit(logger, Watch())
    # Before an epoch's checkpoint: those of earlier epochs are sent, and the checkpoint of the
    # epoch before held exactly its own.
    assert stored_at == [(0, 0), (1, 1), (2, 1)]
    assert len(place.client.get_metric_history(str(logger.version), "val/weight")) == 3


def test_the_checkpoint_holds_plain_values_and_times(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    fit(logger, epochs=1)
    run_id = str(logger.version)
    held = torch.load(place.checkpoint(run_id), weights_only=True)[CHECKPOINT_KEY]
    assert held["run_id"] == run_id
    assert held["settings"] == {"seed_everything": 3}
    sent = {
        (one.key, one.step, one.timestamp, one.value)
        for key in place.client.get_run(run_id).data.metrics
        for one in place.client.get_metric_history(run_id, key)
    }
    assert {tuple(one) for one in held["unsent"]} == sent


@pytest.mark.parametrize(
    ("hook", "epoch"),
    [
        ("on_train_epoch_start", 1),  # after a checkpoint, before its metrics are sent
        ("on_train_batch_end", 1),
        ("on_validation_epoch_start", 1),
        ("on_validation_end", 1),  # metrics are kept but no checkpoint holds them
        ("on_validation_end", 2),  # likewise, and the attacks' artifacts are written
        ("on_train_epoch_end", 2),
        ("on_train_end", 3),  # after the last checkpoint, before its metrics are sent
    ],
)
def test_an_interrupted_run_ends_like_one_that_was_not(
    hook: str, epoch: int, place: Place, new_logger: NewLogger
) -> None:
    whole = new_logger()
    expected = weights_sha256(fit(whole))

    logger = new_logger()
    with pytest.raises(InterruptionError):
        fit(logger, InterruptAt(hook, epoch))
    run_id = str(logger.version)
    assert place.client.get_run(run_id).info.status == "FAILED"

    resumed = new_logger()
    resumed.adopt(run_id, evaluate=False)
    assert weights_sha256(fit(resumed, checkpoint=str(place.checkpoint(run_id)))) == expected
    assert resumed.version == run_id
    assert place.stored(run_id) == place.stored(str(whole.version))


def test_the_data_of_a_run_are_in_its_tags(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    runner = trainer(RunState(), logger=logger)
    runner.datamodule = Data()  # type: ignore[attr-defined]
    RunState().setup(runner, ToyModule(), "fit")
    tags = place.stored(str(logger.version)).tags
    assert tags["segstress.data"] == "d" * 64
    assert tags["segstress.split"] == "train"


def test_a_trainer_without_a_run_keeps_an_empty_state() -> None:
    runner = trainer(RunState())
    assert run_logger(runner) is None
    checkpoint: dict[str, Any] = {}
    RunState({"a": 1}).on_save_checkpoint(runner, ToyModule(), checkpoint)
    assert checkpoint == {CHECKPOINT_KEY: {"run_id": None, "unsent": [], "settings": {"a": 1}}}


def test_the_run_is_found_among_other_loggers(tmp_path: Path, new_logger: NewLogger) -> None:
    ours = new_logger()
    runner = Trainer(
        logger=[CSVLogger(tmp_path), ours], accelerator="cpu", enable_progress_bar=False
    )
    assert run_logger(runner) is ours
