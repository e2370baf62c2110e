import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from robustness.attack import AttackBatch
from robustness.batches import Batch, attack_batch, fixed_size
from robustness.flipping import FlipCurves, Flipping, pixel_flipping
from robustness.objectives import Objective, bce, probability_sum
from robustness.randomisation import Cascade, weight_layers
from robustness.ranking import edge_strength
from robustness.spread_table import MapMethod
from robustness.stability import Stability
from robustness.trust import TrustThresholds, Verdict, check_trust, judge, maps_per_check
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


def verdicts_of(
    network: nn.Module,
    methods: Mapping[str, MapMethod],
    **settings: Any,  # noqa: ANN401 (those of the check)
) -> dict[str, Verdict]:
    checked = check_trust(network, batch_of(network), methods, probability_sum, **settings)
    return {name: one.verdict for name, one in checked.items()}


def test_each_unsound_method_fails_where_it_should(network: nn.Module) -> None:
    methods = {"sound": gradient, "edges": edges, "inverted": inverted, "hashed": hashed}
    verdicts = verdicts_of(network, methods)
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
    verdicts = verdicts_of(network, methods, by_magnitude=("sound", "inverted"))
    assert verdicts["inverted"].deletion_gain == verdicts["sound"].deletion_gain > 0
    assert verdicts["inverted"].insertion_gain == verdicts["sound"].insertion_gain


def test_what_a_batch_remembers_does_not_hide_random_weights(network: nn.Module) -> None:
    batch = batch_of(network)
    batch.gradient("probability_sum")

    def remembered(given: AttackBatch, objective: Objective) -> Tensor:
        return given.gradient("probability_sum")

    checked = check_trust(network, batch, {"remembered": remembered}, probability_sum)
    assert checked["remembered"].verdict.randomised < 0.9


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


def gains(*deletion: float) -> Flipping:
    """Slices whose deletion gains this much and whose insertion gains 0.1."""
    shares = torch.tensor([0.0, 1.0], dtype=torch.float64)
    low = torch.tensor(deletion, dtype=torch.float64)[:, None].expand(-1, 2)
    level = torch.full_like(low, 0.5)
    return Flipping(FlipCurves(shares, 0.5 - low, level + 0.1), FlipCurves(shares, level, level))


@pytest.mark.parametrize(
    ("deletion", "holds"),
    [
        ((0.1,) * 6 + (-0.1,) * 2, True),
        ((0.1,) * 5 + (-0.1,) * 3, False),
        ((0.1, 0.1, 0.1, -5.0), True),
        ((0.1, 0.1, -0.01, 0.0), False),
        ((0.1, math.nan, math.nan, math.nan), True),
        ((math.nan,) * 4, False),
    ],
)
def test_slices_that_gain_are_counted(deletion: tuple[float, ...], holds: bool) -> None:
    verdict = judge("m", layers(0.1, 0.1, 0.1), gains(*deletion), noise(0.9, 0.9, 0.9))
    assert ("deletion_gain" not in verdict.failed) == holds


def test_three_of_four_are_rare_by_chance() -> None:
    """The probabilities that the thresholds' docstring states."""
    for slices, stated in ((8, 0.14), (32, 0.004)):
        chance = float(stats.binom.sf(math.ceil(0.75 * slices) - 1, slices, 0.5))
        assert chance == pytest.approx(stated, abs=0.006)


def test_maps_that_are_the_same_everywhere_say_nothing(network: nn.Module) -> None:
    def flat(batch: AttackBatch, objective: Objective) -> Tensor:
        return torch.zeros_like(batch.image)

    verdict = verdicts_of(network, {"flat": flat})["flat"]
    assert verdict.slices == 0
    assert verdict.failed == ()
    assert not verdict.trusted
    assert math.isnan(verdict.deletion_gain)
    assert verdict.sentence == "flat gives maps that are the same everywhere."


def test_few_slices_are_told() -> None:
    good = (layers(0, 0, 0), flipping(0.1, 0.1), noise(1, 1, 1))
    assert judge("m", *good, slices=3).sentence == "m passes all checks, on 3 slices only."


def test_evidence_is_what_the_verdict_rests_on(network: nn.Module) -> None:
    batch = batch_of(network)
    found = check_trust(network, batch, {"sound": gradient}, probability_sum)["sound"]
    by_layer = [row for row in found.evidence.rows if row[0] == "randomised"]
    layers_of = [layer for (layer, *_) in reversed(weight_layers(network, batch.image[:1]))]
    assert [row[1] for row in by_layer] == layers_of
    maps = gradient(batch, probability_sum)
    curves = pixel_flipping(batch, maps, probability_sum)
    for check in ("deletion", "insertion"):
        rows = [row for row in found.evidence.rows if row[0] == check]
        assert [float(row[1]) for row in rows] == pytest.approx(np.linspace(0, 1, 21).tolist())
        ranked = np.median(getattr(curves.ranked, check).numpy(), axis=0)
        np.testing.assert_allclose([row[2] for row in rows], ranked, atol=1e-6)
        chance = np.median(getattr(curves.at_random, check).numpy(), axis=0)
        np.testing.assert_allclose([row[3] for row in rows], chance, atol=1e-6)


def test_draws_are_counted(network: nn.Module) -> None:
    batch, drawn = batch_of(network), []

    def counted(given: AttackBatch, objective: Objective) -> Tensor:
        drawn.append(len(given.image))
        return gradient(given, objective)

    check_trust(network, batch, {"counted": counted}, probability_sum)
    assert len(drawn) == maps_per_check(network, batch.image[:1])


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
