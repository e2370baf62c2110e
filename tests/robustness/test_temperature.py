import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor

from robustness.batches import Batch
from robustness.objectives import bce, logit_sum, probability_sum
from robustness.saliency import input_gradient
from robustness.temperature import (
    OUTPUTS,
    matched_temperature,
    output_objectives,
    tempered_sum,
    truth_histogram,
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
    histogram = truth_histogram(network, slices(ignored=ignored), device=CPU, batch_size=4)
    assert int(histogram.sum()) == len(z)
    assert int(histogram[1].sum()) == int((((2 * y - 1) * z) <= 0).sum())
    found = matched_temperature(histogram)
    assert math.log(found) == pytest.approx(float(plain.x), abs=1e-3)
    assert likelihood(math.log(found)) <= float(plain.fun) + 1e-7


def test_scaled_logits_have_the_same_tempered_output() -> None:
    found = [temperature_of(Reader(scale)) for scale in (1.0, 8.0, 10.0, 0.2)]
    # A power of two moves every logit by whole bins.
    assert found[1] == pytest.approx(8 * found[0], rel=1e-8)
    assert found[2] == pytest.approx(10 * found[0], rel=1e-3)
    assert found[3] == pytest.approx(0.2 * found[0], rel=1e-3)


def test_processes_and_batches_do_not_matter() -> None:
    network = Reader(2.0)
    whole = truth_histogram(network, slices(), device=CPU)
    parts = [truth_histogram(network, [batch], device=CPU, batch_size=2) for batch in slices()]
    assert len(parts) > 1
    assert torch.equal(torch.stack(parts).sum(dim=0), whole)


def temperature_of(network: torch.nn.Module) -> float:
    return matched_temperature(truth_histogram(network, slices(), device=CPU))


def histogram_of(logits: list[float]) -> Tensor:
    """The histogram of pixels with these logits of the truth."""
    image = torch.tensor(logits).reshape(1, 1, 1, -1)
    batch = {
        "image": image,
        "mask": torch.ones_like(image),
        "valid": torch.ones_like(image).bool(),
        "case": ["case"],
        "slice_index": torch.zeros(1, dtype=torch.int64),
    }
    return truth_histogram(torch.nn.Identity(), [batch], device=CPU)


def test_calibrated_logits_have_temperature_one() -> None:
    logit = math.log(3)
    found = matched_temperature(histogram_of([logit, logit, logit, -logit]))
    assert found == pytest.approx(1, rel=2e-3)


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
    assert tuple(output_objectives(None)) == ("probability", "logit")
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
    found = matched_temperature(truth_histogram(network, [batch], device=CPU))
    logits = network(batch["image"])
    before, after = (
        float(bce(logits / each, batch["mask"], batch["valid"]).sum()) for each in (1.0, found)
    )
    assert after < before


@pytest.mark.parametrize("truth", [[1.0] * 5, [-1.0] * 5, [1.0, -2.0], [0.0] * 3])
def test_no_best_temperature_is_refused(truth: list[float]) -> None:
    with pytest.raises(ValueError, match="found none between"):
        matched_temperature(histogram_of(truth))


# Numbers of all sizes that float32 holds exactly.
_LOGITS = st.builds(math.ldexp, st.integers(-999, 999).map(float), st.integers(-60, 60))


@given(st.lists(_LOGITS, min_size=1, max_size=20))
def test_every_logit_is_counted_once_on_its_side(logits: list[float]) -> None:
    histogram = histogram_of(logits)
    assert histogram.sum(dim=1).tolist() == [
        sum(logit > 0 for logit in logits),
        sum(logit <= 0 for logit in logits),
    ]


def test_no_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="no pixel with known truth"):
        matched_temperature(truth_histogram(ConvNet(), [], device=CPU))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_makes_no_sense_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature: found"):
        tempered_sum(temperature)
