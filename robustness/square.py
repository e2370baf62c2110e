"""A search that knows no gradient: the touchstone of attacks that do."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import AttackBatch, Passes
from robustness.best import Best
from robustness.directed import DirectedAttack
from robustness.norms import Budget

# From these shares of all queries on, squares cover half of what they did before.
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class SquareSearch(DirectedAttack):
    """Square attack: squares of full epsilon at random places are kept where they help.

    It begins with stripes along the columns. Each query then draws a square in the image and a sign
    for each channel, sets the pixels of the square to clean + or - epsilon, and keeps the image if
    the objective has risen. The squares become smaller as the search goes on.

    Args:
        queries: Forward passes, the first one for the stripes.
        share: Share of the image that a square covers at the beginning.

    References:
        Andriushchenko et al.: Square attack: a query-efficient black-box adversarial attack via
        random search, ECCV 2020, algorithms 1 and 2; the schedule is that of its code.
    """

    queries: int = 100
    share: float = 0.3

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        super().__post_init__()
        self.check_option("norm", self.norm, ("linf",))
        self.check_at_least_one("queries", self.queries)
        if not 0 < self.share <= 1:
            self.refuse("share", self.share, "a number above 0, 1 at most")

    @property
    def passes(self) -> Passes:
        """A forward pass a query."""
        return Passes(self.attacked_points * self.repeats * self.queries, 0)

    def attacked(self, batch: AttackBatch, within: Budget, seed: int, repeat: int) -> Tensor:
        """The best image met; see :meth:`EpsilonAttack.attacked`."""
        width = batch.image.shape[3]
        stripes = _signs(self._drawn(batch, seed, repeat, "stripes", width))[:, :, None, :]
        striped = within.farthest(stripes.expand_as(batch.image))
        best = Best(batch.image)
        best.show(striped, batch.value(self.objective, striped))
        drawn = self._drawn(batch, seed, repeat, "squares", 2 * self.queries)
        signs = _signs(self._drawn(batch, seed, repeat, "signs", self.queries))
        place = _Place(within)
        for query in range(1, self.queries):
            square = place.square(drawn[:, 0, 2 * query : 2 * query + 2], self._share_at(query))
            filled = within.farthest(signs[:, :, query, None, None].expand_as(batch.image))
            tried = torch.where(square, filled, best.image)
            best.show(tried, batch.value(self.objective, tried))
        return best.image

    def _drawn(self, batch: AttackBatch, seed: int, repeat: int, what: str, count: int) -> Tensor:
        """Random numbers in [0, 1) for each channel, shape ``(B, C, count)``."""
        channels = batch.image.shape[1]
        drawn = batch.uniforms(seed, f"{self.name}/{what}", repeat, channels * count)
        return drawn.reshape(len(drawn), channels, count)

    def _share_at(self, query: int) -> float:
        """Share of the image that a square covers."""
        passed = sum(query > share * self.queries for share in _HALVINGS)
        return float(self.share / 2**passed)


class _Place:
    """Where squares may lie: within the box around the pixels that may change."""

    def __init__(self, within: Budget) -> None:
        movable = (within.lower < within.upper).any(dim=1)
        self._ends = [_ends(movable.any(dim=2)), _ends(movable.any(dim=1))]
        self._lines = [torch.arange(size, device=movable.device) for size in movable.shape[1:]]

    def square(self, drawn: Tensor, share: float) -> Tensor:
        """True inside of a square, shape ``(B, 1, H, W)``.

        Args:
            drawn: Where it begins, in [0, 1) of the room there is, shape ``(B, 2)``.
            share: Share of the box that it covers.
        """
        (top, bottom), (left, right) = self._ends
        area = (bottom - top) * (right - left)
        side = (share * area).sqrt().round().clamp(min=1)
        inside = []
        for axis, (first, end) in enumerate(self._ends):
            length = torch.minimum(side, end - first)
            start = first + (drawn[:, axis] * (end - first - length + 1)).floor()
            line = self._lines[axis][None, :]
            inside.append((line >= start[:, None]) & (line < (start + length)[:, None]))
        return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def _ends(some: Tensor) -> tuple[Tensor, Tensor]:
    """First line that holds anything, and the one after the last, shape ``(B,)`` each."""
    lines = some.shape[1]
    first = some.float().argmax(dim=1)
    end = lines - some.flip(1).float().argmax(dim=1)
    return first.float(), torch.where(some.any(dim=1), end, first).float()


def _signs(drawn: Tensor) -> Tensor:
    """-1 or 1 for numbers that are uniform in [0, 1)."""
    return 1 - 2 * (drawn < 0.5).float()  # noqa: PLR2004
