"""Judges the report card of a run again, once attacks were transferred to it."""

import json
import tempfile
from pathlib import Path

from callbacks.report_card import HEALTH, verdict_line
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


def judge_again(run: StoredRun, split: str) -> str | None:
    """Judge and store a run's card with what was transferred to it from other networks.

    Args:
        run: The run.
        split: ``val`` or ``test``.

    Returns:
        How the card has turned out, in one line; None for a run without a card.

    Raises:
        InputError: If a stored file cannot be read.
    """
    card = fetch_card_counts(run, split)
    if card is None:
        return None
    others = {
        source: counts.frame
        for source, counts in fetch_transfers(run, split).items()
        if source != run.run_id and _paired(counts, card)
    }
    health = GradientHealth.from_text(card.metadata[HEALTH])
    verdicts = report_card(card.frame, health, others)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, REPORT_CARD_FILE)
        verdicts.to_csv(file, index=False)
        store_file(run, file, robustness_folder(split))
    return verdict_line(verdicts)


def _paired(transferred: CountsFile, card: CountsFile) -> bool:
    """Whether a transferred attack can be held against the card's own on the same cases."""
    of_attack = [
        set(counts.frame.loc[counts.frame["attack"] == TRANSFERRED, "case"])
        for counts in (transferred, card)
    ]
    same = ("checkpoint_sha256", "data", "split")
    return (
        of_attack[0] >= of_attack[1]
        and _settings(transferred) == _settings(card)
        and all(transferred.metadata.get(key) == card.metadata.get(key) for key in same)
    )


def _settings(counts: CountsFile) -> object:
    """Settings of the attack that is transferred."""
    found = json.loads(counts.metadata.get("attack_settings", "[]"))
    return next((settings for settings in found if settings["name"] == TRANSFERRED), None)
