import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor

from robustness.batches import Batch
from robustness.objectives import bce, logit_sum, probability_sum
from robustness.saliency import input_gradient
from robustness.temperature import (
    OUTPUTS,
    best_temperature,
    matched_temperature,
    output_objectives,
    tempered_sum,
)
from tests.robustness.toy import CPU, ConvNet, batches_of, make_slices


def slices(*, ignored: bool = False) -> Iterator[Batch]:
    for batch in batches_of(make_slices(7, classes=2), 3):
        if ignored:
            unknown = torch.zeros_like(batch["valid"])
            unknown[..., :10] = True
            yield {**batch, "ignored": unknown}
        else:
            yield batch


class Reader(torch.nn.Module):
    """Reads the truth of the toy slices with a given share of error from the image's noise."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        return self.scale * torch.cat([1.0 - 4 * image, 3 * (0.3 - image)], dim=1)


@pytest.mark.parametrize("ignored", [False, True])
def test_the_best_temperature_is_that_of_a_plain_search(ignored: bool) -> None:
    network = Reader(5.0)
    logits, truth = [], []
    for batch in slices(ignored=ignored):
        known = batch["valid"]
        if ignored:
            known = known & ~batch["ignored"]
        known = known.expand_as(batch["mask"]).numpy()
        logits.append(network(batch["image"]).numpy()[known].astype(float))
        truth.append(batch["mask"].numpy()[known])
    z, y = np.concatenate(logits), np.concatenate(truth)

    def likelihood(log_temperature: float) -> float:
        scaled = z / math.exp(log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - y * scaled))

    plain = optimize.minimize_scalar(likelihood, bounds=(-5, 9), method="bounded")
    found = matched_temperature(network, slices(ignored=ignored), device=CPU, batch_size=4)
    assert math.log(found) == pytest.approx(float(plain.x), abs=1e-3)
    assert likelihood(math.log(found)) <= float(plain.fun) + 1e-9


def test_scaled_logits_have_the_same_tempered_output() -> None:
    found = [matched_temperature(Reader(scale), slices(), device=CPU) for scale in (1.0, 10.0, 0.2)]
    assert found[1] == pytest.approx(10 * found[0], rel=1e-5)
    assert found[2] == pytest.approx(0.2 * found[0], rel=1e-5)


def test_batches_do_not_matter() -> None:
    sizes = [
        matched_temperature(Reader(2.0), slices(), device=CPU, batch_size=size)
        for size in (2, 7, 32)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-7)
    assert sizes[2] == pytest.approx(sizes[0], rel=1e-7)


def test_calibrated_logits_have_temperature_one() -> None:
    logit = math.log(3)
    truth = torch.tensor([logit, logit, logit, -logit])
    assert best_temperature(truth) == pytest.approx(1, abs=1e-6)


def test_the_tempered_gradient_is_that_of_the_divided_logits() -> None:
    (batch,) = batches_of(make_slices(3), 3)
    network = ConvNet()
    wanted = (batch["image"], batch["mask"], batch["valid"])
    found = input_gradient(network, tempered_sum(4.0), *wanted)
    plain = input_gradient(lambda image: network(image) / 4, probability_sum, *wanted)
    torch.testing.assert_close(found, plain)


def test_outputs_by_name() -> None:
    objectives = output_objectives(2.0)
    assert tuple(objectives) == OUTPUTS
    logits = torch.randn(3, 2, 4, 4)
    nothing = torch.zeros_like(logits)
    valid = torch.ones(3, 1, 4, 4, dtype=torch.bool)
    expected = {
        "probability": probability_sum(logits, nothing, valid),
        "logit": logit_sum(logits, nothing, valid),
        "tempered": (1 / (1 + (-logits / 2).exp())).sum(dim=(1, 2, 3)),
    }
    for name, objective in objectives.items():
        torch.testing.assert_close(objective(logits, nothing, valid), expected[name])


def test_the_tempered_likelihood_is_no_worse() -> None:
    network, (batch,) = Reader(5.0), batches_of(make_slices(7, classes=2), 7)
    found = matched_temperature(network, [batch], device=CPU)
    logits = network(batch["image"])
    before, after = (
        float(bce(logits / each, batch["mask"], batch["valid"]).sum()) for each in (1.0, found)
    )
    assert after < before


@pytest.mark.parametrize(
    "truth", [torch.ones(5), -torch.ones(5), torch.tensor([1.0, -2.0]), torch.zeros(3)]
)
def test_no_best_temperature_is_refused(truth: Tensor) -> None:
    with pytest.raises(ValueError, match="found none between"):
        best_temperature(truth)


def test_no_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="no pixel with known truth"):
        matched_temperature(ConvNet(), [], device=CPU)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_makes_no_sense_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature: found"):
        tempered_sum(temperature)
