"""Whether a map depends on what a network learned: its layers are randomised from the output down.

A method whose maps stay as they were draws the image, not the network.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import prod, sqrt

import torch
from torch import Tensor, fx, nn

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
    trained: Tensor | None = None,
    most: int | None = None,
) -> Cascade:
    """Randomise a network layer by layer from the output down and compare its maps.

    After each layer the maps are drawn again, with that layer and all nearer to the output at
    random. The network is in evaluation mode meanwhile, and bit for bit as it was afterwards, even
    if the method fails. Takes one forward pass and ``steps + 1`` times what the method takes, or
    ``steps`` times where the maps of the trained network are given; a step is a layer, or several.

    Args:
        network: The trained network; it is changed in place for the time of the call.
        maps: The method, drawing the maps of this very network.
        image: Shape ``(B, C, H, W)``.
        seed: Of the random weights.
        counted: True where pixels count in the rank correlation, shape ``(B, 1, H, W)``; None
            counts all.
        trained: The maps of the trained network, where they are there already; they are not drawn
            again then.
        most: Of how many steps: where there are more layers, several in a row make one. None draws
            maps after every layer.

    Returns:
        The similarities; NaN where a map is zero (or, for ranks, the same everywhere). SSIM is NaN
        too where a slice is smaller than its window.

    Raises:
        ValueError: If the network has no weights.

    References:
        Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, section 3.1.
    """
    with untouched(network), _restored(network):
        layers = list(reversed(weight_layers(network, image[:1])))
        if not layers:
            msg = "network: found no weights, expected some to randomise"
            raise ValueError(msg)
        if trained is None:
            trained = maps(image)
        before = magnitudes(trained.detach())[:, None]
        ranks, structures = [], []
        names = []
        for step in cascade_steps(len(layers), most):
            for layer in layers[step]:
                for name in layer:
                    _randomise_named(network, name, seed)
            names.append(layers[step][-1][0])
            found = magnitudes(maps(image).detach())[:, None]
            ranks.append(rank_correlation(before, found, counted))
            structures.append(_similarity(before, found))
    return Cascade(tuple(names), torch.stack(ranks), torch.stack(structures))


def cascade_steps(layers: int, most: int | None) -> list[slice]:
    """Which layers each step of a cascade randomises, in groups of nearly equal size.

    Args:
        layers: How many there are.
        most: How many steps there may be; None makes each layer one.
    """
    steps = layers if most is None else min(layers, most)
    ends = [round(layers * step / steps) for step in range(steps + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def weight_layers(network: nn.Module, image: Tensor) -> list[tuple[str, ...]]:
    """The layers of a network in the order in which a forward pass uses them.

    A layer is a module that has weights of its own with two or more axes, together with the
    modules after it that have weights with one axis only, such as norms and learned slopes. A
    module used several times stands where it is used last; modules that the pass does not use,
    such as heads of training, are left out.

    A program does not show all that. Where a network holds TorchScript, layers stand in the order
    of ``named_modules``, used or not. Where it holds an exported program, which reads weights
    without calling a module, the weights themselves take the modules' place, in the order of
    ``named_parameters``. Both are the order in which layers were declared: most often that of use.

    Args:
        network: Any module.
        image: What it is run on, shape ``(1, C, H, W)``.

    Returns:
        The names of each layer's modules, or of its weights in an exported program.
    """
    if any(_is_exported(module) for module in network.modules()):
        matrices = {name: weight.dim() > 1 for name, weight in network.named_parameters()}
        return _grouped(list(matrices), matrices.__getitem__)
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        names = [name for name, module in network.named_modules() if _has_weights(module)]
    else:
        names = _used_modules(network, image)
    return _grouped(names, lambda name: _has_matrix(network.get_submodule(name)))


def randomise(module: nn.Module, name: str, seed: int) -> None:
    """Give the weights of one module, without its children, what they may be before training.

    Weights with two or more axes are uniform in ``+-sqrt(6 / fan_in)``, a function of seed, name
    and place, so that signals behind a ReLU neither fade nor grow; biases are 0, scales of norms 1,
    their running means 0 and variances 1, slopes of PReLU 0.25. TorchScript does not tell strides
    and groups: the fan_in of a transposed convolution in it is that of an ordinary one.

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
            _begin(module, weight, f"{name}.{key}" if name else key, seed)
        _forget_statistics(module)


def _randomise_named(network: nn.Module, name: str, seed: int) -> None:
    """Randomise one part of a layer from :func:`weight_layers`."""
    weight = dict(network.named_parameters()).get(name)
    if weight is None:
        randomise(network.get_submodule(name), name, seed)
        return
    owner = network.get_submodule(name.rpartition(".")[0])
    with torch.no_grad():
        _begin(owner, weight, name, seed)
        _forget_statistics(owner)


def _begin(module: nn.Module, weight: Tensor, name: str, seed: int) -> None:
    if weight.dim() > 1:
        weight.copy_(_drawn(module, weight, name, seed))
    elif "bias" in name.rpartition(".")[2]:
        weight.zero_()
    else:
        kind = getattr(module, "original_name", type(module).__name__)  # the former in TorchScript
        weight.fill_(_SLOPE if kind == nn.PReLU.__name__ else 1.0)


def _forget_statistics(module: nn.Module) -> None:
    """Statistics of a norm, by their names: programs have no classes."""
    beginning = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
    for key, value in module.named_buffers(recurse=False):
        if key in beginning:
            value.fill_(beginning[key])


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


def _similarity(first: Tensor, second: Tensor) -> Tensor:
    try:
        return structural_similarity(first, second)
    except ValueError:
        # Ranks were compared, so that shapes agree: slices are smaller than the window.
        return torch.full((len(first),), torch.nan, dtype=torch.float64, device=first.device)


def _used_modules(network: nn.Module, image: Tensor) -> list[str]:
    """Names of the modules with weights of their own, in the order of their last use."""
    last_use: dict[str, int] = {}
    handles = []

    def noted(name: str) -> Callable[[nn.Module, object, object], None]:
        def note(module: nn.Module, inputs: object, output: object) -> None:
            last_use[name] = max(last_use.values(), default=0) + 1

        return note

    try:
        for name, module in network.named_modules():
            if _has_weights(module):
                handles.append(module.register_forward_hook(noted(name)))
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return sorted(last_use, key=last_use.__getitem__)


def _grouped(names: list[str], is_matrix: Callable[[str], bool]) -> list[tuple[str, ...]]:
    layers: list[tuple[str, ...]] = []
    for name in names:
        if layers and not is_matrix(name):
            layers[-1] = (*layers[-1], name)
        else:
            layers.append((name,))
    return layers


def _is_exported(module: nn.Module) -> bool:
    """Whether a module is a graph that reads weights by itself."""
    if not isinstance(module, fx.GraphModule):
        return False
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    return any(name in read for name, _ in module.named_parameters())


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


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
