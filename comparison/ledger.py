"""The loss ledgers of the runs that are compared, and their heat maps on one scale."""

from collections.abc import Sequence
from dataclasses import dataclass

from comparison.selection import Selection
from lightning_module.ledger_history import LossHistory, loss_history
from pictures.drawing import draw
from pictures.ledger import ledger_figure, share_limit
from tracking.reading import fetch_ledger

# Attacks may be on the test set, but only this one is scored in every epoch.
SPLIT = "val"


@dataclass(frozen=True)
class LossLedgers:
    """What the validation loss of the runs of one loss was made of.

    Attributes:
        loss: The loss expression.
        histories: Of each run that has a ledger, by what tells it from the others: its seed.
    """

    loss: str
    histories: dict[str, LossHistory]


def loss_ledgers(selection: Selection) -> list[LossLedgers]:
    """The ledgers of the runs, read from the store.

    Args:
        selection: The runs.

    Returns:
        Losses in the order in which they are shown; those none of whose runs has one are left out,
        and so are those of one term and one class, of whose loss there is nothing to share out.

    Raises:
        InputError: If a stored ledger cannot be read.
    """
    found = []
    for loss, runs in selection.by_loss().items():
        histories = {}
        for compared in runs:
            table = fetch_ledger(compared.run)
            history = None if table is None else loss_history(table, SPLIT)
            if history is not None and len(history.term_names) * len(history.class_names) > 1:
                histories[selection.run_words(compared)] = history
        if histories:
            found.append(LossLedgers(loss, histories))
    return found


def ledger_figures(ledgers: Sequence[LossLedgers]) -> dict[str, bytes]:
    """PNG of the heat map of each loss, of several seeds that of the first; all on one scale.

    Args:
        ledgers: From :func:`loss_ledgers`.

    Returns:
        PNGs by loss.
    """
    if not ledgers:
        return {}
    limit = share_limit([history for found in ledgers for history in found.histories.values()])
    figures: dict[str, bytes] = {}
    for found in ledgers:
        words, history = next(iter(found.histories.items()))
        title = f"{found.loss}, {words}: where the loss of {SPLIT} comes from"
        figures[found.loss] = draw(ledger_figure(history, title=title, limit=limit))
    return figures
