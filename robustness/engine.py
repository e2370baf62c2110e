"""Evaluates attacks on a network: one gradient per batch, then all disturbed copies, and counts."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustness.attack import Attack, AttackBatch, Passes, check_name
from robustness.batches import Batch, Piece, attack_batch, fixed_size, ordinary_tensors
from robustness.calibration import CalibrationTable
from robustness.counts import CLEAN, CLEAN_ROW, CountTable, Row, slice_counts
from robustness.distances import DistanceTable
from robustness.minimum_norm import MinimumNormAttack
from robustness.objectives import OBJECTIVES, Objective
from robustness.saliency import Forward, check_logits


@dataclass(frozen=True)
class Plan:
    """What an evaluation will do to every slice.

    Attributes:
        attacks: The attacks, with unique names.
        rows: One row of the counts for the clean slices and for each attack, point and repeat.
    """

    attacks: tuple[Attack, ...]
    rows: tuple[Row, ...]

    @property
    def cost(self) -> Passes:
        """Passes of each slice: the engine's own, and those of the attacks; shared ones once."""
        own = [attack.passes for attack in self.attacks]
        taken = [attack.clean_gradients for attack in self.attacks]
        again = sum(map(len, taken)) - len(frozenset().union(*taken))
        return Passes(
            len(self.rows) + sum(passes.forward for passes in own) - again,
            sum(passes.backward for passes in own) - again,
        )


@dataclass(frozen=True)
class Measured:
    """What an evaluation measures on one network, of the slices that this process was given.

    Attributes:
        counts: Hits and misses, by case.
        distances: Of attacks of least length, by slice; only where they were made on this network.
        calibration: How probabilities fit the truth.
    """

    counts: CountTable
    distances: DistanceTable
    calibration: CalibrationTable


@dataclass(frozen=True)
class Attacker:
    """What attacks know.

    Attributes:
        forward: Gives logits ``(B, K, H, W)`` of the network that the attacks are made on. Where it
            is another one than the network they are counted on, attacks are transferred.
        objectives: What gradients may be taken of, by name.
    """

    forward: Forward
    objectives: Mapping[str, Objective] = field(default_factory=lambda: OBJECTIVES)


def make_plan(attacks: Sequence[Attack]) -> Plan:
    """Lay out the rows of the counts.

    Args:
        attacks: The attacks.

    Returns:
        The plan, clean slices first.

    Raises:
        ValueError: If two attacks have the same name, one is called like the clean row, or a name
            is no slug of ``[a-z0-9_.-]``: it becomes part of metrics' keys and files' names. If
            an attack refers to another one that is not there.
    """
    names = [attack.name for attack in attacks]
    for name in names:
        check_name(name)
        if names.count(name) > 1 or name == CLEAN_ROW.attack:
            msg = f"attack {name}: the name is taken, expected a unique one"
            raise ValueError(msg)
    rows = [CLEAN_ROW]
    for attack in attacks:
        attack.check_among(attacks)
        rows += [
            Row(attack.name, attack.axis, index, point, repeat)
            for index, point in enumerate(attack.points)
            for repeat in range(attack.repeats)
        ]
    return Plan(tuple(attacks), tuple(rows))


def evaluate(
    forward: Forward,
    batches: Iterable[Batch],
    plan: Plan,
    *,
    device: torch.device,
    seed: int = 0,
    batch_size: int = 32,
    attacker: Attacker | None = None,
    on_slices: Callable[[int], None] = lambda slices: None,
) -> Measured:
    """Attack every slice and count hits and misses.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images; in evaluation mode.
        batches: Batches of the design: ``image``, ``mask``, ``valid``, ``case``, ``slice_index``.
        plan: From :func:`make_plan`.
        device: Where the network is.
        seed: The seed of the attacks.
        batch_size: The one size of all batches. Logits of another size may differ by rounding.
        attacker: What the attacks know; None is the network and the objectives of this package.
        on_slices: Called with the number of slices after each batch is done.

    Returns:
        What was measured on the slices that this process was given.

    Raises:
        ValueError: If logits and masks differ in shape, a batch's slices do not fit an attack, or
            clean logits or a gradient are not finite.
    """
    (found,) = evaluate_many(
        [forward],
        batches,
        plan,
        attacker or Attacker(forward),
        device=device,
        seed=seed,
        batch_size=batch_size,
        on_slices=on_slices,
    )
    return found


def evaluate_many(
    victims: Sequence[Forward],
    batches: Iterable[Batch],
    plan: Plan,
    attacker: Attacker,
    *,
    device: torch.device,
    seed: int = 0,
    batch_size: int = 32,
    on_slices: Callable[[int], None] = lambda slices: None,
) -> list[Measured]:
    """Make each attack once, on one network, and count what it does to several (transfer).

    Args:
        victims: Networks that the disturbed slices are counted on, as in :func:`evaluate`.
        batches: As in :func:`evaluate`.
        plan: From :func:`make_plan`.
        attacker: What the attacks know.
        device: Where all the networks are.
        seed: The seed of the attacks.
        batch_size: The one size of all batches.
        on_slices: Called with the number of slices after each batch is done.

    Returns:
        What was measured on each victim.

    Raises:
        ValueError: As in :func:`evaluate`.
    """
    found = [
        Measured(
            CountTable(plan.rows, device), DistanceTable(), CalibrationTable(plan.rows, device)
        )
        for _ in victims
    ]
    counter = _Counter(tuple(zip(victims, found, strict=True)), attacker, plan, seed, device)
    for piece in fixed_size(batches, batch_size):
        with ordinary_tensors():
            counter.count(piece)
        on_slices(len(piece.cases))
    return found


