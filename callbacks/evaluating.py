"""What an evaluation in a callback needs of the trainer: network, batches, fingerprints."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from errors import InputError
from robustness.batches import Batch
from robustness.objectives import OBJECTIVES, Objective
from robustness.saliency import Forward

TRAINING_LOSS = "training_loss"


def network_forward(trainer: Trainer, module: LightningModule) -> Forward:
    """The raw module in the trainer's precision: callbacks run outside of it."""

    def forward(image: Tensor) -> Tensor:
        context: AbstractContextManager[Any] = trainer.precision_plugin.forward_context()
        with context:
            logits: Tensor = module(image)
        return logits

    return forward


def split_batches(trainer: Trainer, split: str) -> Iterator[Batch]:
    """The batches that a validation or test has looked at, on the network's device.

    Raises:
        InputError: If there are several sets of data.
    """
    return loader_batches(trainer, _loader(trainer, split), _batches(trainer, split))


def loader_batches(trainer: Trainer, loader: Any, batches: int | None = None) -> Iterator[Batch]:  # noqa: ANN401 (Lightning takes any iterable)
    """The first batches of a loader, or all, on the network's device."""
    for batch in itertools.islice(loader, batches):
        moved: Batch = trainer.strategy.batch_to_device(batch)
        yield moved


def split_slices(trainer: Trainer, split: str) -> int:
    """How many slices :func:`split_batches` gives this process."""
    loader = _loader(trainer, split)
    batches = _batches(trainer, split)
    slices: int = len(loader.sampler)
    return slices if batches is None else min(slices, batches * loader.batch_size)


def _loader(trainer: Trainer, split: str) -> Any:  # noqa: ANN401 (Lightning takes any iterable)
    loader: Any = trainer.val_dataloaders if split == "val" else trainer.test_dataloaders
    if not isinstance(loader, list | tuple):
        return loader
    if len(loader) != 1:
        msg = f"{split} data: found {len(loader)} loaders, expected 1; attack one set at a time"
        raise InputError(msg)
    return loader[0]


def _batches(trainer: Trainer, split: str) -> int | None:
    limits = trainer.num_val_batches if split == "val" else trainer.num_test_batches
    limit = limits[0] if isinstance(limits, list) else limits
    return int(limit) if limit != float("inf") else None


def heeding_sigterm(trainer: Trainer, advance: Callable[[int], None]) -> Callable[[int], None]:
    """A function to call after each batch of slices: it moves a bar on, and ends on SIGTERM.

    Lightning notes the signal and acts on it between batches of its own loops alone.

    Args:
        trainer: Notes the signal.
        advance: Takes the number of slices that are done.
    """

    def after_slices(slices: int) -> None:
        if trainer.received_sigterm:
            raise SIGTERMException
        advance(slices)

    return after_slices


def objectives_of(module: LightningModule) -> Mapping[str, Objective]:
    """The objectives that attacks may use: those of ``robustness``, and the module's own loss.

    Args:
        module: Any module; one with ``image_losses(logits, target, valid) -> (B,)`` adds
            ``training_loss``, unless it is ``exclusive``: a loss of a softmax needs more than the
            leads that its ``forward`` gives.
    """
    own: Any = getattr(module, "image_losses", None)
    if own is None or getattr(module, "exclusive", False):
        return OBJECTIVES
    return {**OBJECTIVES, TRAINING_LOSS: own}


def gather(part: Any) -> list[Any]:  # noqa: ANN401 (whatever is handed in comes back as a list)
    """What each process has, on every process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [part]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, part)
    return parts


def class_names(module: LightningModule, classes: int) -> list[str]:
    """Names of the K classes; numbers where the module has none."""
    names = [str(name) for name in getattr(module, "class_names", [])]
    return names if len(names) == classes else [f"class_{index}" for index in range(classes)]


def data_fingerprints(trainer: Trainer, split: str) -> dict[str, str]:
    """What the DataModule says of its data; data that says nothing is paired with nothing."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    if datamodule is None or not hasattr(datamodule, "fingerprints"):
        return {}
    prints: dict[str, str] = datamodule.fingerprints(split)
    return prints


def weights_sha256(module: torch.nn.Module) -> str:
    """sha256 over the names, types, shapes and bytes of a module's state.

    Of the weights and not of a checkpoint's file: that one also holds metrics with their times,
    and differs between two trainings that gave the same network.

    Args:
        module: Any module.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def mendable(
    option: str = "--robustness.attacks", advice: str = "change the attacks or the network"
) -> Iterator[None]:
    """What attacks refuse (too many pixels, a network that diverged) is the user's to mend.

    Args:
        option: Where the attacks come from.
        advice: What the user can do.

    Raises:
        InputError: In place of ValueError.
    """
    try:
        yield
    except ValueError as error:
        msg = f"{option}: {error}; {advice}"
        raise InputError(msg) from error
