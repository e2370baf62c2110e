"""Whether a method's maps can be believed: three checks with thresholds that are fixed beforehand.

A map must change when the network forgets what it learned, its first pixels must matter more than
random ones, and next to no change of a slice must leave it much as it was.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from inspect import signature
from math import nan
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustness.attack import AttackBatch
from robustness.flipping import Flipping, pixel_flipping
from robustness.map_agreement import rank_correlation
from robustness.objectives import Objective
from robustness.randomisation import Cascade, cascade, cascade_steps, weight_layers
from robustness.spread_table import MapMethod
from robustness.stability import Stability, stability

# Fewer slices than this tell little: a random order passes the flipping checks by chance too often.
FEW = 8
# Steps of the cascade of random layers.
STEPS = 8
# Of the slices that tell, so many must gain.
SHARE = 0.75


@dataclass(frozen=True)
class TrustThresholds:
    """What a method must hold to, for the median over slices, or for three slices of four.

    These are conventions of this house, as the sources give no numbers: a rank correlation of 0.5
    shares a quarter of its variance. Of 8 slices a map drawn by chance gains in three of four or
    more with probability 0.14, of 32 with 0.004.

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
        failed: Names of the checks that the method fails, those that no slice tells included;
            empty where all maps are the same everywhere, which says nothing of the method.
        slices: How many slices have a map that is not the same everywhere.
    """

    method: str
    randomised: float
    randomised_ssim: float
    deletion_gain: float
    insertion_gain: float
    stable: float
    sensitivity: float
    failed: tuple[str, ...]
    slices: int = FEW

    @property
    def trusted(self) -> bool:
        """Whether there are maps, and no check failed."""
        return not self.failed and self.slices > 0

    @property
    def sentence(self) -> str:
        """The verdict in words, with the numbers of the checks that failed."""
        if not self.slices:
            return f"{self.method} gives maps that are the same everywhere."
        if self.trusted:
            few = "" if self.slices >= FEW else f", on {self.slices} slices only"
            return f"{self.method} passes all checks{few}."
        found = ", ".join(f"{name} {getattr(self, name):.2f}" for name in self.failed)
        return f"{self.method} fails: {found}."


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on, medians over slices.

    Attributes:
        method: Its name.
        rows: Of the check ``randomised`` the layer that was randomised last, from the output down,
            and the rank correlation; of ``deletion`` and ``insertion`` the share of flipped pixels,
            the curve of the method's order and, last, that of a random one.
    """

    method: str
    rows: tuple[tuple[str, str, float, float], ...]


class Checked(NamedTuple):
    """A verdict and what it rests on."""

    verdict: Verdict
    evidence: Evidence


def judge(
    method: str,
    layers: Cascade,
    flipping: Flipping,
    noise: Stability,
    thresholds: TrustThresholds | None = None,
    *,
    slices: int = FEW,
) -> Verdict:
    """The verdict on a method from what was measured of it.

    Args:
        method: Its name.
        layers: Of the same slices as the others; the last step counts.
        flipping: Curves.
        noise: Stability.
        thresholds: What is asked; None takes the house's.
        slices: How many slices have a map that is not the same everywhere.

    Returns:
        The verdict. A check whose number is NaN is failed: it shows nothing.
    """
    asked = thresholds or TrustThresholds()
    randomised = _median(layers.spearman[-1].abs())
    gains = (flipping.deletion_gain, flipping.insertion_gain)
    deletion, insertion = (_quantile(gain, 1 - SHARE) for gain in gains)
    stable = _median(noise.spearman)
    passed = {
        "randomised": randomised <= asked.randomised,
        "deletion_gain": _often_above(gains[0], asked.gain),
        "insertion_gain": _often_above(gains[1], asked.gain),
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
        tuple(name for name, held in passed.items() if not held and slices),
        slices,
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
) -> dict[str, Checked]:
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
        The verdict on each method, and what it rests on.

    Raises:
        ValueError: As in the checks.
    """
    checked = {}
    for name, method in methods.items():

        def maps(image: Tensor, method: MapMethod = method) -> Tensor:
            # A batch of its own: the gradients that a batch remembers are of the trained network.
            return method(replace(batch, image=image), objective)

        clean = maps(batch.image).detach()
        layers = cascade(
            network,
            maps,
            batch.image,
            seed=seed,
            counted=batch.valid,
            trained=clean,
            most=STEPS,
        )
        flipping = pixel_flipping(
            batch, clean, objective, signed=name not in by_magnitude, seed=seed
        )
        noise = stability(maps, batch, seed=seed, clean=clean)
        told = int((~rank_correlation(clean, clean, batch.valid).isnan()).sum())
        verdict = judge(name, layers, flipping, noise, thresholds, slices=told)
        checked[name] = Checked(verdict, _evidence(name, layers, flipping))
    return checked


def maps_per_check(network: nn.Module, image: Tensor) -> int:
    """How many times a method draws its maps while it is checked.

    Args:
        network: The network.
        image: What it is run on, shape ``(1, C, H, W)``.
    """
    samples: int = signature(stability).parameters["samples"].default
    return 1 + len(cascade_steps(len(weight_layers(network, image)), STEPS)) + samples


def _evidence(method: str, layers: Cascade, flipping: Flipping) -> Evidence:
    rows = [
        ("randomised", layer, _median(found), nan)
        for layer, found in zip(layers.layers, layers.spearman, strict=True)
    ]
    ranked, chance = flipping.ranked, flipping.at_random
    for check in ("deletion", "insertion"):
        pairs = zip(getattr(ranked, check).mT, getattr(chance, check).mT, strict=True)
        rows += [
            (check, f"{share:g}", _median(value), _median(random))
            for share, (value, random) in zip(ranked.shares.tolist(), pairs, strict=True)
        ]
    return Evidence(method, tuple(rows))


def _often_above(gains: Tensor, least: float) -> bool:
    """Whether three slices of four gain, of those that tell."""
    known = gains[~gains.isnan()]
    return len(known) > 0 and float((known > least).double().mean()) >= SHARE


def _median(values: Tensor) -> float:
    """Median of what is known, the mean of the two in the middle; NaN if nothing is."""
    return _quantile(values, 0.5)


def _quantile(values: Tensor, share: float) -> float:
    return float(torch.nanquantile(values.double(), share))
