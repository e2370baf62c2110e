"""How a network is put through its passes on this machine: measured once, then remembered."""

import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluating import gather, network_forward
from datamodules.whole_file import write_whole
from errors import InputError
from robustness.batch_size import candidates_for, fastest_batch_size, seconds_per_slice
from robustness.batches import ordinary_tensors
from robustness.layout import LAYOUTS, laid_out
from robustness.saliency import Forward
from tracking.store import runs_dir

MEASURED_FILE = "fastest.json"
# What is not the usual way must be faster by this much.
_GAIN = 0.03


@dataclass(frozen=True)
class Fastest:
    """What was measured to be the fastest way.

    Attributes:
        batch_size: Slices at once.
        layout: One of ``LAYOUTS``.
        compiled: Whether what attacks are counted on is compiled.
    """

    batch_size: int
    layout: str
    compiled: bool

    @classmethod
    def read(cls, found: Any) -> Self | None:  # noqa: ANN401 (what a file of JSON may hold)
        """What was remembered; None where it makes no sense."""
        names = {"batch_size": int, "layout": str, "compiled": bool}
        if not isinstance(found, dict) or {k: type(v) for k, v in found.items()} != names:
            return None
        known = found["batch_size"] > 0 and found["layout"] in LAYOUTS
        return cls(**found) if known else None


@dataclass(frozen=True)
class Network:
    """A network as an evaluation uses it.

    Attributes:
        forward: Gives logits for images, with a gradient where one is asked for.
        counted_by: Gives logits for images without a gradient, in the fastest way.
        batch_size: Slices at once.
    """

    forward: Forward
    counted_by: Forward
    batch_size: int


@contextmanager
def at_its_fastest(
    trainer: Trainer,
    module: LightningModule,
    image: Callable[[], Tensor],
    *,
    batch_size: int = 0,
    may_compile: bool = False,
) -> Iterator[Network]:
    """Inside, a network is laid out and batched as is fastest, on all processes alike.

    Args:
        trainer: Its precision is part of what is remembered.
        module: The network.
        image: Gives some slices, shape ``(B, C, H, W)``, on the network's device.
        batch_size: Slices at once; 0 measures what is fastest. With a size and nothing to compile
            nothing is measured, and the network stays as it is.
        may_compile: Whether what attacks are counted on may be compiled.

    Yields:
        The network; nothing may be trained inside.

    Raises:
        InputError: If the network is to be compiled and cannot be.
    """
    forward = network_forward(trainer, module)
    if batch_size and not may_compile:
        yield Network(forward, forward, batch_size)
        return
    compiled = _compiled(trainer, module) if may_compile else forward
    slices = image()
    sizes = (batch_size,) if batch_size else candidates_for(slices)
    found: Fastest | None = None
    if trainer.is_global_zero:
        file = runs_dir() / MEASURED_FILE
        known = _read(file)
        key = _key(trainer, module, slices, sizes, may_compile=may_compile)
        found = Fastest.read(known.get(key))
        if found is None:
            with ordinary_tensors():
                found = _measured(module, forward, compiled, slices, sizes)
            known[key] = asdict(found)
            # Where it cannot be kept, it is measured again the next time.
            with suppress(OSError):
                write_whole(file, json.dumps(known, indent=1, sort_keys=True).encode())
    chosen: Fastest = gather(found)[0]
    with laid_out(module, chosen.layout):
        counted_by = compiled if chosen.compiled else forward
        yield Network(forward, counted_by, chosen.batch_size)


def _measured(
    module: LightningModule,
    forward: Forward,
    compiled: Forward,
    image: Tensor,
    sizes: tuple[int, ...],
) -> Fastest:
    """The layout and the size in which slices pass fastest, and whether compiling adds to that."""
    best, least = None, float("inf")
    for layout in LAYOUTS:
        with laid_out(module, layout):
            size = fastest_batch_size(forward, image, candidates=sizes)
            seconds = seconds_per_slice(forward, image, size)
        if best is None or seconds < (1 - _GAIN) * least:
            best, least = (size, layout), seconds
    assert best is not None, "there are layouts"
    with laid_out(module, best[1]):
        pays = (
            compiled is not forward
            and seconds_per_slice(compiled, image, best[0]) < (1 - _GAIN) * least
        )
    return Fastest(*best, compiled=pays)


def _compiled(trainer: Trainer, module: LightningModule) -> Forward:
    """The network compiled, on GPUs into CUDA graphs."""
    on_gpu = module.device.type == "cuda"
    graph: Any = torch.compile(module, mode="reduce-overhead" if on_gpu else None)
    forward = network_forward(trainer, graph)
    seen: set[torch.Size] = set()

    def counted_by(image: Tensor) -> Tensor:
        try:
            logits = forward(image)
        except RuntimeError as error:
            if image.shape in seen:
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            msg = (
                f"--robustness.compile: found {reason}, expected a network and a machine that "
                "torch.compile can deal with (on CPUs with a C++ compiler such as g++); install "
                "one, or leave the option out"
            )
            raise InputError(msg) from error
        seen.add(image.shape)
        # A CUDA graph writes its next result to the same place.
        return logits.clone() if on_gpu else logits

    return counted_by


def _read(file: Path) -> dict[str, Any]:
    """What was measured before; a file that is missing or broken means to measure anew."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(
    trainer: Trainer,
    module: LightningModule,
    image: Tensor,
    sizes: tuple[int, ...],
    *,
    may_compile: bool,
) -> str:
    """All that the speed depends on, in words, and the weights' shapes as a hash."""
    device = image.device
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else platform.processor() or "cpu"
    shapes = [(key, tuple(value.shape)) for key, value in module.state_dict().items()]
    network = hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]
    parts = [
        name,
        f"{torch.get_num_threads()} threads",
        f"torch {torch.__version__}",
        f"precision {trainer.precision}",
        "x".join(str(side) for side in image.shape[1:]),
        network,
    ]
    parts += [f"batches of {sizes[0]}"] if len(sizes) == 1 else []
    parts += ["compiled or not"] if may_compile else []
    return ", ".join(parts)
