"""Corruptions of the scanner kind as attacks: what happens to a scan without anybody's intent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustness.attack import AttackBatch, Passes, check_name
from robustness.corruption_kinds import KINDS
from robustness.corruption_models import Draw
from robustness.keyed_random import absorb, slice_keys
from robustness.repeated_attack import RepeatedAttack, by_repeat

_MOST_SEVERE = 5
# Which slices, and the rows and columns of their box.
Box = tuple[Tensor, slice, slice]


@dataclass(frozen=True)
class CorruptionAttack(RepeatedAttack):
    """Corrupts slices as a scanner does, in five severities; the strengths stand in ``KINDS``.

    The scan is the box around a slice's valid pixels: what lies in the padding neither changes nor
    has a share in the result. All slices with the same box are corrupted at once on their device.
    Values are not clipped: nothing but the model of a kind decides them, and magnitudes (Rician
    noise, ghosting) never fall below ``low``.

    Args:
        name: Unique name, such as ``corruption_blur``.
        kind: One of ``gaussian_noise``, ``rician_noise``, ``blur``, ``ghosting``, ``bias_field``,
            ``spike``, ``gamma``, ``low_resolution``, ``intensity_shift`` and ``occlusion``.
        severities: Rising numbers from 0 to 5; 0 is the clean slice.
        low: Lower end of the image range, where there is no signal; in image units (after scaling).
        high: Upper end of the image range.
        repeats: How often a random kind is drawn; 1 where nothing is random.
        valid_only: Leave padding alone; otherwise it is part of the scan.
        half_width: How wide the 95 % interval of the mean Dice over repeats may be to either
            side: each point takes as many repeats as that needs, ``repeats`` at most; 0 takes all.

    Raises:
        ValueError: If a setting makes no sense.
    """

    kind: str
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    low: float = 0.0
    high: float = 0.2
    repeats: int = 1
    valid_only: bool = True
    half_width: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        check_name(self.name)
        self.check_option("kind", self.kind, KINDS)
        if not self.severities or not set(self.severities) <= set(range(_MOST_SEVERE + 1)):
            self.refuse("severities", self.severities, "one or more of 0, 1, 2, 3, 4, 5")
        self.check_rising("severities", self.severities)
        self.check_range(self.low, self.high)
        if not KINDS[self.kind].ranged:
            self.check_unused(("low", "high"), f"kind is {self.kind}")
        self.check_repeats(random=KINDS[self.kind].random, what=self.kind)

    @property
    def axis(self) -> str:
        """How severe the corruption is."""
        return "severity"

    @property
    def unit(self) -> str:
        """Severities are ranks: the strengths behind them stand in ``KINDS``."""
        return "severity"

    @property
    def points(self) -> tuple[float, ...]:
        """The severities."""
        return tuple(float(severity) for severity in self.severities)

    @property
    def passes(self) -> Passes:
        """None: a corruption does not know the network."""
        return Passes(0, 0)

    def disturb_repeats(
        self, batch: AttackBatch, seed: int, repeats: Sequence[range]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """The same draw at each severity; see :meth:`RepeatedAttack.disturb_repeats`."""
        region = batch.movable(valid_only=self.valid_only)
        boxes = _boxes(region)
        for repeat, indices in by_repeat(repeats):
            keys = absorb(
                slice_keys(seed, f"{self.name}/draw", batch.case_keys, batch.slice_index), repeat
            )
            for index in indices:
                severity = self.severities[index]
                yield index, repeat, self._corrupted(batch.image, region, boxes, keys, severity)

    def _corrupted(
        self, image: Tensor, region: Tensor, boxes: list[Box], keys: Tensor, severity: int
    ) -> Tensor:
        corrupted = image.clone()
        if severity == 0:
            return corrupted
        kind = KINDS[self.kind]
        for slices, rows, columns in boxes:
            scans = image[slices, :, rows, columns]
            draw = Draw(self.low, self.high, keys[slices])
            found = kind.apply(scans, kind.strengths[severity - 1], draw)
            inside = region[slices, :, rows, columns]
            corrupted[slices, :, rows, columns] = torch.where(inside, found, scans)
        return corrupted


def _boxes(region: Tensor) -> list[Box]:
    """The smallest boxes around what is True in ``(B, 1, H, W)``, each with its slices.

    Slices without anything are in none. Slices of one case have one box, so that there are about as
    many as there are cases in a batch.
    """
    ends = []
    for lines in (region[:, 0].any(dim=2), region[:, 0].any(dim=1)):
        places = torch.arange(lines.shape[1], device=region.device).expand_as(lines)
        ends += [
            places.masked_fill(~lines, lines.shape[1]).amin(dim=1),
            places.masked_fill(~lines, -1).amax(dim=1) + 1,
        ]
    found, which = torch.stack(ends, dim=1).unique(  # type: ignore[no-untyped-call]
        dim=0, return_inverse=True
    )
    return [
        ((which == number).nonzero()[:, 0], slice(top, bottom), slice(left, right))
        for number, (top, bottom, left, right) in enumerate(found.tolist())
        if top < bottom
    ]
