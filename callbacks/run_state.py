"""Ties a run to its checkpoints, so that a run that was killed goes on as if it had not been."""

import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from errors import InputError
from tracking.logger import RunLogger

CHECKPOINT_KEY = "segstress"


class RunState(Callback):
    """Keeps the run's id, its settings and the metrics that its store lacks in each checkpoint.

    Metrics are sent when the epoch after begins, that is after the checkpoint that holds them. A
    kill before, between or after the two loses nothing and doubles nothing; a run whose store was
    away goes on from the checkpoint alone.

    Args:
        settings: What the run was made with, as plain values; a checkpoint brings it back.
    """

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        self.settings = settings or {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Open the run, once data and network are known to be good."""
        logger = run_logger(trainer)
        if logger is None:
            return
        data: Any = getattr(trainer, "datamodule", None)
        if hasattr(data, "fingerprints"):
            prints = data.fingerprints("train")
            tags = {f"segstress.{name}": value for name, value in prints.items()}
            logger.describe({}, tags)
        logger.open()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the run to the checkpoint."""
        logger = run_logger(trainer)
        checkpoint[CHECKPOINT_KEY] = {
            "run_id": None if logger is None else logger.version,
            "unsent": [] if logger is None else [list(kept) for kept in logger.undelivered()],
            "settings": self.settings,
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take up what the store may not have from the interrupted run."""
        logger = run_logger(trainer)
        if logger is not None and trainer.state.fn == TrainerFn.FITTING:
            kept = checkpoint.get(CHECKPOINT_KEY, {}).get("unsent", [])
            logger.unsent = [(key, step, now, value) for key, step, now, value in kept]

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """End the processes that wait for this one, when it refuses its input.

        They would otherwise report a lost connection at length, over the one line that says what
        to mend.
        """
        launcher: Any = trainer.strategy.launcher
        if isinstance(exception, InputError) and hasattr(launcher, "procs"):
            launcher.kill(signal.SIGKILL)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the epoch before, whose checkpoint is written."""
        _send(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the last epoch."""
        _send(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send what a validation outside of fit has measured."""
        if trainer.state.fn != TrainerFn.FITTING:
            _send(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send what a test has measured."""
        _send(trainer)


def run_logger(trainer: Trainer) -> RunLogger | None:
    """The logger that writes the run; None where a trainer runs without one."""
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            return logger
    return None


def _send(trainer: Trainer) -> None:
    logger = run_logger(trainer)
    if logger is not None:
        logger.send()
