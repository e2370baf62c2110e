"""A network that hides its gradient fails the card at the right lines; an ordinary one passes."""

from collections.abc import Callable, Iterator

import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from robustness.batches import Batch
from robustness.card_attacks import card_attacks
from robustness.counts import counts_frame
from robustness.engine import evaluate
from robustness.gradient_health import gradient_health
from robustness.plan import make_plan
from robustness.report_card import report_card
from tests.robustness.toy import CPU

CASES, SLICES, SIZE = 6, 3, 16


def discs() -> Iterator[Batch]:
    """Bright discs on a dark ground with noise; what is bright is the truth."""
    generator = torch.Generator().manual_seed(0)
    line = torch.arange(SIZE) - (SIZE - 1) / 2
    far = (line[:, None].square() + line[None, :].square()).sqrt()
    for case in range(CASES):
        radius = torch.tensor([4.0, 5.0, 6.0]) + 0.1 * case
        mask = (far[None] < radius[:, None, None])[:, None].float()
        noise = 0.1 * torch.randn(SLICES, 1, SIZE, SIZE, generator=generator)
        yield {
            "image": (0.35 + 0.3 * mask + noise).clamp(0, 1),
            "mask": mask,
            "valid": torch.ones(SLICES, 1, SIZE, SIZE, dtype=torch.bool),
            "case": [f"case_{case}"] * SLICES,
            "slice_index": torch.arange(SLICES),
        }


def ordinary(image: Tensor) -> Tensor:
    """Smooths, and finds what is bright."""
    return 20 * (avg_pool2d(image, 3, stride=1, padding=1) - 0.45)


def steep(image: Tensor) -> Tensor:
    """The same masks through a sigmoid so steep that it is flat almost everywhere."""
    return 1e4 * ordinary(image)


def rounding(image: Tensor) -> Tensor:
    """The same network on rounded intensities: the gradient of rounding is zero."""
    return ordinary((image * 100).round() / 100)


def card(forward: Callable[[Tensor], Tensor]) -> pd.DataFrame:
    plan = make_plan(card_attacks(0.0, 1.0))
    table = evaluate(forward, discs(), plan, device=CPU).counts
    counts = counts_frame([table.partial()], plan.rows, ["disc"])
    health = gradient_health(forward, discs(), device=CPU)
    return report_card(counts, health).set_index("check")


def test_an_ordinary_network_passes() -> None:
    found = card(ordinary)
    measured = found.drop("transfer_does_not_beat_white_box")
    assert set(measured["status"]) == {"pass"}, measured
    assert measured.loc["unbounded_reaches_zero", "value"] == 0
    assert measured.loc["no_zero_gradients", "value"] == 0


@pytest.mark.parametrize(
    ("forward", "lines"),
    [
        (steep, {"unbounded_reaches_zero", "no_zero_gradients", "no_saturation"}),
        (
            rounding,
            {"unbounded_reaches_zero", "gradients_beat_random_search", "no_zero_gradients"},
        ),
    ],
)
def test_masked_gradients_are_found_out(
    forward: Callable[[Tensor], Tensor], lines: set[str]
) -> None:
    found = card(forward)
    failed = set(found.index[found["status"] == "fail"])
    assert failed == lines
    assert found["value"]["no_zero_gradients"] > 0.5


def test_a_rounded_network_is_not_saturated() -> None:
    assert card(rounding).loc["no_saturation", "status"] == "pass"
