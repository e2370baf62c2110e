"""Which runs of an experiment can stand side by side, and why the others cannot."""

from collections.abc import Sequence
from dataclasses import dataclass

from errors import InputError
from robustness.counts import CountsFile
from tracking.reading import StoredRun, fetch_counts, list_runs

_FINGERPRINTS = {"data": "data", "split": "cases of the split", "attacks": "attacks"}


@dataclass(frozen=True)
class ComparedRun:
    """A run with its counts.

    Attributes:
        run: The run.
        loss: The loss expression that it was trained under.
        seed: The seed of its training.
        counts: What was measured.
    """

    run: StoredRun
    loss: str
    seed: str
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
        left_out: The other runs.
    """

    experiment: str
    split: str
    runs: tuple[ComparedRun, ...]
    left_out: tuple[LeftOut, ...]

    def by_loss(self) -> dict[str, list[ComparedRun]]:
        """The runs of each loss."""
        groups: dict[str, list[ComparedRun]] = {}
        for compared in self.runs:
            groups.setdefault(compared.loss, []).append(compared)
        return groups


def select_runs(experiment: str, split: str) -> Selection:
    """Read the runs of an experiment and choose those that can be compared.

    Args:
        experiment: Name of the experiment.
        split: ``val`` or ``test``.

    Returns:
        The selection.

    Raises:
        InputError: If there is no such experiment, or none of its runs was attacked on the split.
    """
    runs = list_runs(experiment)
    selection = choose_runs(experiment, split, [(run, fetch_counts(run, split)) for run in runs])
    if not selection.runs:
        msg = (
            f"experiment {experiment}: found {len(runs)} runs and none with counts of the split "
            f"{split}, expected one or more; run python main.py test --ckpt_path ..., or choose "
            "another --split"
        )
        raise InputError(msg)
    return selection


def choose_runs(
    experiment: str, split: str, found: Sequence[tuple[StoredRun, CountsFile | None]]
) -> Selection:
    """Choose among runs: the newest of each loss and seed, with the fingerprints of the newest.

    Args:
        experiment: Name of the experiment.
        split: The split.
        found: Runs with their counts, the newest first.

    Returns:
        The selection, by loss and seed.
    """
    chosen: dict[tuple[str, str], ComparedRun] = {}
    left_out: list[LeftOut] = []
    reference: CountsFile | None = None
    for run, counts in found:
        if counts is None:
            left_out.append(LeftOut(run, f"not attacked on {split}"))
            continue
        if reference is None:
            reference = counts
        differing = [
            words
            for name, words in _FINGERPRINTS.items()
            if counts.metadata.get(name) is None
            or counts.metadata.get(name) != reference.metadata.get(name)
        ]
        loss, seed = run.params.get("loss", run.name), run.params.get("seed", "?")
        if differing:
            reason = f"other {' and '.join(differing)} than the newest run"
            left_out.append(LeftOut(run, reason))
        elif (loss, seed) in chosen:
            left_out.append(LeftOut(run, f"a newer run of {loss} with seed {seed} is compared"))
        else:
            chosen[loss, seed] = ComparedRun(run, loss, seed, counts)
    runs = sorted(chosen.values(), key=lambda compared: (compared.loss, compared.seed))
    return Selection(experiment, split, tuple(runs), tuple(left_out))
