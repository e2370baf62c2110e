"""Scores of each attack on each loss, with the calibration error where runs have stored it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from comparison.selection import ComparedRun, Selection
from robustness.calibration import ece
from robustness.counts import CLEAN
from robustness.scores import attack_scores, point_scores
from tracking.reading import fetch_calibration

# What an attack's last point, and the clean images beside it, are shown with.
_LAST = (
    *("point", "dice", "dice_low", "dice_high", "drop", "drop_low", "drop_high", "change"),
    *("fp", "fn", "fp_rate", "fn_rate", "fp_empty", "fp_empty_share", "valid_share", "ece"),
)
_CLEAN = ("fp", "fn", "fp_rate", "fn_rate", "fp_empty", "ece")
# What must be the same in a calibration as in the counts that it is shown beside.
_FINGERPRINTS = ("checkpoint_sha256", "data", "split", "attacks")


@dataclass(frozen=True)
class AttackScores:
    """Scores of all losses; intervals are bootstraps over cases.

    Attributes:
        attacks: One row a loss and attack: ``loss``, the columns of
            :data:`robustness.scores.ATTACK_COLUMNS`, scores at its last point as ``last_<name>``
            and of the clean images as ``clean_<name>``.
        points: One row a loss and point: ``loss``, :data:`robustness.scores.POINT_COLUMNS`, ``ece``
            (the mean over the seeds that have it, NaN without any).
        calibrated: Whether any run has a calibration.
    """

    attacks: pd.DataFrame
    points: pd.DataFrame
    calibrated: bool


def attack_score_tables(selection: Selection) -> AttackScores:
    """The scores of each loss, from the counts of its seeds.

    Args:
        selection: The runs.

    Raises:
        InputError: If a stored calibration cannot be read.
    """
    attacks, points, calibrated = [], [], False
    for loss, runs in selection.by_loss().items():
        frames = [compared.counts.frame for compared in runs]
        metadata = runs[0].counts.metadata
        errors = _errors(runs, selection.split)
        calibrated |= not errors.empty
        keys = ["attack", "point_index"]
        scored = point_scores(frames, metadata).merge(errors, on=keys, how="left")
        points.append(_named(loss, scored))
        attacks.append(_named(loss, _with_ends(attack_scores(frames, metadata), scored)))
    return AttackScores(
        pd.concat(attacks, ignore_index=True), pd.concat(points, ignore_index=True), calibrated
    )


def _with_ends(scores: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """The scores of attacks, with those of their last points and of the clean images."""
    ordered = points.sort_values("point_index", kind="stable")
    last = ordered.groupby("attack", sort=False).tail(1).set_index("attack")[list(_LAST)]
    found = scores.join(last.add_prefix("last_"), on="attack")
    clean = points[points["attack"] == CLEAN].iloc[0]
    return found.assign(**{f"clean_{name}": clean[name] for name in _CLEAN})


def _errors(runs: Sequence[ComparedRun], split: str) -> pd.DataFrame:
    """Columns ``attack, point_index, ece``: the mean over the runs that have it, or no row."""
    found = [pd.DataFrame({"attack": [], "point_index": [], "ece": []})]
    for compared in runs:
        stored = fetch_calibration(compared.run, split)
        known = compared.counts.metadata
        if stored and all(stored.metadata.get(name) == known.get(name) for name in _FINGERPRINTS):
            found.append(ece(stored.frame))
    if len(found) == 1:
        return found[0].astype({"attack": str, "point_index": "int32", "ece": float})
    tried = pd.concat(found[1:], ignore_index=True)
    return tried.groupby(["attack", "point_index"], sort=False)["ece"].mean().reset_index()


def _named(loss: str, frame: pd.DataFrame) -> pd.DataFrame:
    frame.insert(0, "loss", loss)
    return frame
