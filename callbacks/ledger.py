"""Keeps the ledger of every epoch, and says where a class goes wrong without the loss telling."""

from typing import Any

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.progress import say
from callbacks.run_state import run_logger
from lightning_module.ledger import REGULARIZATION, LossLedger
from lightning_module.ledger_history import LEDGER_COLUMNS, NO_CLASS, Parting, loss_history
from pictures.ledger import ledger_figure
from pictures.style import to_png_bytes
from tracking.reading import LEDGER_FILE, LEDGER_FOLDER

_LEDGERS = {"train": "train_ledger", "val": "eval_ledger", "test": "eval_ledger"}
_REMEDY = (
    "the total does not tell; raise its weight in --model.class_weights, or that of a term that "
    "counts classes alike, such as batch_dice"
)
_PATIENCE = 3  # epochs in which a class may still be learnt, before it is warned of

Row = tuple[str, int, str, str, float, float, float]


class LedgerCallback(Callback):
    """Writes term by class of every epoch as a table and as heat maps, once fit ends.

    The history is part of each checkpoint, so that a resumed run has every epoch once. A module
    without ``train_ledger`` and ``eval_ledger`` is left alone.
    """

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._parted: dict[str, int] = {}  # by class, for how many validations in a row

    def state_dict(self) -> dict[str, Any]:
        """The history, and how long classes have gone wrong, as plain values."""
        return {"rows": [list(row) for row in self._rows], "parted": dict(self._parted)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the history of the run that goes on."""
        self._rows = [tuple(row) for row in state_dict["rows"]]
        self._parted = dict(state_dict["parted"])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what the epoch was trained on, before its checkpoint is written."""
        self._keep(_rows(trainer, pl_module, "train", trainer.current_epoch))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what an epoch of fit was validated with; warn in any validation."""
        if trainer.sanity_checking:
            return
        fitting = trainer.state.fn == TrainerFn.FITTING
        epoch = trainer.current_epoch if fitting else _evaluated_epoch(pl_module)
        rows = _rows(trainer, pl_module, "val", epoch)
        found = _partings(rows)
        if not fitting:
            _warn(trainer, rows, found)
            return
        again = any(row[:2] == ("val", epoch) for row in self._rows)
        self._keep(rows)
        if not again:
            self._parted = {part.name: self._parted.get(part.name, 0) + 1 for part in found}
            _warn(trainer, rows, [part for part in found if self._parted[part.name] == _PATIENCE])

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table and a heat map a split; also where there was nothing left to train.

        Warn of the classes that have gone wrong in the end.
        """
        last = max((row[1] for row in self._rows if row[0] == "val"), default=-1)
        rows = [row for row in self._rows if row[:2] == ("val", last)]
        late = [part for part in _partings(rows) if self._parted.get(part.name) != _PATIENCE]
        _warn(trainer, rows, late)
        logger = run_logger(trainer)
        if logger is None or not self._rows or not trainer.is_global_zero:
            return
        table = _table(self._rows)
        logger.log_text(_csv(table), f"{LEDGER_FOLDER}/{LEDGER_FILE}")
        for split in table["split"].unique():
            history = loss_history(table, split)
            if history is not None:
                title = f"{logger.run_name or 'loss'}: where the loss of {split} comes from"
                png = to_png_bytes(ledger_figure(history, title=title))
                logger.log_picture(png, f"{LEDGER_FOLDER}/{split}")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table of a test."""
        rows = _rows(trainer, pl_module, "test", _evaluated_epoch(pl_module))
        _warn(trainer, rows, _partings(rows))
        logger = run_logger(trainer)
        if logger is not None and rows and trainer.is_global_zero:
            logger.log_text(_csv(_table(rows)), f"{LEDGER_FOLDER}/test.csv")

    def _keep(self, rows: list[Row]) -> None:
        """Add an epoch of a split; one that is there already was validated before in the epoch."""
        if rows:
            self._rows = [row for row in self._rows if row[:2] != rows[0][:2]] + rows


def _partings(rows: list[Row]) -> list[Parting]:
    """The classes whose share of the loss and Dice part ways in an epoch."""
    history = loss_history(_table(rows), rows[0][0]) if rows else None
    return history.partings() if history is not None else []


def _warn(trainer: Trainer, rows: list[Row], found: list[Parting]) -> None:
    for parting in found:
        split, epoch = rows[0][:2]
        say(trainer, f"Warning: {split}, epoch {epoch}: {parting}: {_REMEDY}")


def _rows(trainer: Trainer, module: LightningModule, split: str, epoch: int) -> list[Row]:
    """The ledger of an epoch that has ended; on all processes, which add theirs up here."""
    ledger = getattr(module, _LEDGERS[split], None)
    if not isinstance(ledger, LossLedger):
        return []
    values, scores = ledger.compute(), trainer.callback_metrics
    dice = {name: float(scores.get(f"{split}/dice/{name}", "nan")) for name in ledger.class_names}
    rows = [
        (split, epoch, term, name, values[f"loss/{term}/{name}"], weight, dice[name])
        for term, weight in zip(ledger.term_names, ledger.term_weights, strict=True)
        for name in ledger.class_names
        if f"loss/{term}/{name}" in values
    ]
    penalty = values.get(f"loss/{REGULARIZATION}")
    if penalty is not None:
        rows.append((split, epoch, REGULARIZATION, NO_CLASS, penalty, 1.0, float("nan")))
    return rows


def _evaluated_epoch(module: LightningModule) -> int:
    """Epoch of the weights outside of fit."""
    return int(getattr(module, "evaluated_epoch", 0))


def _table(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS))


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, lineterminator="\n"))
