"""How much the first repeats of random attacks differ, slice by slice.

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
from robustness.repeated_attack import FIRST_REPEATS, PAIR


@dataclass(frozen=True)
class PartialContrasts:
    """The contrasts of one process, ready to be sent to another.

    Attributes:
        points: Attack and index of the point, in the order of the differences.
        cases: The case of each slice.
        differences: True positives and predicted pixels, summed over the first pair of repeats,
            less those of the second: int32, shape ``(points, slices, K, 2)``.
    """

    points: tuple[tuple[str, int], ...]
    cases: tuple[str, ...]
    differences: np.ndarray


class ContrastTable:
    """Keeps how much the first two pairs of repeats differ on each slice, on the device.

    Args:
        plan: What is done to every slice. Attacks of which it makes chosen repeats are compared.
        device: Where the differences are kept.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        signs = [_sign(row.repeat) if row.attack in plan.repeats else 0 for row in plan.rows]
        points = [(row.attack, row.point_index) for row in plan.rows]
        compared = (point for point, sign in zip(points, signs, strict=True) if sign)
        self._points = tuple(dict.fromkeys(compared))
        places = {point: place for place, point in enumerate(self._points)}
        self._place = torch.tensor([places.get(point, 0) for point in points], device=device)
        self._sign = torch.tensor(signs, dtype=torch.int32, device=device)
        self._cases: list[str] = []
        self._differences: list[Tensor] = []

    def room(self, cases: Sequence[str], classes: int) -> Tensor:
        """Where the differences of some slices are added up.

        Args:
            cases: The case of each slice.
            classes: Number of classes K.

        Returns:
            int32 zeros that are the table's own, shape ``(points, B, K, 2)``.
        """
        shape = (len(self._points), len(cases), classes, 2)
        room = torch.zeros(shape, dtype=torch.int32, device=self._place.device)
        if self._points:
            self._cases += cases
            self._differences.append(room)
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
        counted = torch.stack((tp, tp + fp), dim=-1).to(torch.int32)
        room.index_add_(0, self._place[rows], self._sign[rows, None, None, None] * counted)

    def partial(self) -> PartialContrasts:
        """What was found so far, on the host."""
        if self._differences:
            differences = torch.cat(self._differences, dim=1).cpu().numpy()
        else:
            differences = np.zeros((len(self._points), 0, 0, 2), np.int32)
        return PartialContrasts(self._points, tuple(self._cases), differences)


def _sign(repeat: int) -> int:
    """Of the first pair, of the second one, or of neither."""
    return 0 if repeat >= FIRST_REPEATS else 1 if repeat < PAIR else -1
