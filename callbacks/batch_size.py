"""The size of the engine's batches: measured once for a machine and a network, then remembered."""

import hashlib
import json
import platform
from contextlib import suppress
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.evaluating import gather
from datamodules.whole_file import write_whole
from robustness.batch_size import fastest_batch_size
from robustness.saliency import Forward
from tracking.store import runs_dir

MEASURED_FILE = "batch_sizes.json"


def measured_batch_size(
    trainer: Trainer, module: LightningModule, forward: Forward, image: Tensor
) -> int:
    """The fastest size on this machine, the same on all processes.

    Args:
        trainer: Its precision is part of what is remembered.
        module: The network; its kind and the shapes of its weights are.
        forward: Gives logits for images.
        image: Some slices, shape ``(B, C, H, W)``, on the network's device.
    """
    size = 0
    if trainer.is_global_zero:
        file = runs_dir() / MEASURED_FILE
        known = _read(file)
        key = _key(trainer, module, image)
        if key not in known:
            known[key] = fastest_batch_size(forward, image)
            # Where it cannot be kept, it is measured again the next time.
            with suppress(OSError):
                write_whole(file, json.dumps(known, indent=1, sort_keys=True).encode())
        size = known[key]
    return int(gather(size)[0])


def _read(file: Path) -> dict[str, int]:
    """What was measured before; a file that is missing or broken means to measure anew."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: size for key, size in found.items() if isinstance(size, int) and size > 0}


def _key(trainer: Trainer, module: LightningModule, image: Tensor) -> str:
    """All that the speed depends on, in words, and the weights' shapes as a hash."""
    device = image.device
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else platform.processor() or "cpu"
    shapes = [(key, tuple(value.shape)) for key, value in module.state_dict().items()]
    network = hashlib.sha256(repr(shapes).encode()).hexdigest()[:16]
    parts = (
        name,
        f"{torch.get_num_threads()} threads",
        f"torch {torch.__version__}",
        f"precision {trainer.precision}",
        "x".join(str(side) for side in image.shape[1:]),
        network,
    )
    return ", ".join(parts)
