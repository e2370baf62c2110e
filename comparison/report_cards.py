"""The report cards of the runs side by side: whether their attacks can be believed."""

import math
from dataclasses import dataclass

import pandas as pd

from comparison.selection import Selection
from pictures.drawing import draw
from pictures.report_card import Mark, report_card_figure
from tracking.reading import fetch_report_card

FIGURE = "report_card"


@dataclass(frozen=True)
class CardRow:
    """A check and what it says of each run.

    Attributes:
        check: Its name in words.
        question: What must hold.
        tolerance: How large the number may be, in words; empty where there is none.
        marks: One for each run, None where its card does not have the check.
        notes: Of each run, why there is no number; empty where there is nothing to say.
    """

    check: str
    question: str
    tolerance: str
    marks: tuple[Mark | None, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ReportCards:
    """The cards of all runs that have one.

    Attributes:
        table: The lines of all cards with ``loss, seed, fold, run`` before them.
        runs: By loss what tells its runs apart, such as ``seed 0``, in the order of the marks.
        rows: The checks, in the order of the cards.
        without: Runs without a card, such as ``bce, seed 0``.
    """

    table: pd.DataFrame
    runs: dict[str, list[str]]
    rows: tuple[CardRow, ...]
    without: tuple[str, ...]


def report_cards(selection: Selection) -> ReportCards | None:
    """The cards of the runs, read from the store; None where no run has one.

    Args:
        selection: The runs.

    Raises:
        InputError: If a stored card cannot be read.
    """
    cards, without = [], []
    runs: dict[str, list[str]] = {}
    for loss, of_loss in selection.by_loss().items():
        for compared in of_loss:
            words = selection.run_words(compared)
            card = fetch_report_card(compared.run, selection.split)
            if card is None:
                without.append(f"{loss}, {words}")
                continue
            runs.setdefault(loss, []).append(words)
            named = {"loss": loss, "seed": compared.seed, "fold": compared.fold}
            named["run"] = compared.run.run_id
            for index, (name, value) in enumerate(named.items()):
                card.insert(index, name, value)
            cards.append(card)
    if not cards:
        return None
    checks = dict.fromkeys(str(check) for card in cards for check in card["check"])
    rows = tuple(_row(check, cards) for check in checks)
    return ReportCards(pd.concat(cards, ignore_index=True), runs, rows, tuple(without))


def report_card_picture(found: ReportCards) -> dict[str, bytes]:
    """PNG of all cards, by the name of its file.

    Args:
        found: From :func:`report_cards`.
    """
    figure = report_card_figure(
        [f"{row.check}\n{row.tolerance}".strip() for row in found.rows],
        found.runs,
        [row.marks for row in found.rows],
        title="Report card: can the attacks be believed?",
    )
    return {FIGURE: draw(figure)}


def _row(check: str, cards: list[pd.DataFrame]) -> CardRow:
    lines = [card[card["check"] == check].to_dict("records") for card in cards]
    known = [line[0] for line in lines if line]
    limits = sorted({line["tolerance"] for line in known if not math.isnan(line["tolerance"])})
    ends = dict.fromkeys(f"{limit:.3g}" for limit in (limits[:1] + limits[-1:]))
    return CardRow(
        check=check.replace("_", " "),
        question=str(known[0]["question"]),
        tolerance=f"at most {' to '.join(ends)}" if limits else "",
        marks=tuple(
            Mark(str(line[0]["status"]), float(line[0]["value"])) if line else None
            for line in lines
        ),
        notes=tuple(str(line[0]["note"]) if line else "" for line in lines),
    )
