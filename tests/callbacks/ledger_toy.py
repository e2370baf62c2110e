"""A plain module that reports its loss ledger, and one that fails in one class as told."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_module.ledger import LossLedger
from lightning_module.losses.compound import CompoundLoss
from lightning_module.metrics import VolumeOverlap
from tests.callbacks.toy import ToyModule


class LedgerToy(ToyModule):
    """Reports its ledgers and Dice as the house's module does, in as few lines."""

    def __init__(self, loss: str = "bce+0.5*batch_dice", classes: int = 2) -> None:
        super().__init__(classes)
        # What shuffles or drops by the global generator goes on differently after a resume.
        self.network[3] = torch.nn.Identity()
        self.loss = CompoundLoss(loss)
        names = [f"Part {index}" for index in range(classes)]
        self.train_ledger, self.eval_ledger = (
            LossLedger(self.loss.term_names, self.loss.term_weights, names) for _ in range(2)
        )
        self.overlap = VolumeOverlap(names)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        value = self.loss(self(batch["image"]), batch["mask"], batch["valid"])
        self.train_ledger.update(value.ledger)
        total: Tensor = value.total
        return total

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        logits = self.logits(batch)
        self.eval_ledger.update(self.loss(logits, batch["mask"], batch["valid"]).ledger)
        self.overlap.update(logits > 0, batch["mask"], batch["case"])

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def logits(self, batch: dict[str, Any]) -> Tensor:
        logits: Tensor = self(batch["image"])
        return logits

    def on_train_epoch_start(self) -> None:
        self.train_ledger.reset()

    def on_validation_epoch_start(self) -> None:
        self.eval_ledger.reset()
        self.overlap.reset()

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def on_train_epoch_end(self) -> None:
        self.report("train", self.train_ledger.compute())

    def on_validation_epoch_end(self) -> None:
        self.report("val", {**self.eval_ledger.compute(), **self.overlap.compute()})

    def on_test_epoch_end(self) -> None:
        self.report("test", {**self.eval_ledger.compute(), **self.overlap.compute()})

    def report(self, split: str, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.log(f"{split}/{key}", value, logger=False, sync_dist=True)


class Oracle(LedgerToy):
    """Finds four parts with bold errors at their borders, and misses the fifth by a little."""

    def __init__(self, names: tuple[str, ...], fifth: float = 1.0) -> None:
        super().__init__("bce", classes=len(names))
        self.loss = CompoundLoss("bce", [1.0] * (len(names) - 1) + [fifth])
        self.eval_ledger = LossLedger(self.loss.term_names, self.loss.term_weights, names)
        self.overlap = VolumeOverlap(names)

    def logits(self, batch: dict[str, Any]) -> Tensor:
        return missing_the_last(batch["mask"])


def missing_the_last(mask: Tensor) -> Tensor:
    """Logits that are bold and a pixel aside for all classes but the last, which just misses 0."""
    logits = 16 * mask.roll(1, dims=-1) - 8
    logits[:, -1] = torch.where(mask[:, -1] > 0, -0.2, -8.0)
    return logits


class Failing(LedgerToy):
    """Sure of the first part, and never quite sure of the second."""

    def __init__(self) -> None:
        super().__init__("bce")

    def logits(self, batch: dict[str, Any]) -> Tensor:
        return missing_the_last(batch["mask"])


class Seen(Callback):
    """Remembers each epoch's metrics as the trainer has them when a checkpoint is written."""

    def __init__(self) -> None:
        self.metrics: dict[int, dict[str, float]] = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer, trainer.current_epoch - 1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer, trainer.current_epoch - 1)

    def _look(self, trainer: Trainer, epoch: int) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.metrics[epoch] = metrics
