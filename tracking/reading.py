"""Reads runs back from the store."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from errors import InputError
from lightning_module.ledger_history import read_ledger
from robustness.calibration import CalibrationFile, read_calibration
from robustness.counts import CountsFile, read_counts
from robustness.distances import DistancesFile, read_distances
from robustness.pictured import SliceMaps, load_slices
from robustness.report_card import COLUMNS as CARD_COLUMNS
from robustness.snapshots import Snapshot
from robustness.spread_table import SpreadFile, read_spread
from robustness.trust_table import read_trust, read_trust_curves
from tracking.store import find_experiment, open_client

COUNTS_FILE = "counts.parquet"
DISTANCES_FILE = "distances.parquet"
CALIBRATION_FILE = "calibration.parquet"
SNAPSHOTS_FILE = "saliency.npz"
MAPS_FILE = "maps.npz"
SPREAD_FILE = "spread.parquet"
TRUST_FILE = "trust.csv"
TRUST_CURVES_FILE = "trust_curves.csv"
LEDGER_FOLDER = "ledger"
LEDGER_FILE = "ledger.csv"
TRANSFER_FOLDER = "transfer"
REPORT_CARD_FILE = "report_card.csv"
CARD_COUNTS_FILE = "card_counts.parquet"

_STATUSES = ("pass", "fail", "not applicable")

_T = TypeVar("_T")


@dataclass(frozen=True)
class StoredRun:
    """A run as the store holds it.

    Attributes:
        run_id: Its id.
        name: Its name.
        status: ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``.
        start_time: When it was created, in UTC.
        params: What labels it: ``task, loss, seed, fold, network, ...``.
        metrics: Each metric's value at its largest step.
        tags: Further facts, such as ``segstress.revision``.
    """

    run_id: str
    name: str
    status: str
    start_time: datetime
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


def robustness_folder(split: str) -> str:
    """Where a run keeps counts and raw maps of a split, among its artifacts."""
    return f"robustness/{split}"


def transfer_folder(split: str) -> str:
    """Where a run keeps the counts of attacks that were made on other runs' networks."""
    return f"{robustness_folder(split)}/{TRANSFER_FOLDER}"


def stored_run(run: Run) -> StoredRun:
    """What is kept of MLflow's own account of a run."""
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name or run.info.run_id,
        status=run.info.status,
        start_time=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
    )


def list_runs(experiment: str) -> list[StoredRun]:
    """All runs of an experiment that were not deleted, the newest first.

    Args:
        experiment: Its name.

    Raises:
        InputError: If there is no experiment of this name.
    """
    client = open_client()
    experiment_id = find_experiment(client, experiment)
    found: list[StoredRun] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id], order_by=["attributes.start_time DESC"], page_token=token
        )
        found += [stored_run(run) for run in page]
        token = page.token
        if not token:
            return found


def fetch_counts(run: StoredRun, split: str) -> CountsFile | None:
    """The counts of a run on a split; None where it has none.

    Raises:
        InputError: If the stored file cannot be read.
    """
    return _fetch(run, f"{robustness_folder(split)}/{COUNTS_FILE}", read_counts)


def fetch_distances(run: StoredRun, split: str) -> DistancesFile | None:
    """How far each slice had to be disturbed; None for a run that was not asked.

    Raises:
        InputError: If the stored file cannot be read.
    """
    return _fetch(run, f"{robustness_folder(split)}/{DISTANCES_FILE}", read_distances)


def fetch_calibration(run: StoredRun, split: str) -> CalibrationFile | None:
    """How well a run's probabilities agree with the truth, clean and attacked; None without it.

    Raises:
        InputError: If the stored file cannot be read.
    """
    return _fetch(run, f"{robustness_folder(split)}/{CALIBRATION_FILE}", read_calibration)


def fetch_snapshots(run: StoredRun, split: str) -> list[Snapshot]:
    """The raw maps of a run on a split, for its pictures; empty where it has none.

    Raises:
        InputError: If the stored file cannot be read.
    """
    read = partial(load_slices, kind=Snapshot)
    return _fetch(run, f"{robustness_folder(split)}/{SNAPSHOTS_FILE}", read) or []


def fetch_maps(run: StoredRun, split: str) -> list[SliceMaps]:
    """The attribution maps of a run on a split; empty where it has none.

    Raises:
        InputError: If the stored file cannot be read.
    """
    read = partial(load_slices, kind=SliceMaps)
    return _fetch(run, f"{robustness_folder(split)}/{MAPS_FILE}", read) or []


