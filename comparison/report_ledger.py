"""The section of the report that shows the loss ledgers; what comes from runs is escaped."""

import html
from collections.abc import Mapping, Sequence

import numpy as np

from comparison.ledger import SPLIT, LossLedgers
from comparison.report_pictures import image_html
from lightning_module.ledger_history import DICE_GAP, EVEN_SHARES, LossHistory, percent


def ledger_section(ledgers: Sequence[LossLedgers], heat_maps: Mapping[str, bytes]) -> str:
    """Of each loss a table of its classes and the heat map of its first seed.

    Args:
        ledgers: The ledgers of each loss.
        heat_maps: PNG of each loss.

    Returns:
        HTML; empty where no run has a ledger.
    """
    if not ledgers:
        return ""
    return (
        f"<h2>Loss ledgers</h2><p>Which class the loss of the split {SPLIT} comes from, after the "
        f"last epoch and epoch by epoch; all heat maps are on one scale. Marked is a class that "
        f"goes wrong without the loss telling: its Dice lies {DICE_GAP:g} or more below the median "
        f"of the other classes, while its share of the loss is at most {EVEN_SHARES:g} times an "
        "even one.</p>" + "".join(_of_loss(found, heat_maps[found.loss]) for found in ledgers)
    )


def _of_loss(found: LossLedgers, heat_map: bytes) -> str:
    loss = html.escape(found.loss)
    partings = "".join(
        f'<p class="note">{html.escape(f"{words}, epoch {history.epochs[-1]}: {parting}")}</p>'
        for words, history in found.histories.items()
        for parting in history.partings()
    )
    picture = image_html(heat_map, html.escape(f"loss ledger of {found.loss}", quote=True))
    return (
        f'<h3>{loss}</h3><div class="scroll">{_table(found.histories)}</div>{partings}'
        f"<p>{picture}</p>"
    )


def _table(histories: Mapping[str, LossHistory]) -> str:
    heads = "".join(
        f"<th>{html.escape(f'{words}, epoch {history.epochs[-1]}')}: share of the loss</th>"
        "<th>Dice</th>"
        for words, history in histories.items()
    )
    names = dict.fromkeys(name for history in histories.values() for name in history.class_names)
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(_cells(history, name) for history in histories.values())
        + "</tr>"
        for name in names
    )
    return f"<table><thead><tr><th>class</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(history: LossHistory, name: str) -> str:
    if name not in history.class_names:
        return "<td></td><td></td>"
    index = history.class_names.index(name)
    share, dice = history.class_shares()[-1, index], history.dice[-1, index]
    parted = any(parting.name == name for parting in history.partings())
    mark = ' class="parted"' if parted else ""
    shown = "none" if np.isnan(share) else percent(float(share))
    scored = "none" if np.isnan(dice) else f"{dice:.3f}"
    return f"<td{mark}>{shown}</td><td{mark}>{scored}</td>"
