"""Overlap of prediction and truth over whole volumes, from slices in any order on any process."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lightning_module.keys import unique_slugs


class VolumeOverlap(Metric):
    """Mean Dice and IoU over whole volumes, exact on any number of processes.

    Slices are kept as counts of pixels and a hash of their case, gathered, added up by case, and
    only then turned into scores: ``dice = 2 tp / (2 tp + fp + fn)``, ``iou = tp / (tp + fp + fn)``.
    A volume in which truth and prediction of a class are both empty is left out of that class's
    mean; one whose truth alone is empty scores 0.

    Args:
        class_names: Names of the K classes.

    Example:
        >>> overlap = VolumeOverlap(["foreground"])
        >>> overlap.update(torch.ones(1, 1, 2, 2).bool(), torch.eye(2).view(1, 1, 2, 2), ["case_1"])
        >>> overlap.compute()["dice"]
        0.6666666666666666
    """

    full_state_update = False
    cases: list[Tensor]
    counts: list[Tensor]

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__()
        self.class_names = unique_slugs(class_names)
        self.add_state("cases", default=[], dist_reduce_fx="cat")
        self.add_state("counts", default=[], dist_reduce_fx="cat")
        self._append_nothing()

    def update(self, pred: Tensor, mask: Tensor, case: Sequence[str]) -> None:
        """Count one batch of slices.

        Args:
            pred: Predicted mask, shape ``(B, K, H, W)``, bool.
            mask: True mask of 0 and 1, same shape.
            case: Name of each slice's volume, length B.

        Raises:
            ValueError: If shapes or lengths do not fit.
        """
        expected = (len(case), len(self.class_names))
        if pred.shape[:-2] != expected or pred.shape != mask.shape:
            msg = (
                f"pred has shape {tuple(pred.shape)}, mask {tuple(mask.shape)}; "
                f"expected {expected} and H, W twice, for so many cases and classes"
            )
            raise ValueError(msg)
        pred, truth = pred.bool(), mask.bool()
        hits = (pred & truth).sum((2, 3))
        counts = torch.stack([hits, pred.sum((2, 3)) - hits, truth.sum((2, 3)) - hits], dim=2)
        hashes = [_hash_of(name) for name in case]
        self.cases.append(torch.tensor(hashes, dtype=torch.int64, device=pred.device))
        self.counts.append(counts)

    def compute(self) -> dict[str, float]:
        """Scores of all volumes seen.

        Returns:
            ``dice`` and ``iou`` (mean over volumes, then over classes), ``dice/<class>`` and
            ``iou/<class>`` (mean over volumes), ``volumes``, and ``left_out``: how many pairs of
            volume and class are in no mean. A class left out in every volume is NaN and not in the
            mean over classes.
        """
        names, volume = torch.unique(dim_zero_cat(self.cases).cpu(), return_inverse=True)
        counts = dim_zero_cat(self.counts).cpu()
        totals = counts.new_zeros((len(names), *counts.shape[1:])).index_add_(0, volume, counts)
        hits, errors = totals[..., 0].double(), totals[..., 1:].sum(-1).double()
        # 0 / 0 is NaN, which is what the means leave out.
        scores = {"dice": 2 * hits / (2 * hits + errors), "iou": hits / (hits + errors)}
        result = {"volumes": float(len(names)), "left_out": float(scores["dice"].isnan().sum())}
        for score, by_volume in scores.items():
            by_class = by_volume.nanmean(0)
            result[score] = float(by_class.nanmean())
            for name, value in zip(self.class_names, by_class.tolist(), strict=True):
                result[f"{score}/{name}"] = value
        return result

    def reset(self) -> None:
        """Forget all slices."""
        super().reset()
        self._append_nothing()

    def _append_nothing(self) -> None:
        """Zero rows of the right shape: a process without slices is gathered like the others."""
        self.cases.append(torch.zeros(0, dtype=torch.int64, device=self.device))
        self.counts.append(
            torch.zeros(0, len(self.class_names), 3, dtype=torch.int64, device=self.device)
        )


@lru_cache(maxsize=65536)
def _hash_of(name: str) -> int:
    """63 bits of a hash that is the same on every process and machine, unlike ``hash``."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1
