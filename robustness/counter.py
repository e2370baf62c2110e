"""Puts batches through every disturbance of a plan and counts what it does to a network."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustness.attack import Attack, AttackBatch
from robustness.batches import Piece, Regrouped, attack_batch
from robustness.calibration import CalibrationTable, Places, bin_places
from robustness.counts import CLEAN, CLEAN_ROW, CountTable, Truth, mean_change, slice_counts
from robustness.distances import DistanceTable
from robustness.minimum_norm import MinimumNormAttack
from robustness.objectives import OBJECTIVES, Objective
from robustness.pair_counts import PairCountTable
from robustness.plan import Plan
from robustness.saliency import Forward, check_logits

# So many logits are counted at once: 256 slices of 64 x 64.
_AT_ONCE = 2**20


@dataclass(frozen=True)
class Measured:
    """What an evaluation measures on one network, of the slices that this process was given.

    Attributes:
        counts: Hits and misses, by case.
        distances: Of attacks of least length, by slice; only where they were made on this network.
        calibration: How probabilities fit the truth.
        pairs: What the first repeats of attacks that stop by themselves count, by slice.
    """

    counts: CountTable
    distances: DistanceTable
    calibration: CalibrationTable
    pairs: PairCountTable

    @classmethod
    def nothing(cls, plan: Plan, device: torch.device) -> "Measured":
        """Room for all that a plan measures.

        Args:
            plan: What is done to every slice.
            device: Where it is counted.
        """
        return cls(
            CountTable(plan.rows, device),
            DistanceTable(),
            CalibrationTable(plan.rows, device),
            PairCountTable(plan, device),
        )


@dataclass(frozen=True)
class Attacker:
    """What attacks know.

    Attributes:
        forward: Gives logits ``(B, K, H, W)`` of the network that the attacks are made on. Where it
            is another one than the network they are counted on, attacks are transferred.
        objectives: What gradients may be taken of, by name.
        counted_by: The same network in another form, such as compiled, where disturbed slices are
            counted on that.
    """

    forward: Forward
    objectives: Mapping[str, Objective] = field(default_factory=lambda: OBJECTIVES)
    counted_by: Forward | None = None


class Counter:
    """Counts one piece after the other.

    Slices that an attack has settled before it begins are counted as they are. The others are held
    back until they fill a piece, so that all batches have one size.

    Args:
        victims: Networks that disturbed slices are counted on, each with where its counts go.
        attacker: What the attacks know.
        plan: What is done to every slice.
        device: Where all the networks are.
        seed: The seed of the attacks.
        batch_size: Slices in a piece.
    """

    def __init__(
        self,
        victims: Sequence[tuple[Forward, Measured]],
        attacker: Attacker,
        plan: Plan,
        *,
        device: torch.device,
        seed: int,
        batch_size: int,
    ) -> None:
        self._victims, self._attacker, self._plan = victims, attacker, plan
        self._device, self._seed = device, seed
        self._rows = {
            (row.attack, row.point_index, row.repeat): index for index, row in enumerate(plan.rows)
        }
        self._held = {attack.name: Regrouped(batch_size) for attack in plan.attacks}
        self._ends: list[tuple[str, tuple[Tensor, Tensor]]] = []

    def count(self, piece: Piece) -> None:
        """Count slices under all attacks, but for those that are held back.

        Args:
            piece: From :func:`robustness.batches.fixed_size`.

        Raises:
            ValueError: As in :func:`robustness.engine.evaluate`.
        """
        met = self._meet(piece)
        clean: list[Tensor] = []
        if CLEAN_ROW in self._plan.rows:
            clean = self._logits(met, met.batch.image)
            self._add((CLEAN, 0, 0), met, met.batch.image, clean)
            self._count_up(met)
            self._refuse_broken()
        for attack in self._plan.attacks:
            with _naming(attack):
                settled = attack.settled(met.batch)
                if settled is None or not clean:
                    self._attack(attack, met)
                else:
                    left, rest = piece.split(settled)
                    real = settled[: len(piece.cases)]
                    self._leave(attack, left, [logits[real] for logits in clean])
                    self._attack_all(attack, self._held[attack.name].push(rest))
        self._refuse_broken()

    def finish(self) -> None:
        """Count the slices that were held back.

        Raises:
            ValueError: As in :func:`robustness.engine.evaluate`.
        """
        for attack in self._plan.attacks:
            with _naming(attack):
                self._attack_all(attack, self._held[attack.name].rest())
        self._refuse_broken()

    def _meet(self, piece: Piece) -> "_Met":
        """What all disturbances of a piece have in common."""
        attacker = self._attacker
        batch = attack_batch(attacker.forward, piece, self._device, attacker.objectives)
        real = slice(0, len(piece.cases))
        counted, truth = batch.counted[real], batch.mask[real] > 0
        return _Met(
            cases=piece.cases,
            batch=batch,
            slots=[found.counts.slots(piece.cases, truth.shape[1]) for _, found in self._victims],
            rooms=[found.pairs.room(piece.cases, truth.shape[1]) for _, found in self._victims],
            truth=Truth.of(truth, counted),
            places=bin_places(truth, counted & batch.valid[real]),
        )

    def _attack(self, attack: Attack, met: "_Met") -> None:
        degenerate = attack.degenerate(met.batch)
        for point, repeat, disturbed in self._plan.disturb(attack, met.batch, self._seed):
            logits = self._logits(met, disturbed)
            self._add((attack.name, point, repeat), met, disturbed, logits, degenerate)
            self._measure(attack, (point, repeat), met, disturbed)
        self._count_up(met)

    def _attack_all(self, attack: Attack, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self._attack(attack, self._meet(piece))

    def _leave(self, attack: Attack, piece: Piece, clean: Sequence[Tensor]) -> None:
        """Count slices as they are, at every point of an attack that has settled them."""
        if not piece.cases:
            return
        met = self._meet(piece)
        image = met.batch.image
        for name, point, repeat in self._rows:
            if name == attack.name:
                self._add((name, point, repeat), met, image, clean)
                self._measure(attack, (point, repeat), met, image, clean)
        self._count_up(met)

    def _logits(self, met: "_Met", disturbed: Tensor) -> list[Tensor]:
        """What each victim makes of the disturbed slices, without those that only fill up."""
        given = []
        for forward, _ in self._victims:
            with torch.no_grad():
                logits = forward(disturbed).float()
            check_logits(logits, met.batch.mask)
            given.append(logits[: len(met.cases)])
        return given

    def _add(
        self,
        row: tuple[str, int, int],
        met: "_Met",
        disturbed: Tensor,
        logits: Sequence[Tensor],
        degenerate: Tensor | None = None,
    ) -> None:
        """Keep what a disturbance leads to until there is enough to count at once.

        Without ``degenerate`` the attack has something to go by on every slice.
        """
        real = slice(0, len(met.cases))
        if degenerate is None:
            degenerate = torch.zeros_like(met.batch.case_keys, dtype=torch.bool)
        change = mean_change(met.batch.image[real], disturbed[real])
        met.uncounted.append(_Uncounted(self._rows[row], logits, change, degenerate[real]))
        if len(met.uncounted) * logits[0].numel() >= _AT_ONCE:
            self._count_up(met)

    def _count_up(self, met: "_Met") -> None:
        """Count what was kept, on all victims: many small steps for few disturbances cost more."""
        kept = met.uncounted[:]
        met.uncounted.clear()
        if not kept:
            return
        rows = torch.tensor([one.row for one in kept], device=self._device)
        change = torch.stack([one.change for one in kept])
        degenerate = torch.stack([one.degenerate for one in kept])
        for number, (_, found) in enumerate(self._victims):
            logits = torch.stack([one.logits[number] for one in kept])
            # NaN is above no threshold: a network that diverged would pass for one that finds
            # nothing. Looked at once a batch, since looking waits for the device.
            self._ends.append((self._plan.rows[kept[-1].row].attack, torch.aminmax(logits)))
            values = slice_counts(logits > 0, met.truth, change, degenerate)
            found.counts.add(rows, met.slots[number], values)
            found.pairs.add(rows, met.rooms[number], values)
            found.calibration.add(rows, logits.sigmoid_(), met.places)

    def _refuse_broken(self) -> None:
        """Raise ValueError if a network gave NaN or infinite logits since this was last asked."""
        if not self._ends:
            return
        ends = torch.stack([torch.stack(both) for _, both in self._ends])
        broken = (~torch.isfinite(ends).all(dim=1)).tolist()
        first = next((name for (name, _), bad in zip(self._ends, broken, strict=True) if bad), None)
        self._ends.clear()
        if first is not None:
            where = "clean slices" if first == CLEAN else "disturbed slices"
            prefix = "" if first == CLEAN else f"attack {first}: "
            msg = f"{prefix}the network gives NaN or infinite logits on {where}"
            raise ValueError(msg)

    def _measure(
        self,
        attack: Attack,
        row: tuple[int, int],
        met: "_Met",
        disturbed: Tensor,
        clean: Sequence[Tensor] = (),
    ) -> None:
        """Keep distances with the network that the attack was made on; others have none.

        The clean logits of each victim are given where the attack has not looked at the slices.
        """
        if not isinstance(attack, MinimumNormAttack):
            return
        point, repeat = row
        for number, (forward, found) in enumerate(self._victims):
            if forward in {self._attacker.forward, self._attacker.counted_by}:
                known = clean[number] if clean else met.batch.clean_ascent(attack.objective).logits
                distances, dice = attack.measure(met.batch, point, disturbed, known)
                found.distances.add(
                    attack,
                    point_index=point,
                    repeat=repeat,
                    cases=met.cases,
                    slice_index=met.batch.slice_index,
                    distances=distances,
                    clean_dice=dice,
                )


@dataclass(frozen=True)
class _Uncounted:
    """What one disturbance led to.

    Attributes:
        row: Its index in the plan.
        logits: Of each victim, shape ``(B, K, H, W)``.
        change: From :func:`mean_change`, shape ``(B,)``.
        degenerate: True where the attack had nothing to go by, shape ``(B,)``.
    """

    row: int
    logits: Sequence[Tensor]
    change: Tensor
    degenerate: Tensor


@dataclass(frozen=True)
class _Met:
    """A piece with all that is the same for its disturbances.

    Attributes:
        cases: The case of each slice that does not only fill the piece up.
        batch: What attacks get to see.
        slots: Where each victim's counts of these slices go.
        rooms: Where each victim's counts of pairs of repeats go.
        truth: What they are counted against.
        places: Where their probabilities are counted.
        uncounted: What disturbances led to and is still to be counted.
    """

    cases: list[str]
    batch: AttackBatch
    slots: list[Tensor]
    rooms: list[Tensor]
    truth: Truth
    places: Places
    uncounted: list[_Uncounted] = field(default_factory=list)


@contextmanager
def _naming(attack: Attack) -> Iterator[None]:
    """Say which attack could not be made."""
    try:
        yield
    except ValueError as error:
        msg = str(error)
        prefix = f"attack {attack.name}: "
        raise ValueError(msg if msg.startswith(prefix) else prefix + msg) from error
