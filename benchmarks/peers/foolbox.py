"""Foolbox's PGD on the network wrapped as a classifier, against ours."""

from collections.abc import Sequence

import torch
from foolbox.attacks.projected_gradient_descent import LinfProjectedGradientDescentAttack
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from benchmarks.data import Slices, slices
from benchmarks.peers.compare import (
    EPSILON,
    HIGH,
    LOW,
    SCORED,
    STEP_SIZE,
    TwoScores,
    against,
    given,
    own_pgd,
)
from benchmarks.timing import Ratio, write_results

# As images have it: it refuses those that are above the range by rounding.
_HIGH = float(torch.tensor(HIGH))


def attacked(
    network: nn.Module, images: Sequence[Tensor], steps: int, *, random_start: bool = True
) -> list[Tensor]:
    """Images by foolbox's PGD, which raises the sum of logits.

    Args:
        network: Gives logits.
        images: Each batch, within the range of intensities.
        steps: How many steps are taken.
        random_start: Whether it starts at a random point.
    """
    model = PyTorchModel(TwoScores(network).eval(), bounds=(LOW, _HIGH), device="cpu")
    attack = LinfProjectedGradientDescentAttack(
        rel_stepsize=STEP_SIZE, steps=steps, random_start=random_start
    )
    found = []
    for image in images:
        labels = torch.zeros(len(image), dtype=torch.int64)
        raw, _, _ = attack(model, image, labels, epsilons=EPSILON)
        found.append(raw)
    return found


def measure(source: Slices, *, number: int = 32, rounds: int = 5, steps: int = 10) -> list[Ratio]:
    """Time PGD of the same number of steps, from one random start.

    Args:
        source: Where the slices come from.
        number: How many slices are attacked.
        rounds: Rounds that count.
        steps: How many steps are taken.
    """
    on = given(source, number)
    images = [image.clamp(LOW, _HIGH) for image, _ in on.parts()]
    own = own_pgd(steps, SCORED)
    return [
        against(
            f"PGD of the summed logits, linf, {steps} steps, and whether it fooled the classifier: "
            "foolbox's LinfPGD",
            lambda: attacked(on.network, images, steps),
            lambda: on.disturbed(own),
            slices=on.slices,
            rounds=rounds,
        )
    ]


if __name__ == "__main__":
    torch.manual_seed(0)
    with slices() as prepared:
        print(write_results(f"Peers: foolbox, on {prepared.name}", measure(prepared)))
