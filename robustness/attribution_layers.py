"""Attribution by a layer's feature maps: Grad-CAM and guided Grad-CAM."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustness.attack import AttackBatch, Passes
from robustness.attribution_backprop import guided_gradient
from robustness.attribution_method import OBJECTIVE, PER_INTENSITY, Attribution
from robustness.objectives import Objective
from robustness.saliency import check_logits

FEATURE_AXES = 4


@dataclass(frozen=True)
class GradCam(Attribution):
    """Feature maps A of a layer, weighed by their mean gradient: ReLU(sum_k mean(dF/dA_k) A_k).

    The sum of the layer's size is scaled up to that of the image (bilinear) and is the same for
    each channel of the image.

    Args:
        layer: Name of a module, as ``named_modules`` gives it, that is called once a pass and gives
            one tensor ``(B, K, h, w)``. Empty for the rule: of the modules without submodules,
            called once and before the last one, the last of those with the lowest resolution; in
            a U-Net the end of its deepest level.
        positive: Whether what is below 0 is cut, as in the paper; maps are signed otherwise.

    References:
        Selvaraju et al.: Grad-CAM: visual explanations from deep networks via gradient-based
        localization, ICCV 2017, equations 1 and 2. For sums over pixels: Vinogradova, Dibrov,
        Myers: Towards interpretable semantic segmentation via gradient-weighted class activation
        mapping, AAAI 2020, which takes the deepest level of a U-Net.
    """

    name: ClassVar[str] = "grad_cam"
    unit: ClassVar[str] = OBJECTIVE
    layer: str = ""
    positive: bool = True

    @property
    def signed(self) -> bool:
        """Whether what is below 0 is kept."""
        return not self.positive

    def passes(self, height: int, width: int) -> Passes:
        """One forward and one backward pass, which ends at the layer."""
        return Passes(1, 1)

    def attribute(
        self, network: nn.Module, batch: AttackBatch, objective: Objective, seed: int
    ) -> Tensor:
        """Class activation map, shape ``(B, C, H, W)``, the same for each channel.

        Raises:
            ValueError: If there is no such layer, or if it does not give one feature map.
        """
        cam = activation_map(self, self.layer, network, batch, objective)
        if self.positive:
            cam = cam.clamp(min=0)
        return _scaled_up(cam, batch.image).expand_as(batch.image).clone()


@dataclass(frozen=True)
class GuidedGradCam(Attribution):
    """Guided backpropagation times Grad-CAM (positive part, scaled up); per intensity.

    Args:
        layer: As in :class:`GradCam`.

    References:
        Selvaraju et al.: Grad-CAM: visual explanations from deep networks via gradient-based
        localization, ICCV 2017, section 3.2.
    """

    name: ClassVar[str] = "guided_grad_cam"
    unit: ClassVar[str] = f"{OBJECTIVE} x {PER_INTENSITY}"
    layer: str = ""

    def passes(self, height: int, width: int) -> Passes:
        """Those of its two factors, whose backward passes differ."""
        return Passes(2, 2)

    def attribute(
        self, network: nn.Module, batch: AttackBatch, objective: Objective, seed: int
    ) -> Tensor:
        """Product of both maps, shape ``(B, C, H, W)``.

        Raises:
            ValueError: As in :class:`GradCam`; if the network has an activation that is not ReLU.
        """
        guided = guided_gradient(self.name, network, batch, objective)
        cam = activation_map(self, self.layer, network, batch, objective).clamp(min=0)
        return guided * _scaled_up(cam, batch.image)


def activation_map(
    method: Attribution, layer: str, network: nn.Module, batch: AttackBatch, objective: Objective
) -> Tensor:
    """Sum of a layer's feature maps, each weighed by its mean gradient.

    Args:
        method: Who asks, for errors.
        layer: Name of a module; empty for the rule in :class:`GradCam`.
        network: The modules behind ``batch.forward``.
        batch: The clean slices.
        objective: One scalar per slice.

    Returns:
        Signed, of the layer's size, shape ``(B, 1, h, w)``.

    Raises:
        ValueError: If there is no such layer, or if it does not give one feature map.
    """
    modules = {name: module for name, module in network.named_modules() if name}
    if layer and layer not in modules:
        near = get_close_matches(layer, modules, n=3)
        hint = f", such as {', '.join(near)}" if near else ""
        method.refuse("layer", layer, f"the name of a module of the network{hint}")
    watched = (
        {layer: modules[layer]}
        if layer
        else {name: module for name, module in modules.items() if not any(module.children())}
    )
    with torch.enable_grad():
        leaf = batch.image.clone().requires_grad_()
        with _outputs(watched) as outputs:
            logits = batch.forward(leaf).float()
        check_logits(logits, batch.mask)
        values = objective(logits, batch.mask.clone(), batch.counted.clone())
        features = _named(method, layer, outputs) if layer else _deepest(method, outputs)
        gradient = None
        if features.requires_grad and values.requires_grad:
            (gradient,) = torch.autograd.grad(values.sum(), features, allow_unused=True)
    if gradient is None:
        chosen = layer or "the one found by the rule"
        method.refuse("layer", chosen, "one between the image and the objective")
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1, keepdim=True).detach()


@contextmanager
def _outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, list[object]]]:
    """What modules give, by name in the order of their first calls, one entry for each call."""
    outputs: dict[str, list[object]] = {}

    def keep(name: str, output: object) -> object:
        outputs.setdefault(name, []).append(output)
        # What follows gets a copy, which it may write over.
        return output.clone() if isinstance(output, Tensor) else None

    # A module under two names has both of them in `modules` only once.
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, module in modules.items()
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _named(method: Attribution, layer: str, outputs: dict[str, list[object]]) -> Tensor:
    calls = outputs.get(layer, [])
    if len(calls) != 1:
        method.refuse("layer", f"{layer}, called {len(calls)} times", "a module called once a pass")
    (features,) = calls
    if not isinstance(features, Tensor) or features.dim() != FEATURE_AXES:
        method.refuse("layer", layer, "a module that gives one tensor of shape (B, K, h, w)")
    return features


def _deepest(method: Attribution, outputs: dict[str, list[object]]) -> Tensor:
    once = [calls[0] for calls in list(outputs.values())[:-1] if len(calls) == 1]
    maps = [one for one in once if isinstance(one, Tensor) and one.dim() == FEATURE_AXES]
    if not maps:
        method.refuse("layer", "empty", "the name of a module: the rule finds none here")
    # The first of the reversed is the last of equals.
    return min(reversed(maps), key=lambda one: one.shape[2] * one.shape[3])


def _scaled_up(cam: Tensor, image: Tensor) -> Tensor:
    return functional.interpolate(cam, size=image.shape[2:], mode="bilinear", align_corners=False)
