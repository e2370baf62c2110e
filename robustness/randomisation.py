"""Whether a map depends on what a network learned: its layers are randomised from the output down.

A method whose maps stay as they were draws the image, not the network.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor, nn

from robustness.keyed_random import absorb, counter_hashes, text_key, uniforms
from robustness.map_agreement import rank_correlation, structural_similarity
from robustness.network_state import untouched
from robustness.spread import magnitudes

# Maps (B, C, H, W) of images (B, C, H, W).
Maps = Callable[[Tensor], Tensor]
# A PReLU's slope before training.
_SLOPE = 0.25


@dataclass(frozen=True)
class Cascade:
    """How alike the maps of the trained and of the randomised network are, layer by layer.

    Attributes:
        layers: The name of the layer that was randomised last at each step, the output's first.
        spearman: Rank correlation of magnitudes, float64, shape ``(layers, B)``.
        ssim: Structural similarity of magnitudes, float64, same shape.
    """

    layers: tuple[str, ...]
    spearman: Tensor
    ssim: Tensor


def cascade(
    network: nn.Module,
    maps: Maps,
    image: Tensor,
    *,
    seed: int = 0,
    counted: Tensor | None = None,
) -> Cascade:
    """Randomise a network layer by layer from the output down and compare its maps.

    After each layer the maps are drawn again, with that layer and all nearer to the output at
    random. The network is in evaluation mode meanwhile, and bit for bit as it was afterwards, even
    if the method fails. Takes one forward pass and ``layers + 1`` times what the method takes.

    Args:
        network: The trained network; it is changed in place for the time of the call.
        maps: The method, drawing the maps of this very network.
        image: Shape ``(B, C, H, W)``.
        seed: Of the random weights.
        counted: True where pixels count in the rank correlation, shape ``(B, 1, H, W)``; None
            counts all.

    Returns:
        The similarities; NaN where a map is zero (or, for ranks, the same everywhere).

    Raises:
        ValueError: If the network has no weights, or a slice is smaller than the window of SSIM.

    References:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, section 3.1.
    """
    with untouched(network), _restored(network):
        layers = list(reversed(weight_layers(network, image[:1])))
        if not layers:
            msg = "network: found no weights, expected some to randomise"
            raise ValueError(msg)
        trained = magnitudes(maps(image).detach())[:, None]
        ranks, structures = [], []
        for layer in layers:
            for name in layer:
                randomise(network.get_submodule(name), name, seed)
            found = magnitudes(maps(image).detach())[:, None]
            ranks.append(rank_correlation(trained, found, counted))
            structures.append(structural_similarity(trained, found))
    names = tuple(layer[0] for layer in layers)
    return Cascade(names, torch.stack(ranks), torch.stack(structures))


def weight_layers(network: nn.Module, image: Tensor) -> list[tuple[str, ...]]:
    """The layers of a network in the order in which a forward pass uses them.

    A layer is a module that has weights of its own with two or more axes, together with the
    modules after it that have weights with one axis only, such as norms and learned slopes. A
    module used several times stands where it is used last; modules that the pass does not use,
    such as heads of training, are left out.

    Args:
        network: Any module.
        image: What it is run on, shape ``(1, C, H, W)``.

    Returns:
        The names of each layer's modules.
    """
    last_use: dict[str, int] = {}
    handles = []

    def noted(name: str) -> Callable[[nn.Module, object, object], None]:
        def note(module: nn.Module, inputs: object, output: object) -> None:
            last_use[name] = max(last_use.values(), default=0) + 1

        return note

    try:
        for name, module in network.named_modules():
            if next(module.parameters(recurse=False), None) is not None:
                handles.append(module.register_forward_hook(noted(name)))
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    layers: list[tuple[str, ...]] = []
    for name in sorted(last_use, key=last_use.__getitem__):
        if layers and not _has_matrix(network.get_submodule(name)):
            layers[-1] = (*layers[-1], name)
        else:
            layers.append((name,))
    return layers


def randomise(module: nn.Module, name: str, seed: int) -> None:
    """Give the weights of one module, without its children, what they may be before training.

    Weights with two or more axes are uniform in ``+-sqrt(6 / fan_in)``, a function of seed, name
    and place, so that signals behind a ReLU neither fade nor grow; biases are 0, scales of norms 1,
    their running means 0 and variances 1, slopes of PReLU 0.25.

    Args:
        module: Changed in place.
        name: Its name in the network.
        seed: Of the weights.

    References:
        He, Zhang, Ren, Sun: Delving deep into rectifiers, ICCV 2015, equation 10 (as a uniform
        distribution of the same variance).
    """
    with torch.no_grad():
        for key, weight in module.named_parameters(recurse=False):
            if weight.dim() > 1:
                weight.copy_(_drawn(module, weight, f"{name}.{key}", seed))
            elif "bias" in key:
                weight.zero_()
            else:
                weight.fill_(_SLOPE if isinstance(module, nn.PReLU) else 1.0)
    if isinstance(module, nn.modules.batchnorm._NormBase):
        module.reset_running_stats()


def _drawn(module: nn.Module, weight: Tensor, name: str, seed: int) -> Tensor:
    window = prod(weight.shape[2:])
    fan_in = weight.shape[1] * window
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        # Of the window only every stride-th weight meets one output pixel.
        groups_in = weight.shape[0] // module.groups
        fan_in = max(1, groups_in * window // prod(module.stride))
    start = torch.zeros(1, dtype=torch.int64)
    key = absorb(absorb(start, seed), text_key(f"randomisation/{name}"))
    drawn = uniforms(counter_hashes(key, 0, weight.numel())).reshape(weight.shape)
    return (2 * drawn - 1) * sqrt(6 / fan_in)


def _has_matrix(module: nn.Module) -> bool:
    return any(weight.dim() > 1 for weight in module.parameters(recurse=False))


@contextmanager
def _restored(network: nn.Module) -> Iterator[None]:
    """Parameters and buffers as they were, by value and in place."""
    kept = [(one, one.detach().clone()) for one in (*network.parameters(), *network.buffers())]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)
