"""Corruptions of the scanner kind as attacks: what happens to a scan without anybody's intent."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from robustness.attack import Attack, AttackBatch, Passes, check_name
from robustness.corruption_kinds import DRAWS, KINDS, Draw
from robustness.keyed_random import counter_hashes, slice_keys

_MOST_SEVERE = 5


@dataclass(frozen=True)
class CorruptionAttack(Attack):
    """Corrupts slices as a scanner does, in five severities; the strengths stand in ``KINDS``.

    The scan is the box around a slice's valid pixels: what lies in the padding neither changes nor
    has a share in the result. It is made on the host, so that it is the same on every device.
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

    Raises:
        ValueError: If a setting makes no sense.
    """

    kind: str
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    low: float = 0.0
    high: float = 0.2
    repeats: int = 1
    valid_only: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that make no sense before anything is computed."""
        check_name(self.name)
        self.check_option("kind", self.kind, KINDS)
        if not self.severities or not set(self.severities) <= set(range(_MOST_SEVERE + 1)):
            self.refuse("severities", self.severities, "one or more of 0, 1, 2, 3, 4, 5")
        if any(low >= high for low, high in pairwise(self.severities)):
            self.refuse("severities", self.severities, "rising numbers, each once")
        if not 0 < self.high - self.low < float("inf"):
            self.refuse("low, high", (self.low, self.high), "a finite range that is not empty")
        if self.repeats < 1:
            self.refuse("repeats", self.repeats, "1 or more")
        if self.repeats != 1 and not KINDS[self.kind].random:
            self.refuse("repeats", self.repeats, f"1, since nothing in {self.kind} is random")

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

    def disturb(self, batch: AttackBatch, seed: int) -> Iterator[tuple[int, int, Tensor]]:
        """The same draw at each severity of a repeat; see :meth:`Attack.disturb`."""
        image = batch.image.cpu()
        region = batch.valid.cpu() if self.valid_only else torch.ones_like(batch.valid).cpu()
        boxes = [_box(one) for one in region]
        for repeat in range(self.repeats):
            draws = self._draws(batch, seed, repeat)
            for index, severity in enumerate(self.severities):
                corrupted = self._corrupted(image, region, boxes, draws, severity)
                yield index, repeat, corrupted.to(batch.image.device)

    def _draws(self, batch: AttackBatch, seed: int, repeat: int) -> list[Draw]:
        """The random numbers of each slice."""
        keys = slice_keys(seed, f"{self.name}/state", batch.case_keys, batch.slice_index)
        # MONAI's random states take 32 bits.
        states = (counter_hashes(keys, repeat, 1)[:, 0] & 0xFFFFFFFF).tolist()
        uniforms = batch.uniforms(seed, f"{self.name}/draw", repeat, DRAWS).cpu()
        pairs = zip(states, uniforms, strict=True)
        return [Draw(self.low, self.high, state, row) for state, row in pairs]

    def _corrupted(
        self,
        image: Tensor,
        region: Tensor,
        boxes: list[tuple[slice, slice] | None],
        draws: list[Draw],
        severity: int,
    ) -> Tensor:
        corrupted = image.clone()
        if severity == 0:
            return corrupted
        kind = KINDS[self.kind]
        for row, (box, draw) in enumerate(zip(boxes, draws, strict=True)):
            if box is None:
                continue
            part = (slice(None), *box)
            found = kind.apply(image[row][part].clone(), kind.strengths[severity - 1], draw)
            corrupted[row][part] = torch.where(region[row][part], found, image[row][part])
        return corrupted


def _box(valid: Tensor) -> tuple[slice, slice] | None:
    """Rows and columns of the smallest box around what is True in ``(1, H, W)``, if anything is."""
    if not valid.any():
        return None
    spans = []
    for other in (1, 0):
        inside = valid[0].any(dim=other).nonzero()
        spans.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return spans[0], spans[1]
