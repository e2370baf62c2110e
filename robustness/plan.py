"""What an evaluation will do to every slice: its rows, its repeats and what that costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from robustness.attack import Attack, AttackBatch, Passes, check_name
from robustness.counts import CLEAN_ROW, Row
from robustness.repeated_attack import RepeatedAttack


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
