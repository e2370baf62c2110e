"""The LightningModule: network, loss and scores of a segmentation, and one optimisation step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from errors import InputError
from lightning_module.exclusive import check_apart, leads, with_background
from lightning_module.keys import unique_slugs
from lightning_module.ledger import LossLedger
from lightning_module.losses.class_weights import Rule
from lightning_module.losses.compound import CompoundLoss, LossValue, Normalize
from lightning_module.losses.outputs import OutputsLoss
from lightning_module.metrics import VolumeOverlap
from lightning_module.schedule import check_cycle, one_cycle
from lightning_module.settings import Outputs, check_class_weights, check_settings
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
    ignored: NotRequired[Tensor]
    sample_weight: NotRequired[Tensor]


class SegmentationModule(LightningModule):
    """A 2D segmentation network, trained with AdamW in one cycle.

    Args:
        loss: Sum of terms such as 0.5*bce+focal(gamma=3); main.py losses lists them, and a term of
            your own is package.module:Term.
        class_names: Names of the classes, without the background.
        outputs: sigmoid gives each class its own yes or no; softmax makes the classes and the
            background exclude each other.
        in_channels: Channels of the image.
        channels: Channels of each level of the U-Net, from full resolution down.
        norm: Normalisation of the U-Net: batch or instance.
        activation: Activation of the U-Net: relu or prelu.
        network: Network in place of the U-Net, as class_path; made from in_channels and classes.
        learning_rate: Highest learning rate of the one-cycle schedule.
        weight_decay: Weight decay of AdamW.
        class_weights: Weight of each class in the loss, the background first where outputs is
            softmax; or the rule that finds them in the training masks: inverse_frequency,
            median_frequency or effective_number. None weighs all by 1.
        normalize: What the sum over weighted samples is divided by: batch (as Keras 3 does), or
            nonzero, the number of weights that are not 0.
        output_weights: Weight of each output in training, full resolution first. More than one is
            deep supervision: the U-Net then gives logits at half, a quarter, ... resolution too.
        output_losses: Loss of each further output; that of the first if left out.
        regularization: Factor of the sum of squares of the network's convolution weights, added to
            the loss in training; beside the weight decay of AdamW, which is no part of the loss.
        count_padding: Whether padding counts as ordinary pixels in loss and scores.
        compile: Whether training steps are compiled; on CPUs that needs a C++ compiler. Evaluation
            and attacks take the network as it is.

    Attributes:
        exclusive: Whether the network ends in a softmax.
        evaluated_epoch: Epoch, from 0, of the weights: the step of metrics outside of fit.
    """

    def __init__(
        self,
        loss: str = "bce+batch_dice",
        class_names: Sequence[str] = ("foreground",),
        outputs: Outputs = "sigmoid",
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128),
        norm: Norm = "batch",
        activation: Activation = "relu",
        network: Callable[[int, int], nn.Module] | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        class_weights: list[float] | Rule | None = None,
        normalize: Normalize = "batch",
        output_weights: Sequence[float] = (1.0,),
        output_losses: Sequence[str] | None = None,
        regularization: float = 0.0,
        count_padding: bool = True,
        compile: bool = False,  # noqa: A002 - the name of the option
    ) -> None:
        super().__init__()
        # Plain types only, so that a checkpoint loads with weights_only=True.
        class_names, channels = list(class_names), list(channels)
        output_weights = [float(weight) for weight in output_weights]
        output_losses = None if output_losses is None else list(output_losses)
        if class_weights is not None and not isinstance(class_weights, str):
            class_weights = list(class_weights)
        self.save_hyperparameters(ignore=["network"])
        self.class_names = unique_slugs(class_names)
        self.exclusive = outputs == "softmax"
        # The background is a class of the loss, and no class that anything is scored on.
        self.loss_class_names = (
            unique_slugs(["background", *class_names]) if self.exclusive else self.class_names
        )
        check_settings(
            class_names,
            outputs=outputs,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            regularization=regularization,
            output_weights=output_weights,
        )
        check_class_weights(class_weights, self.loss_class_names)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.count_padding = count_padding
        self.regularization = regularization
        self.weight_rule: Rule | None = class_weights if isinstance(class_weights, str) else None
        channels_out = len(self.loss_class_names)
        if network is None:
            built: nn.Module = UNet(
                in_channels, channels_out, channels, norm, activation, outputs=len(output_weights)
            )
        else:
            built = network(in_channels, channels_out)
        self.network = built.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # In a tuple, a module is no part of this one's state.
        self._in_training = (torch.compile(self.network) if compile else self.network,)
        further = output_losses
        if further is None:
            further = [loss] * (len(output_weights) - 1)
        self.loss = OutputsLoss(
            [
                CompoundLoss(
                    expression,
                    class_weights if isinstance(class_weights, list) else None,
                    exclusive=self.exclusive,
                    normalize=normalize,
                )
                for expression in (loss, *further)
            ],
            output_weights,
        )
        self.train_ledger = self._ledger(self.loss)
        self.eval_ledger = self._ledger(self.loss.main)
        self.overlap = VolumeOverlap(self.class_names)
        self.evaluated_epoch = 0
        self._looked_at_labels = False

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch.

        Of a softmax, the logit of a class is its lead over the strongest other class or background:
        it is above 0 where the class is the most probable one.

        Args:
            image: Shape ``(B, C, H, W)``, float.

        Returns:
            Logits, shape ``(B, K, H, W)``; a pixel belongs to a class where its logit is above 0.

        Raises:
            InputError: If the network cannot take images of this size or number of channels.
        """
        return self._leads(self._network_outputs(image)[0])

    def evaluation_logits(self, image: Tensor) -> Tensor:
        """Logits ``(B, K, H, W)`` of images ``(B, C, H, W)``, however many there are, bit for bit.

        A small batch is filled up with its last slice.
        """
        return self._leads(self._evaluation_outputs(image))

    def image_losses(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """The training loss of the main output, of each image by itself; what an attack may raise.

        Args:
            logits: From ``forward``, shape ``(B, K, H, W)``.
            target: Mask of 0 and 1, same shape.
            valid: Pixels that count, shape ``(B, 1, H, W)``, bool.

        Returns:
            Shape ``(B,)``.

        Raises:
            ValueError: Where the network ends in a softmax: ``forward`` gives leads, and the loss
                needs the logits behind them.
        """
        if self.exclusive:
            msg = "the training loss of a softmax cannot be had from leads; use another objective"
            raise ValueError(msg)
        return self.loss.main.of_images(logits, target, valid)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch; nothing here waits for the device."""
        value: LossValue = self.loss(
            self._network_outputs(batch["image"]),
            self._loss_target(batch),
            self._counted(batch),
            batch.get("sample_weight"),
        )
        total, penalty = value.total, None
        if self.regularization:
            penalty = self.regularization * self._squared_weights()
            total = total + penalty
        self.train_ledger.update(value.ledger, penalty)
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the scores of the validation volumes."""
        self._evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the scores of the test volumes."""
        self._evaluate(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Probabilities, and logits above 0 where a class is found, with case and index of slices.

        Returns:
            ``probs`` and ``leads``, shape ``(B, K, H, W)``, ``case`` and ``slice_index``.
        """
        outputs = self._evaluation_outputs(batch["image"]).float()
        return {
            "probs": outputs.softmax(1)[:, 1:] if self.exclusive else outputs.sigmoid(),
            "leads": self._leads(outputs),
            "case": batch["case"],
            "slice_index": batch["slice_index"],
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep class weights that a rule has found: an evaluation has no training masks."""
        weights = self.loss.main.class_weights
        if self.weight_rule is not None and weights is not None:
            checkpoint["class_weights"] = weights.tolist()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Refuse labels that overlap under a softmax, once in each fit.

        Raises:
            InputError: If a pixel belongs to two classes that are to exclude each other.
        """
        if self.exclusive and not self._looked_at_labels:
            self._looked_at_labels = True
            check_apart(batch["mask"])

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
        """Remember which epoch the weights are from, and by what classes were weighed."""
        self.evaluated_epoch = int(checkpoint["epoch"])
        if self.weight_rule is not None and "class_weights" in checkpoint:
            self.loss.set_class_weights(checkpoint["class_weights"])
        elif self.weight_rule is not None and self.loss.main.class_weights is None:
            msg = (
                f"--model.class_weights: found {self.weight_rule}, but the checkpoint was trained "
                "without it; leave it out, or give a list of weights"
            )
            raise InputError(msg)
        # A network may be looked at under another loss than the one it was trained with.
        stored, own = checkpoint["state_dict"], self.state_dict()
        for key in {*stored, *own}:
            if key.startswith("loss.") and key not in own:
                del stored[key]
            elif key.startswith("loss.") and key not in stored:
                stored[key] = own[key]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a one-cycle schedule over all steps of the training.

        Raises:
            InputError: If the number of steps is not known beforehand.
        """
        return one_cycle(
            self.network,
            self.loss,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            steps=self.trainer.estimated_stepping_batches,
            # Lightning refuses to clip gradients where a fused optimizer takes the scale off them.
            fused=self.trainer.precision != "16-mixed",
        )

    def on_train_start(self) -> None:
        """Refuse a resumed schedule that ends before the training does, and a rule not followed.

        Raises:
            InputError: If the checkpoint's cycle has fewer steps than the training, or nothing has
                found the class weights that a rule asks for.
        """
        if self.weight_rule is not None and self.loss.main.class_weights is None:
            msg = (
                f"--model.class_weights: found {self.weight_rule}, but no callback that follows "
                "the rule; add callbacks.class_weights.ClassWeights, or give a list of weights"
            )
            raise InputError(msg)
        check_cycle(self.lr_schedulers(), self.trainer.estimated_stepping_batches)

    def _evaluate(self, batch: Batch) -> None:
        outputs, counted = self._evaluation_outputs(batch["image"]), self._counted(batch)
        value: LossValue = self.loss.main(outputs, self._loss_target(batch), counted)
        self.eval_ledger.update(value.ledger)
        predicted = (self._leads(outputs) > 0) & counted
        self.overlap.update(predicted, batch["mask"].bool() & counted, batch["case"])

    def _network_outputs(self, image: Tensor) -> Sequence[Tensor]:
        """What the network gives: its logits, or those of several outputs, the main one first."""
        network = self._in_training[0] if self.training else self.network
        outputs: Tensor | Sequence[Tensor] = network(image)
        found = [outputs] if isinstance(outputs, Tensor) else outputs
        expected = (len(image), len(self.loss_class_names), *image.shape[2:])
        if tuple(found[0].shape) != expected:
            msg = (
                f"--model.network: {type(self.network).__name__} gives logits of shape "
                f"{tuple(found[0].shape)} for images of shape {tuple(image.shape)}, expected "
                f"{expected}; give one that keeps height and width and has a channel a class"
            )
            raise InputError(msg)
        return found

    def _evaluation_outputs(self, image: Tensor) -> Tensor:
        """The main output, computed in a batch of a size that rounding does not depend on."""
        missing = max(0, _SMALLEST_BATCH - len(image))
        filled = torch.cat([image, image[-1:].expand(missing, -1, -1, -1)]) if missing else image
        return self._network_outputs(filled)[0][: len(image)]

    def _leads(self, outputs: Tensor) -> Tensor:
        """Logits of the classes, from those of the network."""
        return leads(outputs) if self.exclusive else outputs

    def _loss_target(self, batch: Batch) -> Tensor:
        """The truth of each channel of the network, shape ``(B, K, H, W)``."""
        return with_background(batch["mask"]) if self.exclusive else batch["mask"]

    def _counted(self, batch: Batch) -> Tensor:
        """Pixels that count, shape ``(B, 1, H, W)``."""
        valid = batch["valid"]
        counted = torch.ones_like(valid) if self.count_padding else valid
        return counted & ~batch["ignored"] if "ignored" in batch else counted

    def _squared_weights(self) -> Tensor:
        """Sum of squares of all weights of convolutions and the like; biases and norms stay out."""
        squares = [weight.square().sum() for weight in self.network.parameters() if weight.ndim > 1]
        return torch.stack(squares).sum()

    def _ledger(self, loss: OutputsLoss | CompoundLoss) -> LossLedger:
        return LossLedger(
            loss.term_names, loss.term_weights, self.loss_class_names, loss.skips_background
        )

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
