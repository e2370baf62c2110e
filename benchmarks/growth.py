"""How time grows with slices, points, repeats and steps, against the passes they consist of."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from benchmarks.bare import fastest, seconds_of
from benchmarks.data import Slices, slices
from benchmarks.timing import Ratio, ratio_of, write_results
from datamodules.batch import Batch
from robustness.attack import Attack
from robustness.batch_size import fastest_batch_size
from robustness.engine import evaluate
from robustness.pgd import Pgd
from robustness.pixel_attacks import CountAttack
from robustness.plan import make_plan
from robustness.ranking import rank_by_score

_CPU = torch.device("cpu")
_SLICES = 64
_PIXELS = (1, 2, 5, 10, 20, 30, 40, 50)


def _counts(points: int, repeats: int) -> Attack:
    return CountAttack("drawn", _PIXELS[:points], repeats=repeats)


def _pgd(steps: int) -> Attack:
    return Pgd("pgd", (0.004,), steps=steps, high=0.2)


# What grows, and the attack and the number of slices at each size.
AXES: Mapping[str, Mapping[int, tuple[Attack, int]]] = {
    "slices": {size: (_counts(4, 1), size) for size in (64, 128, 256)},
    "points": {size: (_counts(size, 2), _SLICES) for size in (2, 4, 8)},
    "repeats": {size: (_counts(4, size), _SLICES) for size in (2, 4, 8)},
    "steps": {size: (_pgd(size), _SLICES) for size in (4, 8, 16)},
}


def measure(given: Slices, *, rounds: int = 7) -> list[Ratio]:
    """Time each size and its bare passes in turn, and compare the slopes.

    Args:
        given: Where the slices come from.
        rounds: Rounds that count; each gives one slope of both.
    """
    batch = given.batch("test", slices=256)
    bare = fastest(batch["image"])
    size = fastest_batch_size(bare.network, batch["image"])
    ratios = []
    for axis, sizes in AXES.items():
        engine, alone = [], []
        for turn in range(rounds + 1):
            both = []
            for attack, number in sizes.values():
                part = _first(batch, number)
                plan = make_plan([attack])
                passes = plan.cost
                pair: tuple[Callable[[], object], ...] = (
                    partial(evaluate, bare.network, [part], plan, device=_CPU, batch_size=size),
                    partial(
                        bare.passes,
                        part["image"],
                        passes.forward - passes.backward,
                        passes.backward,
                    ),
                )
                order = (0, 1) if turn % 2 else (1, 0)
                spent = {which: seconds_of(pair[which]) for which in order}
                both.append((spent[0], spent[1]))
            if turn:
                steep = [
                    np.polyfit(list(sizes), seconds, 1)[0] for seconds in zip(*both, strict=True)
                ]
                engine.append(float(steep[0]))
                alone.append(float(steep[1]))
        ratios.append(
            ratio_of(f"slope by {axis}: engine / bare passes", engine, alone, goal="0.95 to 1.05")
        )
    return ratios


def ranking(given: Slices, *, rounds: int = 31) -> list[Ratio]:
    """Time the order of more and more pixels against the gradient that it is an order of."""
    image = given.batch("test", slices=32)["image"]
    bare = fastest(image)
    score = torch.rand(len(image), image[0].numel())
    ratios = []
    for count in (5, 50, 500, image[0].numel()):
        own, gradient = [], []
        for _ in range(rounds):
            own.append(seconds_of(partial(rank_by_score, score, count)))
            gradient.append(seconds_of(partial(bare.passes, image, 0, backward=1)))
        name = f"order of {count} pixels / gradient, 32 slices"
        ratios.append(ratio_of(name, own, gradient, goal="a small share"))
    return ratios


def _first(batch: Batch, number: int) -> Batch:
    return Batch(
        image=batch["image"][:number],
        mask=batch["mask"][:number],
        valid=batch["valid"][:number],
        case=batch["case"][:number],
        slice_index=batch["slice_index"][:number],
    )


if __name__ == "__main__":
    with slices() as prepared:
        title = f"Growth of time on {prepared.name}"
        print(write_results(title, [*measure(prepared), *ranking(prepared)]))
