"""The engine against the bare passes that each of the paper's attacks consists of."""

from functools import partial

import torch

from benchmarks.bare import fastest
from benchmarks.data import Slices, slices
from benchmarks.timing import Ratio, time_in_turn, write_results
from robustness.attack import Attack
from robustness.batch_size import fastest_batch_size
from robustness.engine import evaluate
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.plan import make_plan

_COUNTS = (1, 2, 5, 10, 20, 30, 40, 50)
_CPU = torch.device("cpu")


def paper_attacks(repeats: int, half_width: float = 0.0) -> list[Attack]:
    """The paper's four.

    Args:
        repeats: Of the random values.
        half_width: Where above 0, the repeats stop by themselves.
    """
    return [
        LevelAttack("top5_in_range", (0.0, 0.05, 0.1, 0.15, 0.2)),
        LevelAttack("top5_beyond_range", (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)),
        CountAttack("topn_at_max", _COUNTS, value=0.2),
        CountAttack("topn_random", _COUNTS, repeats=repeats, half_width=half_width),
    ]


def measure(given: Slices, *, number: int = 128, rounds: int = 9, repeats: int = 5) -> list[Ratio]:
    """Time each attack by itself, its ranking and the clean slices included.

    Args:
        given: Where the slices come from.
        number: How many slices of the test set are attacked.
        rounds: Rounds that count.
        repeats: Of the random values.
    """
    batch = given.batch("test", slices=number)
    image = batch["image"]
    bare = fastest(image)
    size = fastest_batch_size(bare.network, image)
    ratios = []
    for attack in paper_attacks(repeats):
        plan = make_plan([attack])
        counted = len(plan.rows)
        what = f"{attack.name}, {counted} passes and a gradient of {number} slices"
        ratios.append(
            time_in_turn(
                f"bare passes / engine: {what}",
                partial(bare.passes, image, counted, backward=1),
                partial(evaluate, bare.network, [batch], plan, device=_CPU, batch_size=size),
                goal="at least 0.95",
                calls=1,
                rounds=rounds,
            )
        )
    return ratios


if __name__ == "__main__":
    with slices() as found:
        title = f"Engine: the paper's attacks on {found.name}"
        print(write_results(title, measure(found)))
