"""Attribution by backward passes with rules of their own: DeepLIFT and guided backpropagation."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustness.attack import AttackBatch, Passes
from robustness.attribution_functions import running_modules
from robustness.attribution_method import OBJECTIVE, PER_INTENSITY, Attribution, baseline_image
from robustness.attribution_rules import GuidedRules, RescaleRules
from robustness.objectives import Objective
from robustness.saliency import ascent

# How far contributions may miss the difference, as a share of their absolute sum, and of the
# objective's own size, which rounding goes with.
GAP = 0.01
ROUNDING = 1e-4


@dataclass(frozen=True)
class DeepLift(Attribution):
    """Contributions by the rescale rule, against a baseline, in units of the objective.

    A slice's map adds up to F(x) - F(b), which is checked to 1 %. Modules that are used twice,
    activations called as functions, PReLU and the like and the objective's own functions all get
    the rule; functions of several entries at once, such as instance norm, are refused.

    Args:
        baseline: Intensity of the baseline; 0 is that of the padding.
        valid_only: Whether padding keeps its values in the baseline and so adds nothing.

    References:
        Shrikumar, Greenside, Kundaje: Learning important features through propagating activation
        differences, ICML 2017, section 3.5.1.
    """

    name: ClassVar[str] = "deeplift"
    unit: ClassVar[str] = OBJECTIVE
    baseline: float = 0.0
    valid_only: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        if not math.isfinite(self.baseline):
            self.refuse("baseline", self.baseline, "a finite intensity")

    def passes(self, height: int, width: int) -> Passes:
        """A forward pass at the baseline, and a forward and a backward pass at the image."""
        return Passes(2, 1)

    def attribute(
        self, network: nn.Module, batch: AttackBatch, objective: Objective, seed: int
    ) -> Tensor:
        """Contributions, shape ``(B, C, H, W)``.

        Raises:
            ValueError: If a function of network or objective has no rule, or if contributions do
                not add up.
        """
        start = baseline_image(batch, self.baseline, valid_only=self.valid_only)
        with running_modules(network, self.name) as path:
            rules = RescaleRules(self.name, path)

            def forward(image: Tensor) -> Tensor:
                with rules:
                    return batch.forward(image)

            def ruled(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
                with rules:
                    return objective(logits, target, valid)

            with torch.enable_grad():
                logits = forward(start.clone().requires_grad_()).float()
                before = ruled(logits, batch.mask.clone(), batch.counted.clone()).detach()
            rules.rewind()
            after, multiplier, _ = ascent(forward, ruled, batch.image, batch.mask, batch.counted)
        contribution = multiplier * (batch.image - start)
        self._check_sum(contribution, before, after)
        return contribution

    def _check_sum(self, contribution: Tensor, before: Tensor, after: Tensor) -> None:
        found, expected = contribution.flatten(1).sum(dim=1), after - before
        gap = (found - expected).abs()
        allowed = GAP * contribution.flatten(1).abs().sum(dim=1)
        allowed += ROUNDING * (1 + before.abs() + after.abs())
        if (gap <= allowed).all():
            return
        worst = int((gap - allowed).argmax())
        self.refuse(
            f"the sum of slice {worst}'s contributions",
            f"{float(found[worst]):.4g}",
            f"{float(expected[worst]):.4g}, the objective's difference to the baseline: a "
            "comparison decides something in network or objective; freeze the objective's mask "
            "(frozen_prediction) or choose another method",
        )


@dataclass(frozen=True)
class GuidedBackprop(Attribution):
    """The gradient, cut at 0 on its way back through each ReLU; per intensity.

    The objective's own functions keep their gradient. An activation that is not ReLU is refused:
    the rule is defined for ReLU alone, and a plain gradient in its place would go unseen.

    References:
        Springenberg, Dosovitskiy, Brox, Riedmiller: Striving for simplicity: the all convolutional
        net, ICLR workshop 2015, section 3.4.
    """

    name: ClassVar[str] = "guided_backprop"
    unit: ClassVar[str] = PER_INTENSITY

    def passes(self, height: int, width: int) -> Passes:
        """One forward and one backward pass."""
        return Passes(1, 1)

    def attribute(
        self, network: nn.Module, batch: AttackBatch, objective: Objective, seed: int
    ) -> Tensor:
        """Guided gradient, shape ``(B, C, H, W)``.

        Raises:
            ValueError: If the network has an activation that is not ReLU.
        """
        return guided_gradient(self.name, network, batch, objective)


def guided_gradient(
    method: str, network: nn.Module, batch: AttackBatch, objective: Objective
) -> Tensor:
    """The gradient that ReLUs cut at 0 on its way back, shape ``(B, C, H, W)``.

    Args:
        method: Name of the method, for errors.
        network: The modules behind ``batch.forward``.
        batch: The clean slices.
        objective: One scalar per slice.

    Raises:
        ValueError: If the network has an activation that is not ReLU.
    """
    with running_modules(network, method) as path:
        rules = GuidedRules(method, path)

        def forward(image: Tensor) -> Tensor:
            with rules:
                return batch.forward(image)

        return ascent(forward, objective, batch.image, batch.mask, batch.counted).gradient
