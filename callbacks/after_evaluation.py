"""What measures a network after an evaluation: when it is due, and what a refusal must not cost."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.run_state import run_logger
from errors import InputError

Splits = Sequence[Literal["val", "test"]]


class AfterEvaluation(Callback, ABC):
    """Measures at validation end: after the last epoch, every n epochs, and outside of fit.

    Args:
        splits: Where the network is measured: ``val`` (fit and validate), ``test``, both or none.
        every_n_epochs: How often it is measured during fit; 0 is after the last epoch only.
    """

    def __init__(self, splits: Splits, every_n_epochs: int) -> None:
        self.splits = tuple(splits)
        self.every_n_epochs = every_n_epochs
        self._epoch = 0
        self._measured_step = -1
        self._refused: InputError | None = None

    @abstractmethod
    def measure(self, trainer: Trainer, module: LightningModule, split: str, *, last: bool) -> None:
        """Measure the network on a split and hand what is found to the run.

        Args:
            trainer: Has the batches of the split.
            module: The network.
            split: ``val`` or ``test``.
            last: Whether these weights are surely the last ones.

        Raises:
            InputError: If the network cannot be measured.
        """

    def became_last(self, trainer: Trainer) -> None:
        """The weights measured last turned out to be the last ones; does nothing by default."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure where it is due."""
        if trainer.sanity_checking or "val" not in self.splits:
            return
        if trainer.state.fn != TrainerFn.FITTING:
            self._measure(trainer, pl_module, "val", last=True)
        elif self._due(trainer):
            with self._refused_later(trainer):
                self._measure(trainer, pl_module, "val", last=_is_last_epoch(trainer))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the epoch: the trainer's own number has moved on when training ends.

        Raises:
            InputError: If the epoch before could not be measured.
        """
        self._raise_refused(trainer)
        self._epoch = trainer.current_epoch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the last weights where nobody knew before that training would end with them.

        Raises:
            InputError: If the last epoch could not be measured.
        """
        self._raise_refused(trainer)
        if "val" not in self.splits or trainer.val_dataloaders is None:
            return
        if self._measured_step != trainer.global_step:
            self._measure(trainer, pl_module, "val", last=True)
        else:
            self.became_last(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure on the test set."""
        if "test" in self.splits:
            self._measure(trainer, pl_module, "test", last=True)

    def epoch_of(self, trainer: Trainer, module: LightningModule) -> int:
        """Epoch, from 0, of the weights that are measured."""
        fitting = trainer.state.fn == TrainerFn.FITTING
        return self._epoch if fitting else int(getattr(module, "evaluated_epoch", 0))

    def _measure(
        self, trainer: Trainer, module: LightningModule, split: str, *, last: bool
    ) -> None:
        self._measured_step = trainer.global_step
        self.measure(trainer, module, split, last=last)

    @contextmanager
    def _refused_later(self, trainer: Trainer) -> Iterator[None]:
        """Keep a refusal until the epoch's checkpoint is written, so that it is not lost.

        Of several processes one may refuse and the others wait for it: then all end at once.
        """
        try:
            yield
        except InputError as error:
            if trainer.world_size > 1:
                raise
            self._refused = error

    def _raise_refused(self, trainer: Trainer) -> None:
        if self._refused is not None:
            logger = run_logger(trainer)
            if logger is not None:
                logger.send()
            raise self._refused

    def _due(self, trainer: Trainer) -> bool:
        if not trainer.is_last_batch:
            return False
        epoch = trainer.current_epoch + 1
        by_epoch = self.every_n_epochs > 0 and epoch % self.every_n_epochs == 0
        return by_epoch or _is_last_epoch(trainer)


def check_numbers(section: str, *options: tuple[str, int, int]) -> None:
    """Refuse whole numbers below the least that makes sense.

    Args:
        section: Of the command line, such as ``robustness``.
        options: Name, number found and least number of each.

    Raises:
        InputError: If one is below.
    """
    for option, number, least in options:
        if number < least:
            msg = f"--{section}.{option}: found {number}, expected {least} or more; raise it"
            raise InputError(msg)


def _is_last_epoch(trainer: Trainer) -> bool:
    """Whether training surely ends here; one that was asked to stop may have to go on."""
    done = trainer.current_epoch + 1
    by_epochs = trainer.max_epochs is not None and 0 < trainer.max_epochs <= done
    by_steps = 0 < trainer.max_steps <= trainer.global_step
    return by_epochs or by_steps
