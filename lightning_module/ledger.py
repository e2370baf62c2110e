"""The loss ledger of an epoch: what each term and class contributed, added up on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_module.keys import unique_slugs


class LossLedger(Metric):
    """Mean of the matrices of a ``CompoundLoss`` over the samples of an epoch, on all processes.

    Args:
        term_names: Names of the T terms.
        term_weights: Their weights.
        class_names: Names of the K classes.
    """

    full_state_update = False
    sums: Tensor
    samples: Tensor

    def __init__(
        self, term_names: Sequence[str], term_weights: Sequence[float], class_names: Sequence[str]
    ) -> None:
        super().__init__()
        self.term_names = unique_slugs(term_names)
        self.term_weights = tuple(term_weights)
        self.class_names = unique_slugs(class_names)
        self.add_state(
            "sums", torch.zeros(len(self.term_names), len(self.class_names)), dist_reduce_fx="sum"
        )
        self.add_state("samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, ledger: Tensor) -> None:
        """Add one batch.

        Args:
            ledger: Values of each term, sample and class, shape ``(T, B, K)``.
        """
        self.sums += ledger.sum(1)
        self.samples += ledger.shape[1]

    def compute(self) -> dict[str, float]:
        """Means over all samples.

        Returns:
            ``loss/<term>/<class>``, and ``loss``: their sum over terms by term weights, averaged
            over classes.
        """
        means = self.sums.cpu().double() / self.samples.cpu()
        weights = torch.tensor(self.term_weights, dtype=torch.float64)
        result = {"loss": float((weights @ means).mean())}
        for term, row in zip(self.term_names, means.tolist(), strict=True):
            for name, value in zip(self.class_names, row, strict=True):
                result[f"loss/{term}/{name}"] = value
        return result
