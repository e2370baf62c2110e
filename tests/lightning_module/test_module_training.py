from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from errors import InputError
from lightning_module.module import SegmentationModule
from tests.lightning_module.toy import (
    DiscData,
    RememberingLogger,
    SaveEachEpoch,
    make_trainer,
    small_module,
)


class KilledError(Exception):
    """Stands for the end of a process."""


class KillAt(Callback):
    """Ends the training after so many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: object, **kwargs: object
    ) -> None:
        if trainer.global_step == self.step:
            raise KilledError


class SeenBySaving(Callback):
    """Notes which metrics the logger and the callbacks had when a checkpoint was written."""

    def __init__(self, logger: RememberingLogger) -> None:
        self.logger = logger
        self.seen: list[tuple[set[tuple[int | None, str]], set[str]]] = []

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        sent = {(step, key) for step, metrics in self.logger.records for key in metrics}
        self.seen.append((sent, set(trainer.callback_metrics)))


@pytest.fixture
def logger() -> RememberingLogger:
    return RememberingLogger()


def test_a_trivial_task_is_learnt_in_a_few_steps(tmp_path: Path, logger: RememberingLogger) -> None:
    module, data = small_module(learning_rate=0.03), DiscData()

    trainer = make_trainer(tmp_path, logger, max_epochs=12)

    trainer.fit(module, data)

    losses = [metrics["train/loss"] for _, metrics in logger.records if "train/loss" in metrics]
    assert losses[-1] < losses[0] / 3
    assert logger.last("val/dice") > 0.95
    assert "val/dice" in trainer.progress_bar_metrics


def test_one_epoch_sends_its_metrics_once_before_its_checkpoint(
    tmp_path: Path, logger: RememberingLogger
) -> None:
    module = small_module("0.5*bce+batch_dice", class_names=("Left", "right"))
    seen = SeenBySaving(logger)

    make_trainer(tmp_path, logger, callbacks=[seen, SaveEachEpoch(tmp_path)]).fit(
        module, DiscData(classes=2)
    )

    scores = {f"val/{score}{name}" for score in ("dice", "iou") for name in ("", "/left", "/right")}
    losses = {
        f"{stage}/loss{part}"
        for stage in ("train", "val")
        for part in ("", "/bce/left", "/bce/right", "/batch_dice/left", "/batch_dice/right")
    }
    expected = scores | losses | {"val/volumes", "val/left_out"}
    sent = [(step, key) for step, metrics in logger.records for key in metrics]
    assert sorted(sent, key=str) == sorted(((e, k) for e in range(3) for k in expected), key=str)
    for epoch, (before, callback_metrics) in enumerate(seen.seen):
        assert before == {(earlier, key) for earlier in range(epoch + 1) for key in expected}
        assert expected <= callback_metrics


def test_mixed_precision_learns_the_trivial_task_too(tmp_path: Path) -> None:
    full, half = RememberingLogger(), RememberingLogger()
    for logger, precision in ((full, "32-true"), (half, "bf16-mixed")):
        module = small_module("bce+batch_dice+focal", learning_rate=0.03)
        make_trainer(tmp_path, logger, precision=precision, max_epochs=12).fit(module, DiscData())

    assert half.last("val/dice") > 0.95
    assert half.last("train/loss") == pytest.approx(full.last("train/loss"), rel=0.2)
    assert half.last("train/loss") != full.last("train/loss")


def test_train_loss_is_the_mean_of_the_steps(tmp_path: Path, logger: RememberingLogger) -> None:
    steps: list[float] = []

    class Note(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, module: LightningModule, outputs: object, *args: object
        ) -> None:
            assert isinstance(outputs, dict)
            steps.append(outputs["loss"].item())

    module = small_module("2*bce+batch_dice+focal", class_weights=[3.0])
    make_trainer(tmp_path, logger, max_epochs=1, callbacks=[Note()]).fit(module, DiscData())

    assert len(steps) == 3
    assert logger.last("train/loss") == pytest.approx(np.mean(steps), rel=1e-6)


def test_a_killed_and_resumed_training_ends_bit_for_bit_like_one_that_was_not(
    tmp_path: Path,
) -> None:
    whole, parts, after = RememberingLogger(), RememberingLogger(), RememberingLogger()
    plain = small_module()
    make_trainer(tmp_path, whole).fit(plain, DiscData())

    with pytest.raises(KilledError):
        make_trainer(tmp_path, parts, callbacks=[KillAt(step=5), SaveEachEpoch(tmp_path)]).fit(
            small_module(), DiscData()
        )
    resumed = SegmentationModule("bce+batch_dice", channels=(4, 8))
    trainer = make_trainer(tmp_path, after)
    trainer.fit(resumed, DiscData(), ckpt_path=tmp_path / "last.ckpt")

    assert trainer.global_step == 9
    for (name, value), again in zip(
        plain.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(value, again), name
    assert parts.records + after.records == whole.records


def test_a_longer_training_than_the_checkpoints_cycle_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, callbacks=[SaveEachEpoch(tmp_path)], max_epochs=1)
    trainer.fit(small_module(), DiscData())

    with pytest.raises(InputError, match=r"--ckpt_path: found .* 3 steps, expected 9; resume"):
        make_trainer(tmp_path).fit(small_module(), DiscData(), ckpt_path=tmp_path / "last.ckpt")


def test_a_training_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--trainer\.max_epochs: found no limit"):
        make_trainer(tmp_path, max_epochs=-1).fit(small_module(), DiscData())


def test_learning_rate_follows_one_cycle_step_by_step(tmp_path: Path) -> None:
    rates: list[float] = []

    class Note(Callback):
        def on_train_batch_start(self, trainer: Trainer, *args: object) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    make_trainer(tmp_path, callbacks=[Note()], max_epochs=7).fit(
        small_module(learning_rate=0.01), DiscData()
    )

    top = int(np.argmax(rates))
    assert len(rates) == 21
    assert rates[0] == pytest.approx(0.01 / 25)
    assert max(rates) == pytest.approx(0.01, rel=0.02)
    assert np.all(np.diff(rates[: top + 1]) > 0)
    assert np.all(np.diff(rates[top:]) < 0)
    assert rates[-1] < 1e-6


def test_the_sanity_check_sends_nothing(tmp_path: Path, logger: RememberingLogger) -> None:
    module = small_module()
    trainer = make_trainer(tmp_path, logger, max_epochs=1, callbacks=[KillAt(step=1)])

    with pytest.raises(KilledError):
        trainer.fit(module, DiscData())

    assert logger.records == []
