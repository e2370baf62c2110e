"""What happens at validation end: the network is attacked; counts, curves, pictures go on."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from callbacks.progress import progress, say
from callbacks.record import Evaluation, record_curves, record_evaluation
from callbacks.run_state import run_logger
from errors import InputError
from robustness.attack import Attack, attacks_fingerprint
from robustness.batches import Batch
from robustness.counts import counts_frame
from robustness.engine import Plan, evaluate, make_plan, seconds_per_slice
from robustness.network_state import untouched
from robustness.saliency import Forward
from robustness.snapshots import LargestSlices, Snapshot, take_snapshots


class RobustnessCallback(Callback):
    """Attacks the network at validation end and hands the counts, curves and pictures to the run.

    Args:
        attacks: The attacks; each has a unique name.
        splits: Where the network is attacked: ``val`` (fit and validate), ``test``, both or none.
        every_n_epochs: How often the network is attacked during fit; 0 is after the last epoch
            only.
        seed: Seed of the attacks' random pixels and values, apart from that of the training.
        batch_size: Slices in each forward pass; 16 or more, so that logits do not depend on it.
        pictures: Of how many cases pictures are drawn, the first by name; 0 draws none.
        picture_attack: Name of the attack whose points figure 4 shows.
    """

    def __init__(
        self,
        attacks: list[Attack],
        splits: Sequence[Literal["val", "test"]] = ("val", "test"),
        every_n_epochs: int = 0,
        seed: int = 0,
        batch_size: int = 32,
        pictures: int = 4,
        picture_attack: str = "top5_beyond_range",
    ) -> None:
        for option, number, least in (
            ("every_n_epochs", every_n_epochs, 0),
            ("batch_size", batch_size, 16),
            ("pictures", pictures, 0),
        ):
            if number < least:
                msg = f"--robustness.{option}: found {number}, expected {least} or more; raise it"
                raise InputError(msg)
        self.attacks = attacks
        self.splits = tuple(splits)
        self.every_n_epochs = every_n_epochs
        self.seed = seed
        self.batch_size = batch_size
        self.pictures = pictures
        self.plan = _plan(attacks)
        self.shown = _shown(attacks, picture_attack) if pictures else None
        self._epoch = 0
        self._last: Evaluation | None = None
        self._attacked_step = -1
        self._curves_logged = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attack where it is due: after the last epoch, every n epochs, and outside of fit."""
        if trainer.sanity_checking or "val" not in self.splits:
            return
        fitting = trainer.state.fn == TrainerFn.FITTING
        if not fitting or self._due(trainer):
            self._attack(trainer, pl_module, "val", last=not fitting or _is_last_epoch(trainer))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the epoch: the trainer's own number has moved on when training ends."""
        self._epoch = trainer.current_epoch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attack the last weights where nobody knew before that training would end with them."""
        if "val" not in self.splits or trainer.val_dataloaders is None:
            return
        if self._attacked_step != trainer.global_step:
            self._attack(trainer, pl_module, "val", last=True)
        elif not self._curves_logged and self._last is not None:
            record_curves(run_logger(trainer), self._last)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attack on the test set."""
        if "test" in self.splits:
            self._attack(trainer, pl_module, "test", last=True)

    def _due(self, trainer: Trainer) -> bool:
        if not trainer.is_last_batch:
            return False
        epoch = trainer.current_epoch + 1
        by_epoch = self.every_n_epochs > 0 and epoch % self.every_n_epochs == 0
        return by_epoch or _is_last_epoch(trainer)

    def _attack(self, trainer: Trainer, module: LightningModule, split: str, *, last: bool) -> None:
        device = module.device
        self._attacked_step = trainer.global_step
        chooser = LargestSlices(self.pictures)
        snapshots: list[Snapshot] = []
        with untouched(module), _mendable():
            forward = _forward(trainer, module)
            total = _announce(trainer, split, self.plan, forward, self.batch_size)
            with progress(trainer, "Attacks", total) as advance:

                def after_slices(slices: int) -> None:
                    # Lightning notes the signal and acts on it between batches of its own loops.
                    if trainer.received_sigterm:
                        raise SIGTERMException
                    advance(slices)

                table = evaluate(
                    forward,
                    _watched(_batches(trainer, split), chooser),
                    self.plan,
                    device=device,
                    seed=self.seed,
                    batch_size=self.batch_size,
                    on_slices=after_slices,
                )
            parts = _gather(table.partial())
            for samples in _gather(chooser.samples()):
                chooser.merge(samples)
            if self.shown is not None and trainer.is_global_zero:
                snapshots = take_snapshots(
                    forward,
                    chooser.samples(),
                    self.shown,
                    device=device,
                    seed=self.seed,
                    batch_size=self.batch_size,
                )
        logger = run_logger(trainer)
        if not trainer.is_global_zero:
            return
        if logger is None:
            say(trainer, "No run to write to: the counts of these attacks are not kept.")
            return
        frame = counts_frame(parts, self.plan.rows, _class_names(module, parts[0].sums.shape[2]))
        metadata = {
            "checkpoint_sha256": weights_sha256(module),
            "attacks": attacks_fingerprint(self.attacks, self.seed),
            "split_name": split,
            **_data_fingerprints(trainer, split),
        }
        fitting = trainer.state.fn == TrainerFn.FITTING
        epoch = self._epoch if fitting else int(getattr(module, "evaluated_epoch", 0))
        self._last = Evaluation(split, epoch, frame, metadata, snapshots)
        self._curves_logged = last
        record_evaluation(logger, self._last)
        if last:
            record_curves(logger, self._last)


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
def _mendable() -> Iterator[None]:
    """What attacks refuse (too many pixels, a network that diverged) is the user's to mend."""
    try:
        yield
    except ValueError as error:
        msg = f"--robustness.attacks: {error}; change the attacks or the network"
        raise InputError(msg) from error


