"""The LightningModule: network, loss and scores of a segmentation, and one optimisation step."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from errors import InputError
from lightning_module.keys import unique_slugs
from lightning_module.ledger import LossLedger
from lightning_module.losses.compound import CompoundLoss, LossValue
from lightning_module.metrics import VolumeOverlap
from lightning_module.unet import Activation, Norm, UNet

# From 16 slices on, a slice has the same logits, bit for bit, in any batch and on any number of
# threads; fewer take other kernels (a single one, and on one thread the 1x1 convolution).
_SMALLEST_BATCH = 16


class Batch(TypedDict):
    """What a DataModule yields."""

    image: Tensor
    mask: Tensor
    valid: Tensor
    case: list[str]
    slice_index: Tensor


class SegmentationModule(LightningModule):
    """A 2D segmentation network with one sigmoid a class, trained with AdamW in one cycle.

    Args:
        loss: Sum of bce, dice, batch_dice, focal or package.module:Term, as 0.5*bce+focal(gamma=3).
        class_names: Names of the classes, one channel of the logits each.
        in_channels: Channels of the image.
        channels: Channels of each level of the U-Net, from full resolution down.
        norm: Normalisation of the U-Net: batch or instance.
        activation: Activation of the U-Net: relu or prelu.
        network: Network in place of the U-Net, as class_path; made from in_channels and classes.
        learning_rate: Highest learning rate of the one-cycle schedule.
        weight_decay: Weight decay of AdamW.
        class_weights: Weight of each class in the loss; none weighs all by 1.
        count_padding: Whether padding counts as ordinary pixels in loss and scores.

    Attributes:
        evaluated_epoch: Epoch, from 0, of the weights: the step of metrics outside of fit.
    """

    def __init__(
        self,
        loss: str = "bce+batch_dice",
        class_names: Sequence[str] = ("foreground",),
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        norm: Norm = "batch",
        activation: Activation = "relu",
        network: Callable[[int, int], nn.Module] | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        class_weights: list[float] | None = None,
        count_padding: bool = True,
    ) -> None:
        super().__init__()
        # Plain types only, so that a checkpoint loads with weights_only=True.
        class_names, channels = list(class_names), list(channels)
        self.save_hyperparameters(ignore=["network"])
        _check_settings(class_names, class_weights, learning_rate, weight_decay)
        self.class_names = unique_slugs(class_names)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.count_padding = count_padding
        if network is None:
            built: nn.Module = UNet(in_channels, len(class_names), channels, norm, activation)
        else:
            built = network(in_channels, len(class_names))
        self.network = built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = CompoundLoss(loss, class_weights)
        self.train_ledger = LossLedger(
            self.loss.term_names, self.loss.term_weights, self.class_names
        )
        self.eval_ledger = LossLedger(
            self.loss.term_names, self.loss.term_weights, self.class_names
        )
        self.overlap = VolumeOverlap(self.class_names)
        self.evaluated_epoch = 0

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch.

        Args:
            image: Shape ``(B, C, H, W)``, float.

        Returns:
            Logits, shape ``(B, K, H, W)``; a pixel belongs to a class where its logit is above 0.

        Raises:
            InputError: If the network cannot take images of this size or number of channels.
        """
        logits: Tensor = self.network(image.contiguous(memory_format=torch.channels_last))
        return logits

    def evaluation_logits(self, image: Tensor) -> Tensor:
        """Logits of a batch that do not depend on how many slices it holds.

        Args:
            image: Shape ``(B, C, H, W)``; a small batch is filled up with its last slice.

        Returns:
            Logits, shape ``(B, K, H, W)``.
        """
        missing = max(0, _SMALLEST_BATCH - len(image))
        filled = torch.cat([image, image[-1:].expand(missing, -1, -1, -1)]) if missing else image
        logits: Tensor = self(filled)
        return logits[: len(image)]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch; nothing here waits for the device."""
        value: LossValue = self.loss(self(batch["image"]), batch["mask"], self._counted(batch))
        self.train_ledger.update(value.ledger)
        self.log(
            "loss", value.total.detach(), prog_bar=True, logger=False, on_step=True, on_epoch=False
        )
        return value.total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the scores of the validation volumes."""
        self._evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the scores of the test volumes."""
        self._evaluate(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Probabilities, shape ``(B, K, H, W)``, with the case and index of each slice."""
        probs = self.evaluation_logits(batch["image"]).float().sigmoid()
        return {"probs": probs, "case": batch["case"], "slice_index": batch["slice_index"]}

    def on_train_epoch_start(self) -> None:
        """Begin the ledger of an epoch."""
        self.train_ledger.reset()

    def on_train_epoch_end(self) -> None:
        """Hand the ledger on, before any checkpoint of this epoch is written."""
        self.evaluated_epoch = self.current_epoch
        self._report("train", self.train_ledger.compute())

    def on_validation_epoch_start(self) -> None:
        """Begin the scores of an evaluation."""
        self._reset_scores()

    def on_validation_epoch_end(self) -> None:
        """Hand the scores of the validation volumes on."""
        self._report_scores("val")

    def on_test_epoch_start(self) -> None:
        """Begin the scores of an evaluation."""
        self._reset_scores()

    def on_test_epoch_end(self) -> None:
        """Hand the scores of the test volumes on."""
        self._report_scores("test")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember which epoch the weights are from."""
        self.evaluated_epoch = int(checkpoint["epoch"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a one-cycle schedule over all steps of the training.

        Raises:
            InputError: If the number of steps is not known beforehand.
        """
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            msg = (
                "--trainer.max_epochs: found no limit, expected one, because the learning rate "
                "follows a cycle over all steps; set it"
            )
            raise InputError(msg)
        optimizer = AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedule = OneCycleLR(optimizer, max_lr=self.learning_rate, total_steps=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Refuse a resumed schedule that ends before the training does.

        Raises:
            InputError: If the checkpoint's cycle has fewer steps than the training.
        """
        schedule, steps = self.lr_schedulers(), self.trainer.estimated_stepping_batches
        if isinstance(schedule, OneCycleLR) and schedule.total_steps < steps:
            msg = (
                f"--ckpt_path: found a learning rate cycle of {schedule.total_steps} steps, "
                f"expected {steps}; resume with the epochs, data and batch size it began with"
            )
            raise InputError(msg)

    def _evaluate(self, batch: Batch) -> None:
        logits = self.evaluation_logits(batch["image"])
        valid = self._counted(batch)
        self.eval_ledger.update(self.loss(logits, batch["mask"], valid).ledger)
        self.overlap.update((logits > 0) & valid, batch["mask"].bool() & valid, batch["case"])

    def _counted(self, batch: Batch) -> Tensor:
        """Pixels that count, shape ``(B, 1, H, W)``."""
        return torch.ones_like(batch["valid"]) if self.count_padding else batch["valid"]

    def _reset_scores(self) -> None:
        self.eval_ledger.reset()
        self.overlap.reset()

    def _report_scores(self, stage: Literal["val", "test"]) -> None:
        if not self.trainer.sanity_checking:
            self._report(stage, {**self.eval_ledger.compute(), **self.overlap.compute()})

    def _report(self, stage: str, values: Mapping[str, float]) -> None:
        """Send an epoch's metrics to the loggers now, and to callbacks and the progress bar."""
        metrics = {f"{stage}/{key}": value for key, value in values.items()}
        for key, value in metrics.items():
            self.log(key, value, prog_bar=key == f"{stage}/dice", logger=False, sync_dist=True)
        if self.trainer.is_global_zero:
            fitting = self.trainer.state.fn == TrainerFn.FITTING
            step = self.current_epoch if fitting else self.evaluated_epoch
            for logger in self.loggers:
                logger.log_metrics(metrics, step=step)


def _check_settings(
    class_names: Sequence[str],
    class_weights: Sequence[float] | None,
    learning_rate: float,
    weight_decay: float,
) -> None:
    """Raise InputError on settings that do not fit each other."""
    if not class_names:
        msg = "--model.class_names: found none, expected at least one; name the classes"
        raise InputError(msg)
    if class_weights is not None and len(class_weights) != len(class_names):
        msg = (
            f"--model.class_weights: found {len(class_weights)}, expected {len(class_names)}, "
            f"one a class ({', '.join(class_names)}); correct the list"
        )
        raise InputError(msg)
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        msg = f"--model.learning_rate: found {learning_rate}, expected a number above 0; change it"
        raise InputError(msg)
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        msg = f"--model.weight_decay: found {weight_decay}, expected 0 or more; change it"
        raise InputError(msg)
