"""Which runs of an experiment can stand side by side, and why the others cannot."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from datamodules.splits import OVERLAP
from errors import InputError
from pictures.style import order_losses
from robustness.counts import CountsFile
from tracking.reading import StoredRun, fetch_counts, list_runs

_FINGERPRINTS = {"data": "data", "split": "cases of the split", "attacks": "attacks"}
_ROWS = {
    "case": "cases",
    "class": "classes",
    "attack": "attacks",
    "point": "points",
    "repeat": "repeats",
}
# What may differ between the runs of a comparison: it is what they are compared by.
_COMPARED = {"loss", "seed"}


@dataclass(frozen=True)
class ComparedRun:
    """A run with its counts.

    Attributes:
        run: The run.
        loss: The loss expression that it was trained under.
        seed: The seed of its training.
        fold: The fold that it was tested on.
        counts: What was measured.
    """

    run: StoredRun
    loss: str
    seed: str
    fold: str
    counts: CountsFile


@dataclass(frozen=True)
class LeftOut:
    """A run that is not compared, and why."""

    run: StoredRun
    reason: str


@dataclass(frozen=True)
class Selection:
    """The runs that stand side by side.

    Attributes:
        experiment: Name of the experiment.
        split: Split whose counts are compared.
        runs: By loss and seed, one of each.
        left_out: The other runs, the newest first.
    """

    experiment: str
    split: str
    runs: tuple[ComparedRun, ...]
    left_out: tuple[LeftOut, ...]

    def by_loss(self) -> dict[str, list[ComparedRun]]:
        """The runs of each loss by seed, in the order in which losses are shown."""
        return {
            loss: [compared for compared in self.runs if compared.loss == loss]
            for loss in order_losses(compared.loss for compared in self.runs)
        }

    def run_words(self, compared: ComparedRun) -> str:
        """What tells a run from the others of its loss: its seed, and its fold if they differ."""
        folds = {other.fold for other in self.runs if other.loss == compared.loss}
        return f"seed {compared.seed}" + (f", fold {compared.fold}" if len(folds) > 1 else "")

    def attack_settings(self) -> list[dict[str, Any]]:
        """Settings of all attacks, the same in all runs; empty where none has stored them."""
        for compared in self.runs:
            stored = compared.counts.metadata.get("attack_settings")
            if stored:
                settings: list[dict[str, Any]] = json.loads(stored)
                return settings
        return []

    def differing_params(self) -> dict[str, list[str]]:
        """Params that differ between the runs, other than loss and seed, with their values."""
        names = sorted({name for compared in self.runs for name in compared.run.params})
        values = {
            name: sorted({compared.run.params.get(name, "unknown") for compared in self.runs})
            for name in names
            if name not in _COMPARED
        }
        return {name: found for name, found in values.items() if len(found) > 1}


def select_runs(experiment: str, split: str) -> Selection:
    """Read the runs of an experiment and choose those that can be compared.

    Args:
        experiment: Name of the experiment.
        split: ``val`` or ``test``.

    Returns:
        The selection.

    Raises:
        InputError: If there is no such experiment, or none of its runs can be compared.
    """
    runs = list_runs(experiment)
    selection = choose_runs(experiment, split, ((run, _counts(run, split)) for run in runs))
    if not selection.runs:
        reasons = "; ".join(sorted({left.reason for left in selection.left_out})[:3])
        msg = (
            f"experiment {experiment}: found {len(runs)} runs and none to compare on the split "
            f"{split}{f' ({reasons})' if reasons else ''}, expected one or more; run "
            "python main.py test --ckpt_path ..., or choose another --split"
        )
        raise InputError(msg)
    return selection


def choose_runs(
    experiment: str,
    split: str,
    found: Iterable[tuple[StoredRun, CountsFile | str]],
) -> Selection:
    """Choose among runs: the newest of each loss, seed and fold that can be paired with the newest.

    The newest run with counts and all fingerprints is the reference. A run can be paired with it
    if data, split and attacks have the same fingerprints and the tables hold the same cases,
    classes and points.

    Args:
        experiment: Name of the experiment.
        split: The split.
        found: Runs, the newest first, each with its counts or the reason why it has none.

    Returns:
        The selection, by loss and seed.
    """
    chosen: dict[tuple[str, str, str], ComparedRun] = {}
    left_out: list[LeftOut] = []
    reference: ComparedRun | None = None
    for run, counts in found:
        if isinstance(counts, str):
            left_out.append(LeftOut(run, counts))
            continue
        if run.params.get("split") == OVERLAP:
            reason = "its splits overlap: it was tested on what it was trained on, and is no result"
            left_out.append(LeftOut(run, reason))
            continue
        if "loss" not in run.params:
            left_out.append(LeftOut(run, "its loss is unknown: it has no param loss"))
            continue
        unknown = [words for name, words in _FINGERPRINTS.items() if not counts.metadata.get(name)]
        if unknown:
            reason = f"its counts have no fingerprint of {' and '.join(unknown)}"
            left_out.append(LeftOut(run, reason))
            continue
        compared = ComparedRun(
            run,
            run.params["loss"],
            run.params.get("seed", "unknown"),
            run.params.get("fold", "unknown"),
            counts,
        )
        reference = reference or compared
        differing = _differences(counts, reference.counts)
        key = compared.loss, compared.seed, compared.fold
        if differing:
            newest = f"the newest run, {reference.run.name} ({reference.run.run_id[:8]})"
            left_out.append(LeftOut(run, f"other {' and '.join(differing)} than {newest}"))
        elif key in chosen:
            newer = chosen[key].run
            reason = (
                f"run {newer.run_id[:8]} of {compared.loss}, seed {compared.seed}, "
                f"fold {compared.fold} is newer and is compared"
            )
            left_out.append(LeftOut(run, reason))
        else:
            chosen[key] = compared
    runs = sorted(chosen.values(), key=_by_seed)
    return Selection(experiment, split, tuple(runs), tuple(left_out))


def _counts(run: StoredRun, split: str) -> CountsFile | str:
    try:
        return fetch_counts(run, split) or f"not attacked on the split {split}"
    except InputError as error:
        return str(error)


def _differences(counts: CountsFile, reference: CountsFile) -> list[str]:
    """What keeps a run from being paired with the reference, in words."""
    fingerprints = [
        words
        for name, words in _FINGERPRINTS.items()
        if counts.metadata.get(name) != reference.metadata.get(name)
    ]
    if fingerprints:
        return fingerprints
    return [
        words
        for column, words in _ROWS.items()
        if set(counts.frame[column]) != set(reference.frame[column])
    ]


def _by_seed(compared: ComparedRun) -> tuple[str, int, str]:
    return compared.loss, len(compared.seed), compared.seed
