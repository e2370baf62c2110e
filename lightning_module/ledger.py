"""The loss ledger of an epoch: what each term and class contributed, added up on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_module.keys import unique_slugs

REGULARIZATION = "regularization"


class LossLedger(Metric):
    """Mean of the matrices of a ``CompoundLoss`` over the samples of an epoch, on all processes.

    Args:
        term_names: Names of the T terms.
        term_weights: Their weights.
        class_names: Names of the K classes.
        skips_background: For each term whether it leaves the first class out; None where none does.
    """

    full_state_update = False
    sums: Tensor
    samples: Tensor
    penalties: Tensor

    def __init__(
        self,
        term_names: Sequence[str],
        term_weights: Sequence[float],
        class_names: Sequence[str],
        skips_background: Sequence[bool] | None = None,
    ) -> None:
        super().__init__()
        self.term_names = unique_slugs(term_names)
        self.term_weights = tuple(term_weights)
        self.class_names = unique_slugs(class_names)
        self.skips_background = tuple(skips_background or [False] * len(self.term_names))
        self.add_state(
            "sums", torch.zeros(len(self.term_names), len(self.class_names)), dist_reduce_fx="sum"
        )
        self.add_state("samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("penalties", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, ledger: Tensor, penalty: Tensor | None = None) -> None:
        """Add one batch.

        Args:
            ledger: Values of each term, sample and class, shape ``(T, B, K)``.
            penalty: What was added to the batch's loss beside its terms, a scalar.
        """
        self.sums += ledger.sum(1)
        self.samples += ledger.shape[1]
        if penalty is not None:
            self.penalties += penalty.detach() * ledger.shape[1]

    def compute(self) -> dict[str, float]:
        """Means over all samples.

        Returns:
            ``loss/<term>/<class>`` of the classes that count in a term, ``loss/regularization``
            where there is some, and ``loss``: the means over classes of all terms, added by term
            weights, and the regularization.
        """
        samples = self.samples.cpu()
        means = self.sums.cpu().double() / samples
        first = [int(skips) for skips in self.skips_background]
        result = {"loss": 0.0}
        for term, weight, skipped, row in zip(
            self.term_names, self.term_weights, first, means.tolist(), strict=True
        ):
            counted = row[skipped:]
            result["loss"] += weight * sum(counted) / max(1, len(counted))
            for name, value in zip(self.class_names[skipped:], counted, strict=True):
                result[f"loss/{term}/{name}"] = value
        # By value and not by whether there were any, which a process without batches cannot know.
        penalty = float(self.penalties.cpu().double() / samples)
        if penalty:
            result["loss"] += penalty
            result[f"loss/{REGULARIZATION}"] = penalty
        return result
