"""What all peers share: the network, its slices, our side of a comparison, and the row it gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.bare import Bare, fastest
from benchmarks.data import Slices
from benchmarks.timing import Ratio, time_in_turn
from datamodules.batch import Batch
from robustness.attack import Attack, AttackBatch
from robustness.attribution_method import Attribution
from robustness.batches import attack_batch, fixed_size
from robustness.objectives import probability_sum
from robustness.pgd import Pgd

GOAL = "above 1: SegStress is faster"
CPU = torch.device("cpu")
# The range of intensities that attacks stay in, and how far they go in it.
LOW, HIGH = 0.0, 0.2
EPSILON = 0.02
# Length of a step in parts of epsilon.
STEP_SIZE = 0.25
# What is attacked where a peer takes a classifier: TwoScores has the gradient of it.
SCORED = "logit_sum"


@dataclass(frozen=True)
class Given:
    """A network and slices for it, cut into batches of one size that both sides take.

    Attributes:
        network: The U-Net in its fastest layout.
        batch: All slices; their number is a multiple of the size.
        size: Slices in a batch of both sides.
    """

    network: nn.Module
    batch: Batch
    size: int

    @property
    def slices(self) -> int:
        """How many slices there are."""
        return len(self.batch["image"])

    def parts(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Image and mask of each batch, for the peer."""
        images = torch.split(self.batch["image"], self.size)
        return list(zip(images, torch.split(self.batch["mask"], self.size), strict=True))

    def attack_batches(self) -> list[AttackBatch]:
        """The same, new, for SegStress."""
        pieces = fixed_size([self.batch], self.size)
        return [attack_batch(self.network, piece, CPU) for piece in pieces]

    def disturbed(self, attack: Attack) -> list[Tensor]:
        """What an attack of one point makes of each batch."""
        return [
            image
            for batch in self.attack_batches()
            for _, _, image in attack.disturb(batch, seed=0)
        ]

    def maps(self, method: Attribution) -> list[Tensor]:
        """What a method says about the sum of probabilities of each batch."""
        return [
            method.attribute(self.network, batch, probability_sum, seed=0)
            for batch in self.attack_batches()
        ]


def given(slices: Slices, number: int) -> Given:
    """The network of the benchmarks in its fastest layout and batch.

    Args:
        slices: Where they come from.
        number: How many; as many as fill whole batches are taken.
    """
    bare: Bare = fastest(slices.batch("test", slices=number)["image"])
    whole = max(1, number // bare.batch_size) * bare.batch_size
    return Given(bare.network, slices.batch("test", slices=whole), bare.batch_size)


def own_pgd(steps: int, objective: str) -> Pgd:
    """Our PGD with the settings that all peers are given, from one random start."""
    return Pgd(
        "pgd",
        (EPSILON,),
        low=LOW,
        high=HIGH,
        objective=objective,
        steps=steps,
        step_size=STEP_SIZE,
    )


class Summed(nn.Module):
    """A dense network as one of a single score for each image: the sum of its probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """The paper's objective, shape ``(B, 1)``."""
        summed: Tensor = self.network(image).sigmoid().flatten(1).sum(dim=1, keepdim=True)
        return summed


class TwoScores(nn.Module):
    """A dense network as a classifier of two classes: 0, and the mean logit less a margin.

    Cross-entropy of the first class rises with the sum of logits: an untargeted attack on it takes
    the sign of the same gradient as ours on ``logit_sum``. The margin keeps every image in the
    first class, so that none is left out as fooled already.
    """

    def __init__(self, network: nn.Module, margin: float = 10.0) -> None:
        super().__init__()
        self.network = network
        self.margin = margin

    def forward(self, image: Tensor) -> Tensor:
        """Scores, shape ``(B, 2)``."""
        score = self.network(image).flatten(1).mean(dim=1, keepdim=True) - self.margin
        return torch.cat([torch.zeros_like(score), score], dim=1)


def against(
    name: str,
    theirs: Callable[[], object],
    ours: Callable[[], object],
    *,
    slices: int,
    rounds: int,
) -> Ratio:
    """Time a peer and SegStress in turn.

    Args:
        name: What both do, and which peer it is.
        theirs: The peer.
        ours: SegStress.
        slices: How many slices each of them goes through.
        rounds: Rounds that count, after one that warms up.

    Returns:
        The peer's time in parts of ours; the name says how many slices a second each makes.
    """
    row = time_in_turn(name, theirs, ours, goal=GOAL, calls=1, rounds=rounds, warm_up=1)
    rate = slices / row.seconds
    return replace(row, name=f"{name} / SegStress: {_rate(rate)} / {_rate(rate * row.median)}")


def _rate(per_second: float) -> str:
    return f"{per_second:.3g} slices/s" if per_second < 100 else f"{per_second:.0f} slices/s"  # noqa: PLR2004
