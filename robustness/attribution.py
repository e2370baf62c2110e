"""Attribution maps: which entries of an image an objective of a network's logits depends on.

``explain(METHODS["gradient"](), network, batch, objective)`` gives a map for each slice.
"""

import torch
from torch import Tensor, nn

from robustness.attack import AttackBatch
from robustness.attribution_backprop import DeepLift, GuidedBackprop
from robustness.attribution_gradients import (
    Gradient,
    GradientXInput,
    IntegratedGradients,
    SmoothGrad,
)
from robustness.attribution_layers import GradCam, GuidedGradCam
from robustness.attribution_method import Attribution
from robustness.attribution_perturbation import Lime, Occlusion
from robustness.names import find_named
from robustness.network_state import untouched
from robustness.objectives import Objective

METHODS: dict[str, type[Attribution]] = {
    "gradient": Gradient,
    "gradient_x_input": GradientXInput,
    "smoothgrad": SmoothGrad,
    "integrated_gradients": IntegratedGradients,
    "deeplift": DeepLift,
    "guided_backprop": GuidedBackprop,
    "grad_cam": GradCam,
    "guided_grad_cam": GuidedGradCam,
    "occlusion": Occlusion,
    "lime": Lime,
}


def find_method(name: str) -> type[Attribution]:
    """The class of a method.

    Args:
        name: One of ``METHODS``.

    Returns:
        The class; its fields are the settings.

    Raises:
        ValueError: If the name is unknown.
    """
    return find_named("method", name, METHODS)


def explain(
    method: Attribution,
    network: nn.Module,
    batch: AttackBatch,
    objective: Objective,
    seed: int = 0,
) -> Tensor:
    """Maps of a batch by one method.

    Works inside ``no_grad`` and inside inference mode. The network is evaluated as in evaluation
    mode, and is afterwards as it was: modes, ``requires_grad``, hooks, and no parameter's gradient.

    Args:
        method: One of ``METHODS``, with its settings.
        network: The modules behind ``batch.forward``: often that itself.
        batch: The clean slices.
        objective: Gives one scalar per slice, a sum over pixels; see ``robustness.explained``.
        seed: The seed of random numbers, which depend on case and slice beside it.

    Returns:
        float32, shape ``(B, C, H, W)``; signed unless the method's ``signed`` is False.

    Raises:
        ValueError: If the method cannot work with the network, if the objective does not give one
            scalar per slice, or if a map holds NaN or infinite values.

    References:
        Those of each method.
    """
    with untouched(network), torch.inference_mode(mode=False), torch.no_grad():
        ordinary = AttackBatch(
            batch.forward,
            batch.image.clone(),
            batch.mask.clone(),
            batch.valid.clone(),
            batch.case_keys.clone(),
            batch.slice_index.clone(),
            batch.counted.clone(),
            batch.objectives,
        )
        found = method.attribute(network, ordinary, objective, seed).detach().float()
    if not torch.isfinite(found).all():
        msg = f"{method.name}: the map holds NaN or infinite values"
        raise ValueError(msg)
    return found
