"""Stores of runs in temporary folders: an empty one, and one whose report all tests read."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from comparison.report import write_report
from comparison.selection import Selection, select_runs
from tests.comparison.made import made_frame, made_ledger, snapshots_of, store_run
from tests.places import Place, with_store

# The class that fails under seed 1 of bce is one that only the ledger shows.
SHARES = {"front": 0.96, "back<i>": 0.04}
DICE = ({"front": 0.9, "back<i>": 0.8}, {"front": 0.9, "back<i>": 0.1})
HOSTILE = "</script><b>a.b:Term</b>{{plotly}}&\"'"


@dataclass(frozen=True)
class Report:
    """A written report with what went into it.

    Attributes:
        selection: The runs: ``bce`` with seeds 0 and 1, ``HOSTILE`` with seed 0 and no ledger.
        frames: Counts by loss, in the order of the seeds.
        folder: The report's files.
        table: The table that was returned.
        place: The store.
    """

    selection: Selection
    frames: dict[str, list[pd.DataFrame]]
    folder: Path
    table: pd.DataFrame
    place: Place

    @property
    def page(self) -> str:
        return (self.folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report that tests read and none writes to."""
    place = with_store(Place(tmp_path_factory.mktemp("reported")), tmp_path_factory)
    scratch = tmp_path_factory.mktemp("scratch")
    experiment = "<i>Phantom</i> & hippocampus"
    frames = {"bce": [made_frame(0), made_frame(1)], HOSTILE: [made_frame(2)]}
    with place.environment():
        for loss, found in frames.items():
            for seed, frame in enumerate(found):
                store_run(
                    scratch,
                    frame,
                    {"loss": loss, "seed": str(seed), "epochs": str(len(found))},
                    experiment=experiment,
                    snapshots=snapshots_of(seed) if loss == "bce" else snapshots_of(7),
                    ledger=made_ledger(SHARES, DICE[seed]) if loss == "bce" else None,
                )
        store_run(scratch, None, {"loss": "<u>left</u>", "seed": "0"}, experiment=experiment)
        selection = select_runs(experiment, "test")
        folder = tmp_path_factory.mktemp("report")
        command = "python main.py compare --experiment '<i>'"
        table = write_report(selection, folder, command).table
    return Report(selection, frames, folder, table, place)
