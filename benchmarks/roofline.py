"""What the machine allows and what the network reaches of it, and what the rest is lost to."""

from collections import defaultdict
from functools import partial

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bare import Bare, fastest, median_seconds
from benchmarks.data import Slices, slices
from benchmarks.timing import write_results

# What the operators of the network do, by the words in their names; the first that fits counts.
_KINDS = {
    "convolutions": ("conv",),
    "normalisation": ("batch_norm",),
    "activation": ("relu",),
    "pooling": ("pool",),
    "concatenation": ("cat",),
}
_MATRIX = 2048
_BYTES = 2**28


def matrix_flops() -> float:
    """Floating-point operations per second of a large matrix product in float32."""
    one, other = torch.rand(2, _MATRIX, _MATRIX).unbind()
    return 2 * _MATRIX**3 / median_seconds(partial(torch.mm, one, other))


def bandwidth() -> float:
    """Bytes per second that a copy far larger than the caches reads and writes."""
    source = torch.rand(_BYTES // 4)
    target = torch.empty_like(source)
    return 2 * _BYTES / median_seconds(partial(target.copy_, source))


def convolution_flops(bare: Bare, height: int, width: int) -> float:
    """FLOP of a forward pass of the network's convolutions alone, each on its own, per second."""
    flops = seconds = 0.0
    for layer, shape in _convolutions(bare, height, width):
        given = torch.rand(shape).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            flops += _flops(partial(layer, given))
            seconds += median_seconds(partial(layer, given), trials=11)
    return flops / seconds


def measure(given: Slices) -> list[str]:
    """Measure both limits, the network, and the time by kind of operator.

    Returns:
        A table and what follows from it, as lines.
    """
    image = given.batch("test", slices=64)["image"]
    bare = fastest(image)
    part = image[: bare.batch_size]
    with torch.no_grad():
        flops = _flops(partial(bare.network, part)) / len(part)
        seconds = median_seconds(partial(bare.network, part), trials=21) / len(part)
        shares = _shares(bare, part)
        moved = _moved(bare, part)
    matrix, memory = matrix_flops(), bandwidth()
    alone = convolution_flops(bare, *part.shape[-2:])
    least = max(flops / matrix, moved / memory)
    lines = [
        "| what | measured |",
        "|---|---|",
        f"| FLOP of the network for a slice of {part.shape[-2]} x {part.shape[-1]} | "
        f"{flops / 1e9:.3f} GFLOP |",
        f"| activations written and read once, float32 | {moved / 1e6:.1f} MB a slice |",
        f"| matrix product, float32 | {matrix / 1e9:.0f} GFLOP/s |",
        f"| copy in memory | {memory / 1e9:.1f} GB/s |",
        f"| forward pass, {bare.layout}, {bare.batch_size} at once | {1 / seconds:.0f} slices/s |",
        f"| reached of the matrix limit | {flops / seconds / matrix:.0%} |",
        f"| reached by its convolutions alone | {alone / matrix:.0%} |",
        f"| reached of what both limits allow | {least / seconds:.0%} |",
        *(f"| share of the time: {kind} | {share:.0%} |" for kind, share in shares.items()),
    ]
    slowest = max(shares, key=lambda kind: shares[kind])
    return [
        *lines,
        "",
        f"Most of the time goes to {slowest}. Few channels at full resolution fill the vector "
        "units badly: the convolutions alone stay below a large matrix product; everything else "
        "moves activations through memory without computing much.",
    ]


def _flops(thing: partial[object]) -> float:
    with FlopCounterMode(display=False) as counter:
        thing()
    return float(counter.get_total_flops())


def _shares(bare: Bare, image: torch.Tensor) -> dict[str, float]:
    """The share of the time of a forward pass by kind of operator."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(10):
            bare.network(image)
    times: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        kinds = [kind for kind, words in _KINDS.items() if any(word in event.key for word in words)]
        times[(kinds or ["other"])[0]] += event.self_cpu_time_total
    total = sum(times.values())
    return {kind: times[kind] / total for kind in (*_KINDS, "other")}


def _moved(bare: Bare, image: torch.Tensor) -> float:
    """Bytes of activations that the modules of the network read and write, for each slice."""
    total = 0

    def add(module: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        nonlocal total
        total += out.nbytes + sum(one.nbytes for one in given)

    leaves = [module for module in bare.network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(add) for module in leaves]
    bare.network(image)
    for hook in hooks:
        hook.remove()
    return total / len(image)


def _convolutions(
    bare: Bare, height: int, width: int
) -> list[tuple[nn.Module, tuple[int, int, int, int]]]:
    """The convolutions of the network with the shapes of what they are given."""
    found: list[tuple[nn.Module, tuple[int, int, int, int]]] = []

    def add(module: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        batch, channels, rows, columns = given[0].shape
        found.append((module, (batch, channels, rows, columns)))

    layers = [
        module
        for module in bare.network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    hooks = [module.register_forward_hook(add) for module in layers]
    with torch.no_grad():
        bare.network(torch.rand(bare.batch_size, 1, height, width))
    for hook in hooks:
        hook.remove()
    return found


if __name__ == "__main__":
    with slices() as prepared:
        print(write_results(f"Roofline of the U-Net on {prepared.name}", [], measure(prepared)))
