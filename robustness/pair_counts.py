"""What the first pairs of repeats count on each slice.

The random numbers of different slices are independent, so that slices say far more about the
scatter of a mean Dice than the few repeats or cases do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustness.counts import FIELDS
from robustness.plan import Plan
from robustness.repeated_attack import FIRST_PAIRS, FIRST_REPEATS, PAIR


@dataclass(frozen=True)
class PartialPairCounts:
    """The counts of one process, ready to be sent to another.

    Attributes:
        points: Attack and index of the point, in the order of the sums.
        cases: The case of each slice. Slices of which nothing was ever predicted are left out.
        sums: True positives and predicted pixels, added up over each of the first pairs of repeats:
            int32, shape ``(points, FIRST_PAIRS, slices, K, 2)``.
    """

    points: tuple[tuple[str, int], ...]
    cases: tuple[str, ...]
    sums: np.ndarray


class PairCountTable:
    """Adds up what the first pairs of repeats count on each slice, on the device.

    Args:
        plan: What is done to every slice. Attacks of which it makes chosen repeats are counted.
        device: Where the sums are kept.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        counted = [row.attack in plan.repeats and row.repeat < FIRST_REPEATS for row in plan.rows]
        rows = [
            (row.attack, row.point_index)
            for row, first in zip(plan.rows, counted, strict=True)
            if first
        ]
        self._points = tuple(dict.fromkeys(rows))
        place_of = {point: place for place, point in enumerate(self._points)}
        places = [
            place_of[row.attack, row.point_index] * FIRST_PAIRS + row.repeat // PAIR if first else 0
            for row, first in zip(plan.rows, counted, strict=True)
        ]
        self._places = torch.tensor(places, device=device)
        self._counted = torch.tensor(counted, dtype=torch.int32, device=device)
        self._cases: list[str] = []
        self._sums: list[Tensor] = []

    def room(self, cases: Sequence[str], classes: int) -> Tensor:
        """Where the counts of some slices are added up.

        Args:
            cases: The case of each slice.
            classes: Number of classes K.

        Returns:
            int32 zeros that are the table's own, shape ``(points * FIRST_PAIRS, B, K, 2)``.
        """
        shape = (len(self._points) * FIRST_PAIRS, len(cases), classes, 2)
        room = torch.zeros(shape, dtype=torch.int32, device=self._places.device)
        if self._points:
            self._cases += cases
            self._sums.append(room)
        return room

    def add(self, rows: Tensor, room: Tensor, values: Tensor) -> None:
        """Add the counts of a batch under some disturbances.

        Args:
            rows: Indices of the disturbances, each once, int64, shape ``(R,)``.
            room: From :meth:`room`.
            values: From :func:`robustness.counts.slice_counts`, shape ``(R, B, K, fields)``.
        """
        if not self._points:
            return
        tp, fp = (values[..., FIELDS.index(name)] for name in ("tp", "fp"))
        both = torch.stack((tp, tp + fp), dim=-1).to(torch.int32)
        room.index_add_(0, self._places[rows], self._counted[rows, None, None, None] * both)

    def partial(self) -> PartialPairCounts:
        """What was counted so far, on the host."""
        if not self._sums:
            nothing = np.zeros((len(self._points), FIRST_PAIRS, 0, 0, 2), np.int32)
            return PartialPairCounts(self._points, (), nothing)
        sums = torch.cat(self._sums, dim=1).cpu().numpy()
        kept: np.ndarray = np.any(sums, axis=(0, 2, 3))
        cases = tuple(case for case, counted in zip(self._cases, kept, strict=True) if counted)
        shape = (len(self._points), FIRST_PAIRS, len(cases), *sums.shape[2:])
        return PartialPairCounts(self._points, cases, sums[:, kept].reshape(shape))
