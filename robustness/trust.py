"""Whether a method's maps can be believed: three checks with thresholds that are fixed beforehand.

A map must change when the network forgets what it learned, its first pixels must matter more than
random ones, and next to no change of a slice must leave it much as it was.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robustness.attack import AttackBatch
from robustness.flipping import Flipping, pixel_flipping
from robustness.objectives import Objective
from robustness.randomisation import Cascade, cascade
from robustness.spread_table import MapMethod
from robustness.stability import Stability, stability


@dataclass(frozen=True)
class TrustThresholds:
    """What a method must hold to, for the median over slices, or for three slices of four.

    These are conventions of this house, as the sources give no numbers: a rank correlation of 0.5
    shares a quarter of its variance. A map drawn by chance gains in three slices of four with
    probability 0.14 among 8 slices, 0.004 among 32.

    Attributes:
        randomised: Most that the maps may correlate with those of the network with all layers at
            random: the absolute rank correlation of magnitudes.
        gain: In three slices of four a map's order must gain more than this over a random one, in
            areas of deletion and of insertion.
        stable: Least rank correlation with the maps of noisy copies.
    """

    randomised: float = 0.5
    gain: float = 0.0
    stable: float = 0.5


@dataclass(frozen=True)
class Verdict:
    """What the checks found of one method, medians over slices unless said; NaN if no slice tells.

    Attributes:
        method: Its name.
        randomised: Absolute rank correlation of magnitudes with the network at random.
        randomised_ssim: Structural similarity with the same; told, but no ground to fail: sparse
            maps are alike by it.
        deletion_gain: Area of deletion below that of a random order; the lower quartile.
        insertion_gain: Area of insertion above that of a random order; the lower quartile.
        stable: Rank correlation with maps of noisy copies.
        sensitivity: Relative change of the map over that of the slice; told, but no ground to fail.
        failed: Names of the checks that the method fails, those that no slice tells included.
    """

    method: str
    randomised: float
    randomised_ssim: float
    deletion_gain: float
    insertion_gain: float
    stable: float
    sensitivity: float
    failed: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def sentence(self) -> str:
        """The verdict in words, with the numbers of the checks that failed."""
        if self.trusted:
            return f"{self.method} passes all checks."
        found = ", ".join(f"{name} {getattr(self, name):.2f}" for name in self.failed)
        return f"{self.method} fails: {found}."


def judge(
    method: str,
    layers: Cascade,
    flipping: Flipping,
    noise: Stability,
    thresholds: TrustThresholds | None = None,
) -> Verdict:
    """The verdict on a method from what was measured of it.

    Args:
        method: Its name.
        layers: Of the same slices as the others; the last step counts.
        flipping: Curves.
        noise: Stability.
        thresholds: What is asked; None takes the house's.

    Returns:
        The verdict. A check whose number is NaN is failed: it shows nothing.
    """
    asked = thresholds or TrustThresholds()
    randomised = _median(layers.spearman[-1].abs())
    deletion, insertion = (
        _quantile(gain, 0.25) for gain in (flipping.deletion_gain, flipping.insertion_gain)
    )
    stable = _median(noise.spearman)
    passed = {
        "randomised": randomised <= asked.randomised,
        "deletion_gain": deletion > asked.gain,
        "insertion_gain": insertion > asked.gain,
        "stable": stable >= asked.stable,
    }
    return Verdict(
        method,
        randomised,
        _median(layers.ssim[-1]),
        deletion,
        insertion,
        stable,
        _median(noise.ratio),
        tuple(name for name, held in passed.items() if not held),
    )


def check_trust(
    network: nn.Module,
    batch: AttackBatch,
    methods: Mapping[str, MapMethod],
    objective: Objective,
    *,
    by_magnitude: Collection[str] = (),
    thresholds: TrustThresholds | None = None,
    seed: int = 0,
) -> dict[str, Verdict]:
    """Run all checks on some methods.

    Args:
        network: The trained network, the one that ``batch.forward`` runs; as it was afterwards.
        batch: Some clean slices, best those with foreground.
        methods: What draws the maps, by name.
        objective: What they explain. A region in it must be frozen on the clean slices, or it would
            move with the network.
        by_magnitude: Methods whose maps pixel flipping ranks by magnitude: a gradient says how much
            hangs on a pixel, but not which way a flip will turn it. Others are ranked by sign.
        thresholds: What is asked; None takes the house's.
        seed: Of random weights, random orders and noise.

    Returns:
        The verdict on each method.

    Raises:
        ValueError: As in the checks.
    """
    verdicts = {}
    for name, method in methods.items():

        def maps(image: Tensor, method: MapMethod = method) -> Tensor:
            # A batch of its own: the gradients that a batch remembers are of the trained network.
            return method(replace(batch, image=image), objective)

        verdicts[name] = judge(
            name,
            cascade(network, maps, batch.image, seed=seed, counted=batch.valid),
            pixel_flipping(
                batch, maps(batch.image), objective, signed=name not in by_magnitude, seed=seed
            ),
            stability(maps, batch, seed=seed),
            thresholds,
        )
    return verdicts


def _median(values: Tensor) -> float:
    """Median of what is known, the mean of the two in the middle; NaN if nothing is."""
    return _quantile(values, 0.5)


def _quantile(values: Tensor, share: float) -> float:
    return float(torch.nanquantile(values.double(), share))
