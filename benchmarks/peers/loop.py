"""The paper's attacks as one would write them down: slice by slice and copy by copy."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.data import Slices, slices
from benchmarks.engine import paper_attacks
from benchmarks.peers.compare import CPU, against, given
from benchmarks.timing import Ratio, write_results
from datamodules.batch import Batch
from robustness.attack import Attack
from robustness.engine import evaluate
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.plan import make_plan

# Attack, index of the point, repeat, and what is counted: tp, fp or fn.
Counts = Counter[tuple[str, int, int, str]]


def attack_slices(
    network: nn.Module, batch: Batch, attacks: Sequence[Attack], seed: int = 0
) -> Counts:
    """Disturb one slice after another and count its pixels with NumPy.

    Args:
        network: Gives logits ``(1, 1, H, W)``.
        batch: Slices of one channel, with their truth.
        attacks: The paper's, which replace the pixels of the highest gradient.
        seed: Of the random values.
    """
    counts: Counts = Counter()
    generator = np.random.default_rng(seed)
    for image, mask in zip(batch["image"], batch["mask"], strict=True):
        truth = mask[0].numpy() > 0
        order = _highest_gradient_first(network, image)
        _count(counts, ("clean", 0, 0), _predict(network, image), truth)
        for attack in attacks:
            for point_index, point in enumerate(attack.points):
                for repeat in range(attack.repeats):
                    pixels, values = _replacement(attack, point, order, generator)
                    disturbed = image.clone()
                    disturbed.view(-1)[pixels] = torch.as_tensor(values, dtype=image.dtype)
                    found = _predict(network, disturbed)
                    _count(counts, (attack.name, point_index, repeat), found, truth)
    return counts


def _highest_gradient_first(network: nn.Module, image: Tensor) -> NDArray[np.intp]:
    leaf = image[None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf).sigmoid().sum(), leaf)
    return np.argsort(-gradient.numpy().ravel(), kind="stable")


def _replacement(
    attack: Attack, point: float, order: NDArray[np.intp], generator: np.random.Generator
) -> tuple[NDArray[np.intp], float | NDArray[np.float64]]:
    if isinstance(attack, LevelAttack):
        return order[: attack.pixels], point
    if isinstance(attack, CountAttack):
        count = int(point)
        value = generator.random(count) if isinstance(attack.value, str) else attack.value
        return order[:count], value
    message = f"{attack.name}: {type(attack).__name__} is none of the paper's attacks"
    raise ValueError(message)


def _predict(network: nn.Module, image: Tensor) -> NDArray[np.bool_]:
    with torch.no_grad():
        found: NDArray[np.bool_] = network(image[None])[0, 0].numpy() > 0
    return found


def _count(
    counts: Counts,
    row: tuple[str, int, int],
    found: NDArray[np.bool_],
    truth: NDArray[np.bool_],
) -> None:
    counts[*row, "tp"] += int((found & truth).sum())
    counts[*row, "fp"] += int((found & ~truth).sum())
    counts[*row, "fn"] += int((~found & truth).sum())


def measure(source: Slices, *, number: int = 32, rounds: int = 5, repeats: int = 2) -> list[Ratio]:
    """Time the loop and the engine, all four attacks together.

    Args:
        source: Where the slices come from.
        number: How many slices are attacked.
        rounds: Rounds that count.
        repeats: Of the random values.
    """
    on = given(source, number)
    attacks = paper_attacks(repeats)
    plan = make_plan(attacks)
    copies = len(plan.rows) * on.slices
    return [
        against(
            f"the paper's four attacks, {repeats} repeats, {len(plan.rows)} copies of "
            f"{on.slices} slices: loop over slices",
            lambda: attack_slices(on.network, on.batch, attacks),
            lambda: evaluate(on.network, [on.batch], plan, device=CPU, batch_size=on.size),
            slices=copies,
            rounds=rounds,
        )
    ]


if __name__ == "__main__":
    with slices() as prepared:
        print(write_results(f"Peers: a loop, on {prepared.name}", measure(prepared)))