def fetch_spread(run: StoredRun, split: str) -> SpreadFile | None:
    """How widely a run's maps spread, slice by slice; None where it was not measured.

    Raises:
        InputError: If the stored file cannot be read.
    """
    return _fetch(run, f"{robustness_folder(split)}/{SPREAD_FILE}", read_spread)


def fetch_trust(run: StoredRun, split: str) -> pd.DataFrame | None:
    """Which saliency methods can be believed on a run; None where they were not checked.

    Returns:
        As from :func:`robustness.trust_table.trust_frame`.

    Raises:
        InputError: If the stored file cannot be read.
    """
    return _fetch(run, f"{robustness_folder(split)}/{TRUST_FILE}", read_trust)


def fetch_trust_curves(run: StoredRun, split: str) -> pd.DataFrame | None:
    """What the verdicts on a run's saliency methods rest on; None where they were not checked.

    Returns:
        As from :func:`robustness.trust_table.curves_frame`.

    Raises:
        InputError: If the stored file cannot be read.
    """
    return _fetch(run, f"{robustness_folder(split)}/{TRUST_CURVES_FILE}", read_trust_curves)


def fetch_ledger(run: StoredRun) -> pd.DataFrame | None:
    """The loss ledger of a run's training, epoch by epoch; None where it has none.

    Returns:
        Columns ``split, epoch, term, class, value, weight, dice``; see ``lightning_module.ledger``.

    Raises:
        InputError: If the stored file cannot be read.
    """
    return _fetch(run, f"{LEDGER_FOLDER}/{LEDGER_FILE}", read_ledger, "train it again")


def fetch_transfers(run: StoredRun, split: str) -> dict[str, CountsFile]:
    """Attacks made on networks of the experiment and counted on that of a run.

    Returns:
        Counts by the id of the run that the attacks were made on, the run's own id included where
        it was attacked itself; empty where nothing was transferred to it.

    Raises:
        InputError: If a stored file cannot be read.
    """
    folder = transfer_folder(split)
    files = sorted(entry.path for entry in open_client().list_artifacts(run.run_id, folder))
    remedy = "attack the experiment again"
    fetched = {
        PurePosixPath(file).stem: _fetch(run, file, read_counts, remedy)
        for file in files
        if file.endswith(".parquet")
    }
    return {source: counts for source, counts in fetched.items() if counts is not None}


def fetch_report_card(run: StoredRun, split: str) -> pd.DataFrame | None:
    """Whether the attacks on a run can be believed, check by check; None where it has no card.

    Returns:
        Columns as in :data:`robustness.report_card.COLUMNS`; ``value`` and ``tolerance`` are NaN
        and ``note`` is empty where there is none.

    Raises:
        InputError: If the stored file cannot be read.
    """
    return _fetch(run, f"{robustness_folder(split)}/{REPORT_CARD_FILE}", _read_card)


def fetch_card_counts(run: StoredRun, split: str) -> CountsFile | None:
    """The counts that a run's report card was judged by; None where it has none.

    Raises:
        InputError: If the stored file cannot be read.
    """
    return _fetch(run, f"{robustness_folder(split)}/{CARD_COUNTS_FILE}", read_counts)


def _read_card(path: Path) -> pd.DataFrame:
    # An empty number is none; an empty note, or one that reads "None", is a text as any other.
    card = pd.read_csv(path, keep_default_na=False, dtype={"note": str})
    missing = [name for name in CARD_COLUMNS if name not in card.columns]
    if missing:
        msg = f"columns {', '.join(missing)} are missing"
        raise ValueError(msg)
    unknown = sorted({str(status) for status in card["status"]} - set(_STATUSES))
    if unknown:
        msg = f"status {', '.join(unknown)}, expected one of {', '.join(_STATUSES)}"
        raise ValueError(msg)
    numbers = {name: pd.to_numeric(card[name]) for name in ("value", "tolerance")}
    return card.assign(**numbers)[list(CARD_COLUMNS)]


def _fetch(
    run: StoredRun, file: str, read: Callable[[Path], _T], remedy: str = "evaluate the run again"
) -> _T | None:
    client = open_client()
    if not _holds(client, run.run_id, file):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(client.download_artifacts(run.run_id, file, scratch))
        try:
            return read(local)
        except (ValueError, OSError, TypeError, KeyError) as error:
            reason = " ".join(str(error).split())
            msg = f"run {run.run_id}: {file} cannot be read ({reason}); {remedy}"
            raise InputError(msg) from error


def _holds(client: MlflowClient, run_id: str, file: str) -> bool:
    folder = file.rpartition("/")[0]
    return any(entry.path == file for entry in client.list_artifacts(run_id, folder))
