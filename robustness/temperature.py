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

OUTPUTS = ("probability", "logit", "tempered")
# Beyond these no network that learned anything has its optimum; in units of the logits.
_COLDEST, _HOTTEST = 1e-3, 1e4


def matched_temperature(
    forward: Forward, batches: Iterable[Batch], *, device: torch.device, batch_size: int = 32
) -> float:
    """The temperature T at which sigmoid(z / T) fits the truth of clean slices best.

    It minimises the binary cross-entropy, ``sum log(1 + exp(-t / T))`` with t the logit of the
    truth, over the pixels of all slices that are valid and whose truth is known. Logits multiplied
    by a number give T multiplied by it, so that tempered outputs do not see the scale. A mean
    of ``|z|`` set to one value would do that too, but is ruled by the many pixels far from the
    border, where a network's logits mean least; the likelihood counts where it errs.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images; in evaluation mode.
        batches: Batches of the design: slices of validation, rather than those that are measured.
        device: Where the network is.
        batch_size: Slices in a forward pass.

    Returns:
        T, in logits.

    Raises:
        ValueError: If there are no pixels, or no best T between 0.001 and 10000: where every pixel
            is right the best is 0, where the network is worse than chance it is infinite.

    References:
        Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, ICML 2017,
        section 4 (temperature scaling).
    """
    parts: list[Tensor] = []
    for piece in fixed_size(batches, batch_size):
        batch = attack_batch(forward, piece, device)
        logits = batch.logits(batch.image)
        known = (batch.valid & batch.counted).expand_as(logits).clone()
        known[len(piece.cases) :] = False
        parts.append(truth_logits(logits, batch.mask)[known])
    return best_temperature(torch.cat(parts) if parts else torch.empty(0))


def best_temperature(truth: Tensor) -> float:
    """The temperature of :func:`matched_temperature` from logits of the truth.

    The cross-entropy is convex in 1 / T, so that its slope has one zero.

    Args:
        truth: Logits of the truth, any shape; above 0 where the network is right.

    Raises:
        ValueError: As above.
    """
    if not truth.numel():
        msg = "temperature: found no pixel with known truth, expected some; give slices with truth"
        raise ValueError(msg)
    flat = truth.flatten().double()

    def slope(log_temperature: float) -> float:
        scaled = -flat * math.exp(-log_temperature)
        return -float((flat * scaled.sigmoid()).mean())

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    if not slope(low) > 0 > slope(high):
        wrong = float((flat <= 0).double().mean())
        msg = (
            f"temperature: found none between {_COLDEST:g} and {_HOTTEST:g} that fits best, with "
            f"{wrong:.3g} of the pixels wrong; expected some right and fewer wrong; give more "
            "slices or a trained network"
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


def output_objectives(temperature: float) -> dict[str, Objective]:
    """What the spread is measured for, by the names in :data:`OUTPUTS`.

    Args:
        temperature: From :func:`matched_temperature`.

    Raises:
        ValueError: If it is not above 0 and finite.
    """
    objectives = (probability_sum, logit_sum, tempered_sum(temperature))
    return dict(zip(OUTPUTS, objectives, strict=True))
