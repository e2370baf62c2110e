"""Puts the slices of cases together again as batches come by, case after case."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class CaseSlices:
    """The slices of one case that have come so far.

    Attributes:
        values: By slice, shape ``(Z, K, H, W)``, float32.
        there: Which slices have come, bool, shape ``(Z,)``.
    """

    values: NDArray[np.float32]
    there: NDArray[np.bool_]

    @property
    def complete(self) -> bool:
        """Whether all slices have come."""
        return bool(self.there.all())

    def take_in(self, other: "CaseSlices") -> None:
        """Add what another process has of the case."""
        self.values[other.there] = other.values[other.there]
        self.there |= other.there


class CaseVolumes:
    """Hands out each case when its last slice has come, and holds no more than it must.

    Args:
        slices: How many slices each case has, by name.
    """

    def __init__(self, slices: Mapping[str, int]) -> None:
        self._slices = slices
        self._begun: dict[str, CaseSlices] = {}

    def add(
        self, cases: Sequence[str], indices: Sequence[int], values: NDArray[np.float32]
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Take in a batch.

        Args:
            cases: Case of each slice.
            indices: Index of each slice in its volume.
            values: Shape ``(B, K, H, W)``.

        Yields:
            Name and values ``(Z, K, H, W)`` of each case that is complete now.
        """
        for case, index, value in zip(cases, indices, values, strict=True):
            if case not in self._begun:
                depth = self._slices[case]
                self._begun[case] = CaseSlices(
                    np.zeros((depth, *value.shape), dtype=np.float32), np.zeros(depth, dtype=bool)
                )
            self._begun[case].values[index] = value
            self._begun[case].there[index] = True
        yield from self._complete()

    def rest(self) -> dict[str, CaseSlices]:
        """The cases of which slices are missing, such as those that another process has."""
        return dict(self._begun)

    def take_in(
        self, parts: Sequence[Mapping[str, CaseSlices]]
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Join what is left over in several processes.

        Args:
            parts: :meth:`rest` of each process.

        Yields:
            Name and values of each case that is complete now.
        """
        self._begun = {}
        for part in parts:
            for case, begun in part.items():
                if case in self._begun:
                    self._begun[case].take_in(begun)
                else:
                    self._begun[case] = begun
        yield from self._complete()

    def _complete(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        for case in [name for name, begun in self._begun.items() if begun.complete]:
            yield case, self._begun.pop(case).values
