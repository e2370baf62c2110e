"""Which runs of an experiment can stand side by side, and why the others cannot."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import pandas as pd

from datamodules.splits import OVERLAP
from errors import InputError
from pictures.style import order_losses
from robustness.counts import CountsFile
from robustness.curves import case_dice
from tracking.reading import StoredRun, fetch_counts, list_runs
from tracking.searching import matching_runs

_FINGERPRINTS = {"data": "data", "split": "cases of the split", "attacks": "attacks"}
# Repeats are not among them: how many an attack takes may follow from what it did to the network.
_ROWS = {"case": "cases", "class": "classes", "attack": "attacks", "point": "points"}
# What may differ between the runs of a comparison: it is what they are compared by.
_COMPARED = {"loss", "seed"}
_SWEEP = "sweep"  # tag or param that names the sweep of a run


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

    @cached_property
    def dice(self) -> pd.DataFrame:
        """Dice of each case at each point, from :func:`robustness.curves.case_dice`."""
        return case_dice(self.counts.frame)


@dataclass(frozen=True)
class LeftOut:
    """A run that is not compared, and why."""

    run: StoredRun
    reason: str


@dataclass(frozen=True)
class Wanted:
    """Which runs of an experiment are asked for; all where nothing is said.

    Attributes:
        losses: Loss expressions as their runs name them.
        sweep: Name of a sweep: what the runs have as tag or param ``sweep``.
        query: A filter in MLflow's search syntax.
    """

    losses: tuple[str, ...] = ()
    sweep: str | None = None
    query: str | None = None

    @property
    def words(self) -> str:
        """What is asked for, in words; empty for all runs."""
        parts = [f"loss {' or '.join(self.losses)}"] if self.losses else []
        parts += [f"sweep {self.sweep}"] if self.sweep is not None else []
        parts += [f"filter {self.query}"] if self.query is not None else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Selection:
    """The runs that stand side by side.

    Attributes:
        experiment: Name of the experiment.
        split: Split whose counts are compared.
        runs: By loss and seed, one of each.
        left_out: The other runs, the newest first.
        wanted: What was asked for.
    """

    experiment: str
    split: str
    runs: tuple[ComparedRun, ...]
    left_out: tuple[LeftOut, ...]
    wanted: Wanted = field(default_factory=Wanted)

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


def select_runs(experiment: str, split: str, wanted: Wanted | None = None) -> Selection:
    """Read the runs of an experiment and choose those that can be compared.

    Args:
        experiment: Name of the experiment.
        split: ``val`` or ``test``.
        wanted: Which runs are asked for; all of them where it is left out.

    Returns:
        The selection.

    Raises:
        InputError: If there is no such experiment, or none of its runs is as asked for or can be
            compared.
    """
    wanted = wanted or Wanted()
    runs = _wanted_runs(experiment, list_runs(experiment), wanted)
    selection = choose_runs(experiment, split, ((run, _counts(run, split)) for run in runs))
    if not selection.runs:
        reasons = "; ".join(sorted({left.reason for left in selection.left_out})[:3])
        msg = (
            f"experiment {experiment}: found {len(runs)} runs and none to compare on the split "
            f"{split}{f' ({reasons})' if reasons else ''}, expected one or more; run "
            "python main.py test --ckpt_path ..., or choose another --split"
        )
        raise InputError(msg)
    return replace(selection, wanted=wanted)


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


def _wanted_runs(experiment: str, runs: Sequence[StoredRun], wanted: Wanted) -> Sequence[StoredRun]:
    losses = {run.params["loss"] for run in runs if "loss" in run.params}
    for loss in wanted.losses:
        _check_known("--loss", loss, losses, experiment)
    if wanted.losses:
        runs = [run for run in runs if run.params.get("loss") in wanted.losses]
    if wanted.sweep is not None:
        _check_known("--sweep", wanted.sweep, set().union(*map(_sweeps, runs)), experiment)
        runs = [run for run in runs if wanted.sweep in _sweeps(run)]
    if wanted.query is not None:
        matching = matching_runs(experiment, wanted.query)
        runs = [run for run in runs if run.run_id in matching]
        if not runs:
            msg = (
                f"--filter {wanted.query!r}: found no such run in the experiment {experiment}, "
                "expected one or more; choose another filter"
            )
            raise InputError(msg)
    return runs


def _sweeps(run: StoredRun) -> set[str]:
    return {named[_SWEEP] for named in (run.tags, run.params) if _SWEEP in named}


def _check_known(option: str, name: str, known: set[str], experiment: str) -> None:
    if name in known:
        return
    near = get_close_matches(name, sorted(known), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    msg = (
        f"{option} {name}: found no such run in the experiment {experiment}; {hint}expected one "
        f"of: {', '.join(sorted(known)) or 'none yet'}"
    )
    raise InputError(msg)


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
        if set(counts.frame[column].unique()) != set(reference.frame[column].unique())
    ]


def _by_seed(compared: ComparedRun) -> tuple[str, int, str]:
    return compared.loss, len(compared.seed), compared.seed