def _plan(attacks: list[Attack]) -> Plan:
    try:
        return make_plan(attacks)
    except ValueError as error:
        msg = f"--robustness.attacks: {error}; rename one"
        raise InputError(msg) from error


def _shown(attacks: list[Attack], name: str) -> Attack | None:
    """The attack of figure 4; None where no attacks are made at all."""
    by_name = {attack.name: attack for attack in attacks}
    if attacks and name not in by_name:
        msg = (
            f"--robustness.picture_attack: {name} is none of the attacks, expected one of "
            f"{', '.join(by_name)}; choose one or set --robustness.pictures 0"
        )
        raise InputError(msg)
    return by_name.get(name)


def _is_last_epoch(trainer: Trainer) -> bool:
    """Whether training surely ends here; one that was asked to stop may have to go on."""
    done = trainer.current_epoch + 1
    by_epochs = trainer.max_epochs is not None and 0 < trainer.max_epochs <= done
    by_steps = 0 < trainer.max_steps <= trainer.global_step
    return by_epochs or by_steps


def _forward(trainer: Trainer, module: LightningModule) -> Forward:
    """The raw module in the trainer's precision: callbacks run outside of it."""

    def forward(image: Tensor) -> Tensor:
        context: AbstractContextManager[Any] = trainer.precision_plugin.forward_context()
        with context:
            logits: Tensor = module(image)
        return logits

    return forward


def _batches(trainer: Trainer, split: str) -> Iterator[Batch]:
    loader: Any = trainer.val_dataloaders if split == "val" else trainer.test_dataloaders
    limits = trainer.num_val_batches if split == "val" else trainer.num_test_batches
    if isinstance(loader, list | tuple):
        if len(loader) != 1:
            msg = f"{split} data: found {len(loader)} loaders, expected 1; attack one set at a time"
            raise InputError(msg)
        loader = loader[0]
    limit = limits[0] if isinstance(limits, list) else limits
    stop = int(limit) if limit != float("inf") else None
    for batch in itertools.islice(loader, stop):
        moved: Batch = trainer.strategy.batch_to_device(batch)
        yield moved


def _watched(batches: Iterator[Batch], chooser: LargestSlices) -> Iterator[Batch]:
    """The batches, shown to the one who chooses slices for pictures as they pass."""
    for batch in batches:
        chooser.look(batch)
        yield batch


def _announce(trainer: Trainer, split: str, plan: Plan, forward: Forward, batch_size: int) -> int:
    """Say how many forward passes are coming and how long they take; returns this rank's slices."""
    loader: Any = trainer.val_dataloaders if split == "val" else trainer.test_dataloaders
    loader = loader[0] if isinstance(loader, list | tuple) else loader
    first = next(_batches(trainer, split))
    limits = trainer.num_val_batches if split == "val" else trainer.num_test_batches
    batches = int(limits[0] if isinstance(limits, list) else limits)
    slices: int = min(len(loader.sampler), batches * loader.batch_size)
    seconds = seconds_per_slice(forward, first["image"], batch_size) * slices * plan.passes
    everywhere: int = sum(_gather(slices))
    say(
        trainer,
        f"Attacks on {split}: {len(plan.attacks)} attacks, {plan.passes} forward passes of "
        f"{everywhere:,} slices = {everywhere * plan.passes:,} in all, about {_clock(seconds)}",
    )
    return slices


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _gather(part: Any) -> list[Any]:  # noqa: ANN401 (whatever is handed in comes back as a list)
    """What each process has, on every process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [part]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, part)
    return parts


def _class_names(module: LightningModule, classes: int) -> list[str]:
    names = [str(name) for name in getattr(module, "class_names", [])]
    return names if len(names) == classes else [f"class_{index}" for index in range(classes)]


def _data_fingerprints(trainer: Trainer, split: str) -> dict[str, str]:
    """What the DataModule says of its data; data that says nothing is paired with nothing."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    if datamodule is None or not hasattr(datamodule, "fingerprints"):
        return {}
    prints: dict[str, str] = datamodule.fingerprints(split)
    return prints
