"""Checkpoints of a run: ``last.ckpt`` and ``best.ckpt`` in its own folder, never half-written."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from callbacks.run_state import run_logger
from tracking.store import runs_dir


def run_checkpoints(monitor: str = "val/dice") -> list[Callback]:
    """What keeps ``last.ckpt`` and ``best.ckpt`` of a run.

    Two callbacks, since Lightning's ``save_last`` skips epochs that are not among the best.

    Args:
        monitor: Metric that says which epoch is the best; the highest wins.

    Returns:
        The best epoch's first, so that the last epoch's file, from which a run goes on, knows it.
    """
    return [RunCheckpoint("best", monitor), RunCheckpoint("last", None)]


class RunCheckpoint(ModelCheckpoint):
    """Keeps one file under ``checkpoints/<run id>/``, beside the store.

    Args:
        name: Name of the file, without its ending.
        monitor: Metric whose highest value is kept; None keeps the last epoch.
    """

    def __init__(self, name: str, monitor: str | None) -> None:
        super().__init__(
            monitor=monitor,
            mode="max",
            filename=name,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
            auto_insert_metric_name=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run's folder; rank zero knows the run and tells the others."""
        if stage != "fit":
            return
        logger = run_logger(trainer)
        if logger is not None:
            run_id = trainer.strategy.broadcast(logger.version)
            self.dirpath = str(runs_dir() / "checkpoints" / str(run_id))
        super().setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, unless nothing was validated yet that could be the best."""
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, and loads tensors and plain types only.

    A process that is killed while it writes leaves the previous checkpoint whole. A checkpoint
    that holds anything but tensors and plain types, and so could run code, is refused.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: object | None = None,
    ) -> None:
        """Write a checkpoint in one step; see the base class."""
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        # One process writes a run's checkpoints: what lies here was left by one that was killed.
        for left in final.parent.glob(f"{final.name}.*.partial"):
            left.unlink(missing_ok=True)
        partial = final.with_name(f"{final.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: object | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, tensors and plain types only; see the base class."""
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return checkpoint
