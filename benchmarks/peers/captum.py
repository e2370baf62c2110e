"""captum.robust and captum.attr against the same attack and the same maps."""

from collections.abc import Sequence

import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from captum.attr import Saliency
from captum.robust import PGD
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.data import Slices, slices
from benchmarks.peers.compare import (
    EPSILON,
    HIGH,
    LOW,
    STEP_SIZE,
    Given,
    Summed,
    against,
    given,
    own_pgd,
)
from benchmarks.timing import Ratio, write_results
from robustness.attribution_gradients import Gradient, IntegratedGradients


def attacked(
    network: nn.Module, parts: Sequence[tuple[Tensor, Tensor]], steps: int
) -> list[Tensor]:
    """Images by captum's PGD from random starts, which raises BCE.

    Args:
        network: Gives logits.
        parts: Image and mask of each batch.
        steps: How many steps are taken.
    """
    pgd = PGD(network, _bce, lower_bound=LOW, upper_bound=HIGH)
    return [
        pgd.perturb(image, EPSILON, STEP_SIZE * EPSILON, steps, mask, random_start=True)
        for image, mask in parts
    ]


def gradients(network: nn.Module, images: Sequence[Tensor]) -> list[Tensor]:
    """Signed gradients of the sum of probabilities by captum."""
    saliency = Saliency(Summed(network))
    return [saliency.attribute(image.clone().requires_grad_(), 0, abs=False) for image in images]


def integrated(
    network: nn.Module, images: Sequence[Tensor], steps: int, at_once: int
) -> list[Tensor]:
    """Integrated gradients of the sum of probabilities by captum, from an image of zeros.

    Args:
        network: Gives logits.
        images: Each batch.
        steps: Points of the Gauss-Legendre rule.
        at_once: How many copies of slices captum puts through the network at once.
    """
    method = CaptumIntegratedGradients(Summed(network))
    return [
        method.attribute(
            image, target=0, n_steps=steps, method="gausslegendre", internal_batch_size=at_once
        )
        for image in images
    ]


def _bce(logits: Tensor, mask: Tensor) -> Tensor:
    """Summed over pixels, as in captum's own losses one number for each image."""
    return binary_cross_entropy_with_logits(logits, mask, reduction="none").flatten(1).sum(dim=1)


def measure(
    source: Slices, *, number: int = 32, rounds: int = 5, attack_steps: int = 10, steps: int = 10
) -> list[Ratio]:
    """Time attack and maps.

    Args:
        source: Where the slices come from.
        number: How many slices there are.
        rounds: Rounds that count.
        attack_steps: Steps of PGD.
        steps: Steps of integrated gradients.
    """
    on = given(source, number)
    return [_pgd(on, attack_steps, rounds), _saliency(on, rounds), _path(on, steps, rounds)]


def _pgd(on: Given, steps: int, rounds: int) -> Ratio:
    own = own_pgd(steps, "bce")
    return against(
        f"PGD of BCE, linf, {steps} steps, images only: captum.robust.PGD",
        lambda: attacked(on.network, on.parts(), steps),
        lambda: on.disturbed(own),
        slices=on.slices,
        rounds=rounds,
    )


def _saliency(on: Given, rounds: int) -> Ratio:
    return against(
        "gradient of the sum of probabilities: captum.attr.Saliency",
        lambda: gradients(on.network, [image for image, _ in on.parts()]),
        lambda: on.maps(Gradient()),
        slices=on.slices,
        rounds=4 * rounds,
    )


def _path(on: Given, steps: int, rounds: int) -> Ratio:
    own = IntegratedGradients(steps=steps, valid_only=False)
    return against(
        f"integrated gradients, {steps} steps, {on.size} slices at once: "
        "captum.attr.IntegratedGradients",
        lambda: integrated(on.network, [image for image, _ in on.parts()], steps, on.size),
        lambda: on.maps(own),
        slices=on.slices,
        rounds=rounds,
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    with slices() as prepared:
        print(write_results(f"Peers: captum, on {prepared.name}", measure(prepared)))