def seconds_per_slice(forward: Forward, image: Tensor, batch_size: int, trials: int = 3) -> float:
    """Measure what one slice costs in a forward pass, to say how long an evaluation takes.

    Args:
        forward: Gives logits for images.
        image: Some slices, shape ``(B, C, H, W)``, on the network's device.
        batch_size: The size of the engine's batches.
        trials: How many batches are timed after one that warms up.

    Returns:
        Seconds, the median of the trials.
    """
    full = image[torch.arange(batch_size, device=image.device) % image.shape[0]]
    taken = []
    with torch.no_grad():
        for _ in range(trials + 1):
            start = time.perf_counter()
            # Reading a number waits for the device.
            forward(full).float().sum().item()
            taken.append(time.perf_counter() - start)
    return sorted(taken[1:])[trials // 2] / batch_size


@dataclass(frozen=True)
class _Counter:
    """Puts a piece through every disturbance of a plan."""

    victims: tuple[tuple[Forward, Measured], ...]
    attacker: Attacker
    plan: Plan
    seed: int
    device: torch.device
    _rows: dict[tuple[str, int, int], int] = field(init=False, repr=False)
    _broken: list[Tensor] = field(default_factory=list, init=False, repr=False)
    _rows_seen: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        rows = {
            (row.attack, row.point_index, row.repeat): index
            for index, row in enumerate(self.plan.rows)
        }
        object.__setattr__(self, "_rows", rows)

    def count(self, piece: Piece) -> None:
        batch = attack_batch(self.attacker.forward, piece, self.device, self.attacker.objectives)
        classes = batch.mask.shape[1]
        slots = [found.counts.slots(piece.cases, classes) for _, found in self.victims]
        undisturbed = torch.zeros_like(batch.case_keys, dtype=torch.bool)
        clean = self._count_row((CLEAN, 0, 0), batch, batch.image, undisturbed, slots)
        self._refuse_broken()
        for attack in self.plan.attacks:
            with _naming(attack):
                degenerate = attack.degenerate(batch)
                for point, repeat, disturbed in attack.disturb(batch, self.seed):
                    row = (attack.name, point, repeat)
                    self._count_row(row, batch, disturbed, degenerate, slots)
                    if isinstance(attack, MinimumNormAttack):
                        self._measure(attack, (point, repeat), piece, batch, disturbed, clean)
        self._refuse_broken()

    def _count_row(
        self,
        row: tuple[str, int, int],
        batch: AttackBatch,
        disturbed: Tensor,
        degenerate: Tensor,
        slots: Sequence[Tensor],
    ) -> list[Tensor]:
        """Count a disturbance on all victims; returns the logits of each."""
        given = []
        real = slice(0, len(slots[0]))
        counted = batch.counted[real]
        for (forward, found), own_slots in zip(self.victims, slots, strict=True):
            with torch.no_grad():
                logits = forward(disturbed).float()
            check_logits(logits, batch.mask)
            # NaN is above no threshold: a network that diverged would pass for one that finds
            # nothing. Looked at once a batch, since looking waits for the device.
            self._broken.append(~torch.isfinite(logits).all())
            self._rows_seen.append(row[0])
            values = slice_counts(
                (logits[real] > 0) & counted,
                (batch.mask[real] > 0) & counted,
                batch.image[real],
                disturbed[real],
                degenerate[real],
            )
            found.counts.add(self._rows[row], own_slots, values)
            truth, known = batch.mask[real] > 0, counted & batch.valid[real]
            found.calibration.add(self._rows[row], logits[real].sigmoid(), truth, known)
            given.append(logits)
        return given

    def _refuse_broken(self) -> None:
        """Raise ValueError if a network gave NaN or infinite logits for this batch."""
        broken = torch.stack(self._broken).tolist() if self._broken else []
        first = next((name for name, bad in zip(self._rows_seen, broken, strict=True) if bad), None)
        self._broken.clear()
        self._rows_seen.clear()
        if first is not None:
            where = "clean slices" if first == CLEAN else "disturbed slices"
            prefix = "" if first == CLEAN else f"attack {first}: "
            msg = f"{prefix}the network gives NaN or infinite logits on {where}"
            raise ValueError(msg)

    def _measure(
        self,
        attack: MinimumNormAttack,
        row: tuple[int, int],
        piece: Piece,
        batch: AttackBatch,
        disturbed: Tensor,
        clean: Sequence[Tensor],
    ) -> None:
        """Keep distances with the network that the attack was made on; others have none."""
        point, repeat = row
        for (forward, found), logits in zip(self.victims, clean, strict=True):
            if forward is self.attacker.forward:
                distances, dice = attack.measure(batch, point, disturbed, logits)
                found.distances.add(
                    attack,
                    point_index=point,
                    repeat=repeat,
                    cases=piece.cases,
                    slice_index=batch.slice_index,
                    distances=distances,
                    clean_dice=dice,
                )


@contextmanager
def _naming(attack: Attack) -> Iterator[None]:
    """Say which attack could not be made."""
    try:
        yield
    except ValueError as error:
        msg = str(error)
        prefix = f"attack {attack.name}: "
        raise ValueError(msg if msg.startswith(prefix) else prefix + msg) from error
