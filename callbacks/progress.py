"""Progress of long work inside a trainer's run, on the trainer's own bar where it has one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from torch import Tensor


class RunProgressBar(RichProgressBar):
    """Lightning's rich progress bar with the loss of the last step, without the run's id.

    It looks at a step only where it draws: looking at a loss waits for the device.
    """

    def __init__(self, refresh_rate: int = 1) -> None:
        """Draw after so many steps, and after the last of an epoch."""
        super().__init__(refresh_rate=refresh_rate)
        self._loss: Tensor | None = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Draw, where it is time to; see the base class."""
        done = batch_idx + 1
        if done % self.refresh_rate == 0 or done == self.total_train_batches:
            self._loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands beside the bar; see the base class."""
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        return shown if self._loss is None else {"loss": self._loss.item(), **shown}


@contextmanager
def progress(trainer: Trainer, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for work of a known amount.

    Args:
        trainer: Its rich progress bar takes one more line; with another bar, or none, nothing is
            drawn.
        title: What is done.
        total: How much there is to do.

    Yields:
        A function to call with the amount that was done since the last call.
    """
    bar = trainer.progress_bar_callback
    if not isinstance(bar, RichProgressBar) or bar.progress is None or not trainer.is_global_zero:
        yield lambda amount: None
        return
    lines = bar.progress
    task = lines.add_task(f"[white]{title}", total=total)

    def advance(amount: int) -> None:
        lines.update(task, advance=amount)
        lines.refresh()

    try:
        yield advance
    finally:
        lines.update(task, visible=False)


def say(trainer: Trainer, text: str) -> None:
    """Print a line on rank zero, above the progress bar where there is one."""
    if not trainer.is_global_zero:
        return
    bar = trainer.progress_bar_callback
    live = bar.progress if isinstance(bar, RichProgressBar) else None
    console = live.console if live is not None else Console()
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def clock(seconds: float) -> str:
    """A time in words: ``6 min 05 s``, or seconds alone below a minute."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
