"""What layout, compilation, bfloat16 and early leave give: why the tool takes them or not."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.bare import trained_network
from benchmarks.data import Slices, slices
from benchmarks.timing import Ratio, time_in_turn, write_results
from robustness.attack import AttackBatch
from robustness.engine import evaluate
from robustness.layout import laid_out
from robustness.minimum_norm import MinimumNormAttack
from robustness.plan import make_plan
from robustness.saliency import Forward

_CPU = torch.device("cpu")
_SIZE = 32
_GOAL = "to be known"


@dataclass(frozen=True)
class _OnAll(MinimumNormAttack):
    """The attack of least length on every slice, whether or not its outcome is known."""

    def settled(self, batch: AttackBatch) -> None:  # type: ignore[override]
        return None


def measure(given: Slices, *, number: int = 256, rounds: int = 7, steps: int = 10) -> list[Ratio]:
    """Time each form of the network against the usual one.

    Args:
        given: Where the slices come from.
        number: How many slices of the test set.
        rounds: Rounds that count.
        steps: Gradients of the attack of least length.
    """
    batch = given.batch("test", slices=number)
    image = batch["image"]
    network = trained_network(given.batch("train", slices=8 * _SIZE * 10), epochs=1)
    compiled = torch.compile(network)

    def contiguous(images: Tensor) -> Tensor:
        with laid_out(network, "contiguous"):
            logits: Tensor = network(images)
        return logits

    def half(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits: Tensor = network(images)
        return logits

    forms: dict[str, Forward] = {"contiguous": contiguous, "compiled": compiled, "bfloat16": half}
    ratios = [
        time_in_turn(
            f"forward passes: {name} / channels_last, float32, as it is",
            partial(_passes, form, image),
            partial(_passes, network, image),
            goal=_GOAL,
            calls=1,
            rounds=rounds,
        )
        for name, form in forms.items()
    ]
    all_slices, still_open = (
        partial(
            evaluate,
            network,
            [batch],
            make_plan([kind("least", (0.5,), steps=steps, tighten=2)]),
            device=_CPU,
            batch_size=_SIZE,
        )
        for kind in (_OnAll, MinimumNormAttack)
    )
    name = f"least length: slices still open / all {number} slices"
    early = time_in_turn(name, still_open, all_slices, goal="below 1", calls=1, rounds=rounds)
    return [*ratios, early]


def _passes(forward: Forward, image: Tensor) -> None:
    with torch.no_grad():
        for part in torch.split(image, _SIZE):
            forward(part)


if __name__ == "__main__":
    with slices() as found:
        print(write_results(f"Forms of the network on {found.name}", measure(found)))
