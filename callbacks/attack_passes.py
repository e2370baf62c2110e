"""Goes through the slices of a split by a plan, on all processes together."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from lightning.pytorch import Trainer

from callbacks.evaluating import gather, heeding_sigterm, split_batches, split_slices
from callbacks.fastest import Network
from callbacks.progress import clock, progress, say
from robustness.batch_size import seconds_per_slice
from robustness.batches import Batch
from robustness.counter import Attacker
from robustness.counts import CLEAN_ROW
from robustness.engine import evaluate
from robustness.objectives import Objective
from robustness.plan import Plan
from robustness.repeats import Pass, Repeated
from robustness.snapshots import LargestSlices


class AttackPasses:
    """Attacks a network by one plan after another; each is a pass over all slices.

    Args:
        trainer: The trainer at the end of its validation or test.
        network: Attacked as it is, and counted on in the fastest way.
        split: ``val`` or ``test``.
        device: Where the network is.
        seed: Seed of the attacks.
        objectives: What gradients may be taken of, by name.
        pictures: Of how many cases slices are kept for pictures.

    Attributes:
        chooser: Has looked at all slices, once.
        distances: What attacks of least length have measured, of all processes.
    """

    def __init__(
        self,
        trainer: Trainer,
        network: Network,
        split: str,
        *,
        device: torch.device,
        seed: int,
        objectives: Mapping[str, Objective],
        pictures: int,
    ) -> None:
        self.chooser = LargestSlices(pictures)
        self.distances: list[pd.DataFrame] = []
        self._trainer = trainer
        self._network = network
        self._split = split
        self._device = device
        self._seed = seed
        self._objectives = objectives

    def __call__(self, plan: Plan) -> Pass:
        """Go through all slices once.

        Raises:
            ValueError: As in :func:`robustness.engine.evaluate`.
        """
        with progress(self._trainer, "Attacks", self._announce(plan)) as advance:
            found = evaluate(
                self._network.counted_by,
                self._batches(plan),
                plan,
                device=self._device,
                seed=self._seed,
                batch_size=self._network.batch_size,
                attacker=Attacker(
                    self._network.forward, self._objectives, self._network.counted_by
                ),
                on_slices=heeding_sigterm(self._trainer, advance),
            )
        self.distances += gather(found.distances.partial())
        return Pass.of(plan, found, gather)

    def _batches(self, plan: Plan) -> Iterator[Batch]:
        """The batches, shown to the one who chooses slices for pictures as they pass first."""
        for batch in split_batches(self._trainer, self._split):
            if CLEAN_ROW in plan.rows:
                self.chooser.look(batch)
            yield batch

    def _announce(self, plan: Plan) -> int:
        """Say how many passes are coming and how long they take; returns this rank's slices."""
        image = next(split_batches(self._trainer, self._split))["image"]
        slices = split_slices(self._trainer, self._split)
        cost = plan.cost
        # A backward pass to the image costs about two forward passes.
        passes = cost.forward + 2 * cost.backward
        network = self._network
        each = seconds_per_slice(network.counted_by, image, network.batch_size)
        seconds = each * slices * passes
        everywhere: int = sum(gather(slices))
        first = CLEAN_ROW in plan.rows
        # How much more it will be nobody knows before: it is what the first repeats tell.
        then = "; then further repeats of what is random, as its mean Dice needs them"
        say(
            self._trainer,
            f"Attacks on {self._split}: {'' if first else 'further repeats of '}"
            f"{len(plan.attacks)} attacks, {cost.forward} forward and {cost.backward} backward "
            f"passes of {everywhere:,} slices, about {clock(seconds)}"
            f"{then if first and plan.repeats else ''}",
        )
        return slices


def say_repeats(trainer: Trainer, repeated: Mapping[str, Repeated]) -> None:
    """Say how often the attacks that stop by themselves were repeated, and how well it is known."""
    if not repeated:
        return
    asked = sorted({found.asked for found in repeated.values()})
    wide = " or ".join(f"+-{half_width:g}" for half_width in asked)
    each = [f"{name} {_least_to_most(found.repeats)}" for name, found in repeated.items()]
    say(trainer, f"Repeats for a mean Dice within {wide}: {', '.join(each)}")
    for name, found in repeated.items():
        if not found.reached:
            say(
                trainer,
                f"Note: the mean Dice of {name} is known within +-{max(found.half_widths):.3f} at "
                f"its worst point, after {max(found.repeats)} repeats; allow more where that is "
                "too wide.",
            )


def _least_to_most(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"
