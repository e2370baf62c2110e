"""From the losses of pixels, classes and samples to one number, in the one place that averages."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from errors import InputError
from lightning_module.keys import unique_slugs
from lightning_module.losses.building import build_term
from lightning_module.losses.expression import parse_expression
from lightning_module.losses.sharing import sharing

_HALF = (torch.float16, torch.bfloat16)

# What a sum over samples is divided by: the batch, or its samples of a weight other than 0.
Normalize = Literal["batch", "nonzero"]


class LossValue(NamedTuple):
    """What a compound gives for one batch.

    Attributes:
        total: The loss to minimise, a scalar.
        ledger: The matrix before the means, detached, shape ``(T, B, K)``, with class and sample
            weights but without term weights. A term over the whole batch has the same row for every
            sample. ``total`` is its mean over samples, averaged over the classes that count in each
            term, summed over terms by their weights.
    """

    total: Tensor
    ledger: Tensor


class CompoundLoss(nn.Module):
    """Sum of loss terms, made one number in a fixed order.

    1. Each term reduces pixels: ``(B, K)``, or ``(1, K)`` for a term over the batch.
    2. Class weights multiply the columns.
    3. The terms are added by their weights.
    4. Mean over classes: divided by K, whatever the class weights add up to; a term that leaves the
       background out has one class less.
    5. Sample weights multiply the rows; terms over the batch have used them in their sums.
    6. Mean over the batch: divided by B, whatever the sample weights add up to, as Keras 3 does; or
       by the number of weights that are not 0, as Keras did up to 2.2.

    Steps 3 to 6 are linear, so the code adds last, what each term has come to.

    Args:
        expression: For example ``0.5*bce+batch_dice+focal(gamma=3)`` or ``package.module:Term``.
        class_weights: One weight a class, at least 0; None weighs all by 1.
        exclusive: Whether the classes exclude each other (a softmax, background first) or not.
        normalize: What step 6 divides by: ``batch``, or ``nonzero`` weights.

    Attributes:
        term_names: Slug of each term, ``_2`` added to the second of a name.
        term_weights: Weight of each term, in the same order.
        skips_background: For each term whether it leaves the background out.

    Raises:
        InputError: If the expression names no known term, or a weight is wrong.
    """

    def __init__(
        self,
        expression: str,
        class_weights: Sequence[float] | None = None,
        *,
        exclusive: bool = False,
        normalize: Normalize = "batch",
    ) -> None:
        super().__init__()
        specs = parse_expression(expression)
        if normalize not in get_args(Normalize):
            msg = f"--model.normalize: found {normalize}, expected batch or nonzero; choose one"
            raise InputError(msg)
        self.expression = "+".join(map(str, specs))
        self.normalize = normalize
        self.terms = nn.ModuleList(build_term(spec, exclusive=exclusive) for spec in specs)
        self.term_names = unique_slugs(spec.name.rpartition(":")[2] for spec in specs)
        self.term_weights = tuple(spec.weight for spec in specs)
        self.skips_background = tuple(
            exclusive and not getattr(term, "background", True) for term in self.terms
        )
        # No buffer: a setting is not state, and stays exact in a module of half precision.
        self.class_weights = _weights_of_classes(class_weights)
        self._copies: dict[torch.device, Tensor] = {}

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> LossValue:
        """Loss of a batch and its ledger.

        Args:
            logits: Shape ``(B, K, H, W)``.
            target: Mask of 0 and 1, same shape.
            valid: Pixels that count, shape ``(B, 1, H, W)``, bool.
            sample_weight: Shape ``(B,)``; None weighs all samples by 1.

        Returns:
            The total and the ledger.

        Raises:
            ValueError: If shapes do not fit, or a term returns neither ``(B, K)`` nor ``(1, K)``.
        """
        samples, classes = logits.shape[:2]
        self._check_weights(sample_weight, samples, classes)
        with sharing():
            values = [term(logits, target, valid, sample_weight) for term in self.terms]
        class_weights = self._class_weights_on(logits.device)
        total: Tensor | None = None
        rows: list[Tensor] = []
        for name, term, value, factor, skips in zip(
            self.term_names,
            self.terms,
            values,
            self.term_weights,
            self.skips_background,
            strict=True,
        ):
            if value.shape not in {(samples, classes), (1, classes)}:
                msg = (
                    f"loss term {name!r} returned shape {tuple(value.shape)}, "
                    f"expected {(samples, classes)} or {(1, classes)}"
                )
                raise ValueError(msg)
            counted = self._weighed(term, value, class_weights, sample_weight, samples=samples)
            counted = counted[:, 1:] if skips else counted
            mean = counted.mean()
            # As few operations as can be: on small images they cost as much as the pixels do.
            if total is None:
                total = mean if factor == 1 else mean * factor
            else:
                total = total.add(mean, alpha=factor)
            rows.append(_ledger_row(counted, samples, classes))
        if total is None:
            msg = "a loss without terms"
            raise ValueError(msg)
        return LossValue(total, torch.stack(rows))

    def _weighed(
        self,
        term: nn.Module,
        value: Tensor,
        class_weights: Tensor | None,
        sample_weight: Tensor | None,
        *,
        samples: int,
    ) -> Tensor:
        """A term's matrix by the weights of classes and samples, in float32 or better."""
        if value.dtype in _HALF:
            value = value.float()
        if class_weights is not None:
            value = value * class_weights
        # Of a batch of one the shape does not tell whether the term has weighed its sample.
        over_batch = len(value) == 1 and (samples > 1 or getattr(term, "over_batch", False))
        if sample_weight is not None and not over_batch:
            value = value * self._row_weights(sample_weight).to(value.dtype).unsqueeze(1)
        return value

    def of_images(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Loss of each image as if it were a batch of its own, without sample weights.

        Args:
            logits: Shape ``(B, K, H, W)``.
            target: Mask of 0 and 1, same shape.
            valid: Pixels that count, shape ``(B, 1, H, W)``, bool.

        Returns:
            Shape ``(B,)``.
        """
        class_weights = self._class_weights_on(logits.device)
        total = logits.new_zeros(
            len(logits), dtype=torch.promote_types(logits.dtype, torch.float32)
        )
        with sharing():
            for term, factor, skips in zip(
                self.terms, self.term_weights, self.skips_background, strict=True
            ):
                value: Tensor = term(logits, target, valid)
                if len(value) < len(logits):
                    rows = [slice(index, index + 1) for index in range(len(logits))]
                    value = torch.cat([term(logits[i], target[i], valid[i]) for i in rows])
                value = self._weighed(term, value, class_weights, None, samples=len(logits))
                total = total + factor * (value[:, 1:] if skips else value).mean(1)
        return total

    def set_class_weights(self, weights: Sequence[float]) -> None:
        """Weigh classes by other weights from now on.

        Args:
            weights: One weight a class, at least 0.

        Raises:
            InputError: If a weight is negative or not finite, or all are 0.
        """
        self.class_weights = _weights_of_classes(weights)
        self._copies.clear()

    def _row_weights(self, sample_weight: Tensor) -> Tensor:
        """Weights of samples, such that their mean over the batch is the mean asked for."""
        if self.normalize == "batch":
            return sample_weight
        return sample_weight * len(sample_weight) / sample_weight.count_nonzero().clamp(min=1)

    def _class_weights_on(self, device: torch.device) -> Tensor | None:
        """The class weights, copied to a device once."""
        if self.class_weights is None:
            return None
        if device not in self._copies:
            # An evaluation may be the first to ask; its inference tensors could not be trained on.
            with torch.inference_mode(mode=False):
                self._copies[device] = self.class_weights.to(device)
        return self._copies[device]

    def extra_repr(self) -> str:
        """The expression, for printing."""
        return self.expression

    def _check_weights(self, sample_weight: Tensor | None, samples: int, classes: int) -> None:
        """Raise ValueError on weights for another number of samples or classes."""
        for weights, expected, things in (
            (sample_weight, samples, "samples"),
            (self.class_weights, classes, "classes"),
        ):
            if weights is not None and weights.shape != (expected,):
                msg = f"found weights of shape {tuple(weights.shape)} for {expected} {things}"
                raise ValueError(msg)


def _ledger_row(counted: Tensor, samples: int, classes: int) -> Tensor:
    """A term's values for every sample, 0 for a background that is left out, without gradient."""
    row = counted.detach()
    if row.shape[1] < classes:
        row = torch.cat([row.new_zeros(len(row), 1), row], 1)
    return row if len(row) == samples else row.expand(samples, classes)


def _weights_of_classes(weights: Sequence[float] | None) -> Tensor | None:
    if weights is None:
        return None
    if (
        not weights
        or not all(math.isfinite(weight) and weight >= 0 for weight in weights)
        or not any(weights)
    ):
        msg = (
            f"--model.class_weights: found {list(weights)}, expected finite numbers of at least 0, "
            "one of them above; correct the list"
        )
        raise InputError(msg)
    return torch.tensor(weights, dtype=torch.float32)
