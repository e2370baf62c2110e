"""ART's nearest attacks on the network wrapped as a classifier, against ours."""

from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack  # type: ignore[import-not-found]
from art.attacks.evasion import (  # type: ignore[import-not-found]
    AutoProjectedGradientDescent,
    ProjectedGradientDescentPyTorch,
)
from art.estimators.classification import PyTorchClassifier  # type: ignore[import-not-found]

from benchmarks.data import Slices, slices
from benchmarks.peers.compare import (
    EPSILON,
    HIGH,
    LOW,
    SCORED,
    STEP_SIZE,
    Given,
    TwoScores,
    against,
    given,
    own_pgd,
)
from benchmarks.timing import Ratio, write_results
from robustness.apgd import Apgd
from robustness.attack import Attack


def measure(source: Slices, *, number: int = 32, rounds: int = 5, steps: int = 10) -> list[Ratio]:
    """Time PGD and Auto-PGD of the same number of steps, from one random start.

    Args:
        source: Where the slices come from.
        number: How many slices are attacked.
        rounds: Rounds that count.
        steps: How many steps are taken.
    """
    on = given(source, number)
    classifier = _classifier(on)
    shared = {
        "norm": np.inf,
        "eps": EPSILON,
        "max_iter": steps,
        "batch_size": on.size,
        "verbose": False,
    }
    pgd = ProjectedGradientDescentPyTorch(
        classifier, eps_step=STEP_SIZE * EPSILON, num_random_init=1, **shared
    )
    # Where no loss is named it takes that of the classifier, which is cross-entropy.
    auto = AutoProjectedGradientDescent(
        classifier, eps_step=2 * EPSILON, nb_random_init=1, **shared
    )
    own = own_pgd(steps, SCORED)
    own_auto = Apgd("apgd", (EPSILON,), low=LOW, high=HIGH, objective=SCORED, steps=steps)
    what = f"of the summed logits, linf, {steps} steps, images only: ART's"
    return [
        _row(f"PGD {what} ProjectedGradientDescentPyTorch", pgd, own, on, rounds),
        _row(f"Auto-PGD {what} AutoProjectedGradientDescent", auto, own_auto, on, rounds),
    ]


def _classifier(on: Given) -> Any:  # noqa: ANN401 - ART has no types
    channels, height, width = on.batch["image"].shape[1:]
    return PyTorchClassifier(
        TwoScores(on.network),
        torch.nn.CrossEntropyLoss(),
        input_shape=(channels, height, width),
        nb_classes=2,
        clip_values=(LOW, HIGH),
        device_type="cpu",
    )


def _row(name: str, theirs: EvasionAttack, ours: Attack, on: Given, rounds: int) -> Ratio:
    image = on.batch["image"].numpy()
    labels = np.zeros(on.slices, dtype=np.int64)
    return against(
        name,
        lambda: theirs.generate(image, labels),
        lambda: on.disturbed(ours),
        slices=on.slices,
        rounds=rounds,
    )


if __name__ == "__main__":
    with slices() as prepared:
        print(write_results(f"Peers: ART, on {prepared.name}", measure(prepared)))
