"""Evaluates attacks on a network: one gradient per batch, then all disturbed copies, and counts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustness.attack import Attack, AttackBatch, Passes, check_name
from robustness.batches import Batch, Piece, attack_batch, fixed_size, ordinary_tensors
from robustness.calibration import CalibrationTable, Places, bin_places
from robustness.counts import CLEAN, CLEAN_ROW, CountTable, Row, slice_counts
from robustness.distances import DistanceTable
from robustness.minimum_norm import MinimumNormAttack
from robustness.objectives import OBJECTIVES, Objective
from robustness.repeated_attack import RepeatedAttack
from robustness.saliency import Forward, check_logits


@dataclass(frozen=True)
class Plan:
    """What an evaluation will do to every slice.

    Attributes:
        attacks: The attacks, with unique names.
        rows: One row of the counts for the clean slices and for each attack, point and repeat.
        repeats: Which repeats of an attack are made at each of its points; all repeats of those
            that are not named.
    """

    attacks: tuple[Attack, ...]
    rows: tuple[Row, ...]
    repeats: Mapping[str, Sequence[range]] = field(default_factory=dict)

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

    def disturb(
        self, attack: Attack, batch: AttackBatch, seed: int
    ) -> Iterator[tuple[int, int, Tensor]]:
        """The disturbed copies of a batch that the plan asks for; see :meth:`Attack.disturb`."""
        if isinstance(attack, RepeatedAttack) and attack.name in self.repeats:
            return attack.disturb_repeats(batch, seed, self.repeats[attack.name])
        return attack.disturb(batch, seed)


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


def make_plan(
    attacks: Sequence[Attack], repeats: Mapping[str, Sequence[range]] | None = None
) -> Plan:
    """Lay out the rows of the counts.

    Args:
        attacks: The attacks.
        repeats: Which repeats of a :class:`RepeatedAttack` are made at each of its points, by its
            name; all repeats of those that are not named.

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
    for attack in attacks:
        attack.check_among(attacks)
    chosen = dict(repeats or {})
    return Plan(tuple(attacks), (CLEAN_ROW, *_rows(attacks, chosen)), chosen)


def further_plan(attacks: Sequence[Attack], repeats: Mapping[str, Sequence[range]]) -> Plan:
    """Lay out more repeats of some attacks alone, without the clean slices.

    Args:
        attacks: The attacks of the first plan.
        repeats: Which repeats are made at each point, by name of the attack.
    """
    chosen = tuple(attack for attack in attacks if attack.name in repeats)
    return Plan(chosen, _rows(chosen, repeats), dict(repeats))


def _rows(attacks: Sequence[Attack], repeats: Mapping[str, Sequence[range]]) -> tuple[Row, ...]:
    rows = []
    for attack in attacks:
        made = repeats.get(attack.name, [range(attack.repeats)] * len(attack.points))
        rows += [
            Row(attack.name, attack.axis, index, point, repeat)
            for index, (point, of_point) in enumerate(zip(attack.points, made, strict=True))
            for repeat in of_point
        ]
    return tuple(rows)


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


@dataclass(frozen=True)
class _Counter:
    """Puts a piece through every disturbance of a plan."""

    victims: tuple[tuple[Forward, Measured], ...]
    attacker: Attacker
    plan: Plan
    seed: int
    device: torch.device
    _rows: dict[tuple[str, int, int], int] = field(init=False, repr=False)
    _ends: list[Tensor] = field(default_factory=list, init=False, repr=False)
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
        against = _against(batch, len(piece.cases))
        undisturbed = torch.zeros_like(batch.case_keys, dtype=torch.bool)
        clean: list[Tensor] = []
        if CLEAN_ROW in self.plan.rows:
            clean = self._count_row((CLEAN, 0, 0), batch, against, batch.image, undisturbed, slots)
            self._refuse_broken()
        for attack in self.plan.attacks:
            with _naming(attack):
                degenerate = attack.degenerate(batch)
                for point, repeat, disturbed in self.plan.disturb(attack, batch, self.seed):
                    row = (attack.name, point, repeat)
                    self._count_row(row, batch, against, disturbed, degenerate, slots)
                    if isinstance(attack, MinimumNormAttack):
                        self._measure(attack, (point, repeat), piece, batch, disturbed, clean)
        self._refuse_broken()

    def _count_row(
        self,
        row: tuple[str, int, int],
        batch: AttackBatch,
        against: "_Against",
        disturbed: Tensor,
        degenerate: Tensor,
        slots: Sequence[Tensor],
    ) -> list[Tensor]:
        """Count a disturbance on all victims; returns the logits of each."""
        given = []
        real = against.real
        for (forward, found), own_slots in zip(self.victims, slots, strict=True):
            with torch.no_grad():
                logits = forward(disturbed).float()
            check_logits(logits, batch.mask)
            # NaN is above no threshold: a network that diverged would pass for one that finds
            # nothing. Looked at once a batch, since looking waits for the device.
            self._ends.append(torch.stack(torch.aminmax(logits)))
            self._rows_seen.append(row[0])
            values = slice_counts(
                (logits[real] > 0) & against.counted,
                against.truth,
                batch.image[real],
                disturbed[real],
                degenerate[real],
            )
            found.counts.add(self._rows[row], own_slots, values)
            found.calibration.add(self._rows[row], logits[real].sigmoid(), against.places)
            given.append(logits)
        return given

    def _refuse_broken(self) -> None:
        """Raise ValueError if a network gave NaN or infinite logits for this batch."""
        if not self._ends:
            return
        broken = (~torch.isfinite(torch.stack(self._ends)).all(dim=1)).tolist()
        first = next((name for name, bad in zip(self._rows_seen, broken, strict=True) if bad), None)
        self._ends.clear()
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


@dataclass(frozen=True)
class _Against:
    """What the slices of a piece are counted against, the same for all disturbances.

    Attributes:
        real: The slices that do not only fill the piece up.
        counted: False where the truth is not known, shape ``(B, 1, H, W)``.
        truth: True masks where they are counted, bool, shape ``(B, K, H, W)``.
        places: Where their probabilities are counted.
    """

    real: slice
    counted: Tensor
    truth: Tensor
    places: Places


def _against(batch: AttackBatch, slices: int) -> _Against:
    real = slice(0, slices)
    counted = batch.counted[real]
    truth = batch.mask[real] > 0
    return _Against(real, counted, truth & counted, bin_places(truth, counted & batch.valid[real]))


@contextmanager
def _naming(attack: Attack) -> Iterator[None]:
    """Say which attack could not be made."""
    try:
        yield
    except ValueError as error:
        msg = str(error)
        prefix = f"attack {attack.name}: "
        raise ValueError(msg if msg.startswith(prefix) else prefix + msg) from error
