"""Says in one line what is about to be trained or scored."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.progress import say


class Opening(Callback):
    """Prints task, split sizes and the size of the network before the first batch."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before training."""
        _print_line(trainer, pl_module, ("train", "val", "test"))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before a validation that is not part of a training."""
        if trainer.state.fn != TrainerFn.FITTING:
            _print_line(trainer, pl_module, ("val",))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before a test."""
        _print_line(trainer, pl_module, ("test",))


def _print_line(trainer: Trainer, module: LightningModule, splits: tuple[str, ...]) -> None:
    weights = sum(parameter.numel() for parameter in module.parameters())
    words = [f"network of {weights:,} parameters on {module.device}"]
    data: Any = getattr(trainer, "datamodule", None)
    if hasattr(data, "split_cases"):
        cases = [f"{len(data.split_cases(split))} {split}" for split in splits]
        words.insert(0, f"cases: {', '.join(cases)}")
    if getattr(data, "overlap", False):
        say(trainer, "Note: every case is in every split (--data.split overlap): no result.")
    say(trainer, "; ".join(words))
