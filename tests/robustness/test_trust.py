import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustness.attack import AttackBatch
from robustness.batches import Batch, attack_batch, fixed_size
from robustness.flipping import FlipCurves, Flipping
from robustness.objectives import Objective, bce, probability_sum
from robustness.randomisation import Cascade
from robustness.ranking import edge_strength
from robustness.stability import Stability
from robustness.trust import TrustThresholds, check_trust, judge
from tests.robustness.toy import CPU, ConvNet


def blobs() -> Batch:
    """Bright discs, which are the truth, and dim ones, which are not, on a noisy ground."""
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:20, :20]
    image = draw.random((8, 1, 20, 20)) * 0.1
    mask = np.zeros_like(image)
    for number, bright in np.ndindex(8, 2):
        middle = draw.integers(4, 16, size=2)
        disc = np.hypot(rows - middle[0], columns - middle[1]) < 3.5
        image[number, 0][disc] += 0.3 + 0.5 * bright
        mask[number, 0][disc] = bright
    return {
        "image": torch.from_numpy(image).float(),
        "mask": torch.from_numpy(mask).float(),
        "valid": torch.ones(8, 1, 20, 20, dtype=torch.bool),
        "case": [f"case_{number}" for number in range(8)],
        "slice_index": torch.arange(8),
    }


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Finds bright discs, learned in a few steps."""
    batch = blobs()
    learner = ConvNet()
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.02)
    for _ in range(80):
        optimiser.zero_grad()
        loss = bce(learner(batch["image"]), batch["mask"], batch["valid"]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return learner.eval()


def batch_of(network: nn.Module) -> AttackBatch:
    (piece,) = fixed_size([blobs()], 8)
    return attack_batch(network, piece, CPU)


def gradient(batch: AttackBatch, objective: Objective) -> Tensor:
    return batch.ascent(objective, batch.image).gradient


def edges(batch: AttackBatch, objective: Objective) -> Tensor:
    return edge_strength(batch.image, batch.valid)


def inverted(batch: AttackBatch, objective: Objective) -> Tensor:
    return -gradient(batch, objective)


def hashed(batch: AttackBatch, objective: Objective) -> Tensor:
    """Another map for every other image, however near."""
    bits = (batch.image * 1e6).sin()
    return (bits * 1e4).sin()


def test_each_unsound_method_fails_where_it_should(network: nn.Module) -> None:
    methods = {"sound": gradient, "edges": edges, "inverted": inverted, "hashed": hashed}
    verdicts = check_trust(network, batch_of(network), methods, probability_sum)
    assert list(verdicts) == list(methods)
    assert verdicts["sound"].trusted, verdicts["sound"].sentence
    assert "randomised" in verdicts["edges"].failed
    assert verdicts["edges"].randomised == pytest.approx(1)
    assert {"deletion_gain", "insertion_gain"} <= set(verdicts["inverted"].failed)
    assert {"randomised", "stable"} <= set(verdicts["hashed"].failed)
    assert verdicts["hashed"].sensitivity > 10


def test_the_sign_of_a_method_that_is_ranked_by_magnitude_does_not_count(
    network: nn.Module,
) -> None:
    methods = {"sound": gradient, "inverted": inverted}
    verdicts = check_trust(
        network, batch_of(network), methods, probability_sum, by_magnitude=("sound", "inverted")
    )
    assert verdicts["inverted"].deletion_gain == verdicts["sound"].deletion_gain > 0
    assert verdicts["inverted"].insertion_gain == verdicts["sound"].insertion_gain


def test_what_a_batch_remembers_does_not_hide_random_weights(network: nn.Module) -> None:
    batch = batch_of(network)
    batch.gradient("probability_sum")

    def remembered(given: AttackBatch, objective: Objective) -> Tensor:
        return given.gradient("probability_sum")

    verdict = check_trust(network, batch, {"remembered": remembered}, probability_sum)["remembered"]
    assert verdict.randomised < 0.9


def test_the_network_is_as_it_was(network: nn.Module) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    check_trust(network, batch_of(network), {"sound": gradient}, probability_sum)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def flipping(deletion: float, insertion: float) -> Flipping:
    """Gains over a random order whose areas are 0.5."""
    shares = torch.tensor([0.0, 1.0], dtype=torch.float64)

    def flat(level: float) -> Tensor:
        return torch.full((3, 2), level, dtype=torch.float64)

    ranked = FlipCurves(shares, flat(0.5 - deletion), flat(0.5 + insertion))
    return Flipping(ranked, FlipCurves(shares, flat(0.5), flat(0.5)))


def layers(*last: float) -> Cascade:
    ranks = torch.tensor([[1.0] * 3, list(last)], dtype=torch.float64)
    return Cascade(("b", "a"), ranks, ranks)


def noise(*ranks: float) -> Stability:
    return Stability(torch.ones(3), torch.tensor(ranks, dtype=torch.float64))


def test_the_median_slice_decides_at_the_last_layer() -> None:
    verdict = judge("m", layers(0.1, -0.4, 0.9), flipping(0.1, 0.1), noise(0.2, 0.6, 0.9))
    assert verdict.trusted
    assert verdict.randomised == pytest.approx(0.4)
    assert verdict.stable == pytest.approx(0.6)
    assert verdict.sentence == "m passes all checks."


def test_a_reversed_map_has_not_forgotten() -> None:
    verdict = judge("m", layers(-0.9, -0.8, -0.9), flipping(0.1, 0.1), noise(1, 1, 1))
    assert verdict.failed == ("randomised",)
    assert verdict.sentence == "m fails: randomised 0.90."


def test_each_threshold_is_its_own_check() -> None:
    good = (layers(0, 0, 0), flipping(0.1, 0.1), noise(1, 1, 1))
    assert judge("m", good[0], flipping(0.0, 0.1), good[2]).failed == ("deletion_gain",)
    assert judge("m", good[0], flipping(0.1, -0.1), good[2]).failed == ("insertion_gain",)
    assert judge("m", good[0], good[1], noise(0.4, 0.4, 1)).failed == ("stable",)
    strict = TrustThresholds(randomised=0.0, gain=0.2, stable=0.9)
    assert judge("m", *good, thresholds=strict).failed == ("deletion_gain", "insertion_gain")


def test_what_no_slice_tells_is_failed_and_slices_that_tell_nothing_are_left_out() -> None:
    nan = math.nan
    verdict = judge("m", layers(nan, nan, nan), flipping(0.1, 0.1), noise(nan, 0.9, nan))
    assert verdict.failed == ("randomised",)
    assert math.isnan(verdict.randomised)
    assert verdict.stable == pytest.approx(0.9)
