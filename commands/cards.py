"""Judges the report card of a run again, once attacks were transferred to it."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callbacks.report_card import HEALTH, verdict_line
from robustness.apgd import Apgd
from robustness.attack import Attack
from robustness.counts import CountsFile
from robustness.gradient_health import GradientHealth
from robustness.report_card import TRANSFERRED, report_card
from tracking.reading import (
    REPORT_CARD_FILE,
    StoredRun,
    fetch_card_counts,
    fetch_transfers,
    robustness_folder,
)
from tracking.writing import store_file


def like_the_cards(
    attacks: Sequence[Attack], cards: Sequence[CountsFile]
) -> tuple[list[Attack], int]:
    """Attacks to transfer such that cards can be judged by them.

    Args:
        attacks: The attacks asked for.
        cards: Counts of the cards that there are.

    Returns:
        The attacks, the one that cards look for with the settings of the first card; and how many
        cases the cards have at most.
    """
    if not cards:
        return list(attacks), 0
    settings = _settings(cards[0])
    cases = max(card.frame["case"].nunique() for card in cards)
    if settings is None:
        return list(attacks), cases
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings.items()
        if name != "class"
    }
    own = Apgd(**given)
    return [own if attack.name == TRANSFERRED else attack for attack in attacks], cases


def judge_again(run: StoredRun, split: str) -> str | None:
    """Judge and store a run's card with what was transferred to it from other networks.

    Args:
        run: The run.
        split: ``val`` or ``test``.

    Returns:
        How the card has turned out, and what could not be used for it, in one line; None for a run
        without a card.

    Raises:
        InputError: If a stored file cannot be read.
    """
    card = fetch_card_counts(run, split)
    if card is None:
        return None
    others, reasons = {}, set()
    for source, counts in fetch_transfers(run, split).items():
        reason = _unpaired(counts, card)
        if source != run.run_id and reason is None:
            others[source] = counts.frame
        elif reason is not None:
            reasons.add(reason)
    health = GradientHealth.from_text(card.metadata[HEALTH])
    verdicts = report_card(card.frame, health, others)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, REPORT_CARD_FILE)
        verdicts.to_csv(file, index=False)
        store_file(run, file, robustness_folder(split))
    line = verdict_line(verdicts)
    return line if not reasons else f"{line}; transfers not used: {', '.join(sorted(reasons))}"


def _unpaired(transferred: CountsFile, card: CountsFile) -> str | None:
    """Why a transferred attack cannot be held against the card's own; None where it can."""
    for key, words in (
        ("checkpoint_sha256", "other weights"),
        ("data", "other data"),
        ("split", "another split"),
    ):
        if transferred.metadata.get(key) != card.metadata.get(key):
            return words
    if _settings(transferred) != _settings(card):
        return f"other settings of {TRANSFERRED}"
    of_attack = [
        set(counts.frame.loc[counts.frame["attack"] == TRANSFERRED, "case"])
        for counts in (transferred, card)
    ]
    return None if of_attack[0] >= of_attack[1] else "fewer cases than the card"


def _settings(counts: CountsFile) -> dict[str, Any] | None:
    """Settings of the attack that is transferred."""
    found = json.loads(counts.metadata.get("attack_settings", "[]"))
    return next((settings for settings in found if settings["name"] == TRANSFERRED), None)
