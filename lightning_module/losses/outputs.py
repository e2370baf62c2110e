"""The loss of a network with several outputs, such as one under deep supervision."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from errors import InputError
from lightning_module.losses.compound import CompoundLoss, LossValue


class OutputsLoss(nn.Module):
    """Weighted sum of the losses of a network's outputs, each with terms of its own.

    An output of lower resolution is brought to that of the truth (bilinear) before its loss is
    taken, so that masks and truth apply to it as they are.

    Args:
        losses: One loss an output, the main one first.
        weights: One weight an output, at least 0.

    Attributes:
        main: Loss of the main output, which evaluations use.
        term_names: Slugs of the terms of all outputs; those of a further output begin with
            ``output_2.``, ``output_3.``, ...
        term_weights: Weight of each term, times that of its output.
        skips_background: For each term whether it leaves the background out.

    Raises:
        InputError: If there is not one weight a loss, or one is negative or not finite.
    """

    def __init__(self, losses: Sequence[CompoundLoss], weights: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        if len(weights) != len(losses):
            msg = (
                f"--model.output_weights and output_losses: found {len(weights)} weights for "
                f"{len(losses)} losses, expected one each; correct one of the lists"
            )
            raise InputError(msg)
        self.main = losses[0]
        self.by_output = tuple(losses)
        self.further = nn.ModuleList(losses[1:])  # so that their parameters are trained
        self.weights = tuple(float(weight) for weight in weights)
        prefixes = ["", *(f"output_{index}." for index in range(2, len(losses) + 1))]
        self.term_names = tuple(
            prefix + name
            for prefix, loss in zip(prefixes, losses, strict=True)
            for name in loss.term_names
        )
        self.term_weights = tuple(
            weight * factor
            for weight, loss in zip(self.weights, losses, strict=True)
            for factor in loss.term_weights
        )
        self.skips_background = tuple(skips for loss in losses for skips in loss.skips_background)

    def forward(
        self,
        outputs: Sequence[Tensor],
        target: Tensor,
        valid: Tensor,
        sample_weight: Tensor | None = None,
    ) -> LossValue:
        """Loss of all outputs and their ledger.

        Args:
            outputs: Logits of each output, shape ``(B, K, h, w)``, the main one first.
            target: Mask of 0 and 1, shape ``(B, K, H, W)``.
            valid: Pixels that count, shape ``(B, 1, H, W)``, bool.
            sample_weight: Shape ``(B,)``; None weighs all samples by 1.

        Returns:
            The total, and the ledger with the terms of all outputs, shape ``(T, B, K)``.

        Raises:
            InputError: If the network has another number of outputs.
        """
        if len(outputs) != len(self.by_output):
            msg = (
                f"--model.output_weights: found {len(self.by_output)} weights for {len(outputs)} "
                "outputs of the network, expected one each; correct the list"
            )
            raise InputError(msg)
        values = [
            loss(_resized(logits, target), target, valid, sample_weight)
            for loss, logits in zip(self.by_output, outputs, strict=True)
        ]
        total = sum(
            (weight * value.total for weight, value in zip(self.weights, values, strict=True)),
            start=values[0].total.new_zeros(()),
        )
        return LossValue(total, torch.cat([value.ledger for value in values]))

    def set_class_weights(self, weights: Sequence[float]) -> None:
        """Weigh classes alike in the losses of all outputs; see ``CompoundLoss``."""
        for loss in self.by_output:
            loss.set_class_weights(weights)


def _resized(logits: Tensor, target: Tensor) -> Tensor:
    if logits.shape[2:] == target.shape[2:]:
        return logits
    return interpolate(logits, target.shape[2:], mode="bilinear", align_corners=False)
