"""One temperature for each network, so that gradients of networks of other logit scales compare.

A mask does not see the scale of the logits, but gradients of probabilities do: a network whose
logits are ten times as large has another map for the same mask.
"""

import math
from collections.abc import Iterable

import torch
from scipy import optimize
from torch import Tensor

from robustness.batches import Batch, attack_batch, fixed_size
from robustness.objectives import Objective, logit_sum, probability_sum, truth_logits
from robustness.saliency import Forward

# What gradients are taken of: sums over all pixels of p, of z and of p at the matched temperature.
OUTPUTS = ("probability", "logit", "tempered")
# Beyond these no network that learned anything has its optimum; in units of the logits.
_COLDEST, _HOTTEST = 1e-3, 1e4
# Logits beyond 2^20 and below 2^-20 are counted in the last and in the first bin.
_OCTAVES, _BINS_PER_OCTAVE = 20, 256
_BINS = 2 * _OCTAVES * _BINS_PER_OCTAVE


def truth_histogram(
    forward: Forward, batches: Iterable[Batch], *, device: torch.device, batch_size: int = 32
) -> Tensor:
    """How often each logit of the truth occurs in clean slices, in bins of equal ratio.

    Whole numbers, of a fixed size whatever the number of slices: those of several processes add up
    to what one process would have counted.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images; in evaluation mode.
        batches: Batches of the design: slices of validation, rather than those that are measured.
        device: Where the network is.
        batch_size: Slices in a forward pass.

    Returns:
        Pixels that are valid and whose truth is known, int64, shape ``(2, bins)``: the logit of the
        truth is above 0 in row 0, where the network is right, and at most 0 in row 1.
    """
    counts = torch.zeros(2, _BINS, dtype=torch.int64)
    for piece in fixed_size(batches, batch_size):
        batch = attack_batch(forward, piece, device)
        logits = batch.logits(batch.image)
        known = (batch.valid & batch.counted).expand_as(logits).clone()
        known[len(piece.cases) :] = False
        truth = truth_logits(logits, batch.mask)[known].double()
        size = truth.abs().clamp(min=2.0**-_OCTAVES).log2()
        place = ((size + _OCTAVES) * _BINS_PER_OCTAVE).long().clamp(max=_BINS - 1)
        place += _BINS * (truth <= 0)
        counts += torch.bincount(place, minlength=2 * _BINS).reshape(2, _BINS).cpu()
    return counts


def matched_temperature(histogram: Tensor) -> float:
    """The temperature T at which sigmoid(z / T) fits the truth of clean slices best.

    It minimises the binary cross-entropy, ``sum log(1 + exp(-t / T))`` with t the logit of the
    truth; that is convex in 1 / T, so that its slope has one zero. Logits multiplied by a number
    give T multiplied by it, so that tempered outputs do not see the scale. A mean of ``|z|`` set
    to one value would do that too, but is ruled by the many pixels far from the border, where a
    network's logits mean least; the likelihood counts where it errs.

    Args:
        histogram: From :func:`truth_histogram`; each logit stands in the middle of its bin, which
            is wrong by 0.14 % at most.

    Returns:
        T, in logits.

    Raises:
        ValueError: If there are no pixels, or no best T between 0.001 and 10000: where every pixel
            is right the best is 0, where the network is worse than chance it is infinite.

    References:
        Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, ICML 2017,
        section 4 (temperature scaling).
    """
    if not histogram.any():
        msg = "temperature: found no pixel with known truth, expected some; give slices with truth"
        raise ValueError(msg)
    places = torch.arange(_BINS, dtype=torch.float64) + 0.5
    size = torch.exp2(places / _BINS_PER_OCTAVE - _OCTAVES)
    truth = torch.cat([size, -size])
    share = histogram.flatten().double() / histogram.sum()

    def slope(log_temperature: float) -> float:
        scaled = -truth * math.exp(-log_temperature)
        return -float((share * truth * scaled.sigmoid()).sum())

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    if not slope(low) > 0 > slope(high):
        msg = (
            f"temperature: found none between {_COLDEST:g} and {_HOTTEST:g} that fits best, with "
            f"{float(share[_BINS:].sum()):.3g} of the pixels wrong; expected some right and fewer "
            "wrong; give more slices or a trained network"
        )
        raise ValueError(msg)
    return math.exp(float(optimize.brentq(slope, low, high, xtol=1e-10)))


def tempered_sum(temperature: float) -> Objective:
    """Objective: the sum of sigmoid(z / T) over all pixels and classes, in pixels.

    Args:
        temperature: T, in logits.

    Raises:
        ValueError: If T is not above 0 and finite.
    """
    if not 0 < temperature < math.inf:
        msg = f"temperature: found {temperature}, expected a finite number above 0"
        raise ValueError(msg)

    def objective(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return probability_sum(logits / temperature, target, valid)

    return objective


def output_objectives(temperature: float | None) -> dict[str, Objective]:
    """What the spread is measured for, by the names in :data:`OUTPUTS`.

    Args:
        temperature: From :func:`matched_temperature`; without one there is no tempered output.

    Raises:
        ValueError: If it is not above 0 and finite.
    """
    objectives: dict[str, Objective] = {"probability": probability_sum, "logit": logit_sum}
    if temperature is not None:
        objectives["tempered"] = tempered_sum(temperature)
    return objectives
