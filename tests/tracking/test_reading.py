"""Runs come back from the store as they were written."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from errors import InputError
from lightning_module.ledger_history import LEDGER_COLUMNS
from robustness.counts import CLEAN_ROW, FIELDS, PartialCounts, counts_frame, write_counts
from robustness.pictured import save_slices
from robustness.snapshots import Snapshot
from tests.places import NewLogger, Place
from tracking.logger import RunLogger
from tracking.reading import (
    COUNTS_FILE,
    LEDGER_FILE,
    LEDGER_FOLDER,
    REPORT_CARD_FILE,
    SNAPSHOTS_FILE,
    TRANSFER_FOLDER,
    fetch_counts,
    fetch_ledger,
    fetch_report_card,
    fetch_snapshots,
    fetch_transfers,
    list_runs,
    robustness_folder,
)
from tracking.store import ensure_experiment, open_client


@pytest.fixture
def counts() -> pd.DataFrame:
    sums = np.arange(2 * 1 * len(FIELDS), dtype=np.int64).reshape(1, 2, 1, len(FIELDS))
    return counts_frame([PartialCounts(("b", "a"), sums)], [CLEAN_ROW], ["foreground"])


@pytest.fixture
def snapshot() -> Snapshot:
    generator = np.random.default_rng(0)
    return Snapshot(
        case="case_1",
        slice_index=7,
        image=generator.random((1, 8, 8), np.float32),
        mask=generator.random((1, 8, 8)) > 0.5,
        valid=np.ones((8, 8), bool),
        gradient=generator.random((1, 8, 8), np.float32) - 0.5,
        probs=generator.random((1, 8, 8), np.float32),
        attack="top5_beyond_range",
        unit="image intensity",
        points=np.array([0.0, 0.4]),
        attacked_probs=generator.random((2, 1, 8, 8), np.float32),
    )


def write(logger: RunLogger, folder: Path, file: str, split: str) -> None:
    logger.log_file(folder / file, robustness_folder(split))


def test_runs_come_the_newest_first_with_what_labels_them(
    place: Place, new_logger: NewLogger
) -> None:
    began = datetime.now(UTC)
    ids = []
    for seed in range(3):
        logger = new_logger()
        logger.describe({"loss": "bce", "seed": seed}, {"segstress.data": "abc"})
        logger.log_metrics({"val/dice": 0.25}, 0)
        logger.log_metrics({"val/dice": 0.5 + seed / 10}, 1)
        logger.send()
        ids.append(logger.version)
        time.sleep(0.01)
    logger.finalize("success")
    found = list_runs("trials")
    assert [run.run_id for run in found] == ids[::-1]
    newest, oldest = found[0], found[-1]
    assert newest.params == {"loss": "bce", "seed": "2"}
    assert newest.metrics == {"val/dice": 0.7}
    assert newest.tags["segstress.data"] == "abc"
    assert newest.name == "bce seed 0"
    assert (newest.status, oldest.status) == ("FINISHED", "RUNNING")
    assert began - timedelta(seconds=1) < oldest.start_time < newest.start_time


def test_deleted_runs_are_left_out(place: Place, new_logger: NewLogger) -> None:
    kept, deleted = new_logger(), new_logger()
    kept.open()
    deleted.open()
    place.client.delete_run(str(deleted.version))
    assert [run.run_id for run in list_runs("trials")] == [kept.version]


@pytest.mark.slow
def test_more_runs_than_a_page_are_all_found(place: Place) -> None:
    client = open_client()
    experiment = ensure_experiment(client, "trials")
    made = {client.create_run(experiment).info.run_id for _ in range(1001)}
    assert client.search_runs([experiment]).token  # MLflow does give them page by page
    assert {run.run_id for run in list_runs("trials")} == made


def test_an_unknown_experiment_is_named(place: Place, new_logger: NewLogger) -> None:
    new_logger().open()
    with pytest.raises(InputError, match=r"trails.*did you mean trials"):
        list_runs("trails")


def test_counts_come_back_as_they_were(
    place: Place, new_logger: NewLogger, counts: pd.DataFrame, tmp_path: Path
) -> None:
    logger = new_logger()
    write_counts(tmp_path / COUNTS_FILE, counts, {"data": "abc", "split_name": "test"})
    write(logger, tmp_path, COUNTS_FILE, "test")
    (run,) = list_runs("trials")
    found = fetch_counts(run, "test")
    assert found is not None
    pd.testing.assert_frame_equal(found.frame, counts)
    assert found.metadata["data"] == "abc"
    assert found.metadata["split_name"] == "test"
    assert fetch_counts(run, "val") is None


def test_a_run_without_counts_has_none(place: Place, new_logger: NewLogger) -> None:
    new_logger().open()
    (run,) = list_runs("trials")
    assert fetch_counts(run, "test") is None
    assert fetch_snapshots(run, "test") == []
    assert fetch_ledger(run) is None
    assert fetch_transfers(run, "test") == {}
    assert fetch_report_card(run, "test") is None


@pytest.mark.parametrize("content", [b"", b"PAR1 not really PAR1", b"PK\x03\x04 nor this"])
def test_broken_files_name_the_run(
    content: bytes, place: Place, new_logger: NewLogger, tmp_path: Path
) -> None:
    logger = new_logger()
    for file in (COUNTS_FILE, SNAPSHOTS_FILE):
        (tmp_path / file).write_bytes(content)
        write(logger, tmp_path, file, "test")
    (run,) = list_runs("trials")
    for fetch, file in ((fetch_counts, COUNTS_FILE), (fetch_snapshots, SNAPSHOTS_FILE)):
        with pytest.raises(InputError) as raised:
            fetch(run, "test")
        message = str(raised.value)
        assert run.run_id in message
        assert file in message
        assert "\n" not in message


def test_counts_of_another_schema_name_the_run(
    place: Place, new_logger: NewLogger, counts: pd.DataFrame, tmp_path: Path
) -> None:
    logger = new_logger()
    counts.to_parquet(tmp_path / COUNTS_FILE)
    write(logger, tmp_path, COUNTS_FILE, "test")
    (run,) = list_runs("trials")
    with pytest.raises(InputError, match=f"{run.run_id}.*schema version"):
        fetch_counts(run, "test")


def test_snapshots_come_back_as_they_were(
    place: Place, new_logger: NewLogger, snapshot: Snapshot, tmp_path: Path
) -> None:
    logger = new_logger()
    save_slices(tmp_path / SNAPSHOTS_FILE, [snapshot])
    write(logger, tmp_path, SNAPSHOTS_FILE, "test")
    (run,) = list_runs("trials")
    (found,) = fetch_snapshots(run, "test")
    for name, value in vars(snapshot).items():
        np.testing.assert_array_equal(getattr(found, name), value)
        assert type(getattr(found, name)) is type(value)


def test_a_ledger_comes_back_as_it_was(place: Place, new_logger: NewLogger) -> None:
    rows = [
        ("val", 0, "half.bce", "background", 0.1 + 0.2, 0.5, np.nan),
        ("val", 1, "half.bce", "front", 1 / 3, 0.5, 0.75),
    ]
    table = pd.DataFrame(rows, columns=list(LEDGER_COLUMNS))
    new_logger().log_text(table.to_csv(index=False), f"{LEDGER_FOLDER}/{LEDGER_FILE}")
    (run,) = list_runs("trials")
    found = fetch_ledger(run)
    assert found is not None
    pd.testing.assert_frame_equal(found, table, check_exact=True)


@pytest.mark.parametrize("content", ["", "split,epoch\nval,0\n", "PAR1"])
def test_what_is_no_ledger_names_the_run(content: str, place: Place, new_logger: NewLogger) -> None:
    new_logger().log_text(content, f"{LEDGER_FOLDER}/{LEDGER_FILE}")
    (run,) = list_runs("trials")
    with pytest.raises(InputError, match=rf"{run.run_id}: ledger/ledger.csv .*; train it again"):
        fetch_ledger(run)


def write_transfer(
    logger: RunLogger, folder: Path, source: str, counts: pd.DataFrame, split: str = "test"
) -> None:
    file = folder / f"{source}.parquet"
    write_counts(file, counts, {"made_on": source, "data": "abc"})
    logger.log_file(file, f"{robustness_folder(split)}/{TRANSFER_FOLDER}")


def test_transfers_come_back_by_the_run_that_they_were_made_on(
    place: Place, new_logger: NewLogger, counts: pd.DataFrame, tmp_path: Path
) -> None:
    logger = new_logger()
    own = str(logger.version)
    scaled = counts.assign(tp=2 * counts["tp"])
    write_transfer(logger, tmp_path, own, counts)
    write_transfer(logger, tmp_path, "other", scaled)
    write_transfer(logger, tmp_path, "elsewhere", counts, "val")
    logger.log_text("not counts", f"{robustness_folder('test')}/{TRANSFER_FOLDER}/notes.txt")
    (run,) = list_runs("trials")
    found = fetch_transfers(run, "test")
    assert set(found) == {own, "other"}
    pd.testing.assert_frame_equal(found[own].frame, counts)
    pd.testing.assert_frame_equal(found["other"].frame, scaled)
    assert found["other"].metadata["made_on"] == "other"


def test_a_broken_transfer_names_the_run_and_the_remedy(
    place: Place, new_logger: NewLogger
) -> None:
    folder = f"{robustness_folder('test')}/{TRANSFER_FOLDER}"
    new_logger().log_text("PAR1", f"{folder}/other.parquet")
    (run,) = list_runs("trials")
    message = rf"{run.run_id}: {folder}/other.parquet .*; attack the experiment again"
    with pytest.raises(InputError, match=message):
        fetch_transfers(run, "test")


CARD = """check,question,status,value,tolerance,cases,least_cases,note
falls,Dice falls,pass,-0.25,0.01,40,5,
doubling,the same,fail,0.0125,0.01,40,5,None
transfer,no lower,not applicable,,,3,5,fewer than 5
"""


def write_card(logger: RunLogger, text: str) -> None:
    logger.log_text(text, f"{robustness_folder('test')}/{REPORT_CARD_FILE}")


def test_a_report_card_comes_back_as_it_was(place: Place, new_logger: NewLogger) -> None:
    write_card(new_logger(), CARD)
    (run,) = list_runs("trials")
    found = fetch_report_card(run, "test")
    assert found is not None
    assert found["check"].tolist() == ["falls", "doubling", "transfer"]
    assert found["status"].tolist() == ["pass", "fail", "not applicable"]
    np.testing.assert_array_equal(found["value"], [-0.25, 0.0125, np.nan])
    np.testing.assert_array_equal(found["tolerance"], [0.01, 0.01, np.nan])
    assert found["note"].tolist() == ["", "None", "fewer than 5"]
    assert fetch_report_card(run, "val") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "No columns"),
        ("check,status\nfalls,pass\n", "columns question, value, tolerance, .* are missing"),
        (CARD.replace("fail", "perhaps"), "status perhaps, expected one of pass, fail"),
        (CARD.replace("-0.25", "low"), "low"),
    ],
)
def test_what_is_no_report_card_names_the_run(
    content: str, reason: str, place: Place, new_logger: NewLogger
) -> None:
    write_card(new_logger(), content)
    (run,) = list_runs("trials")
    file = "robustness/test/report_card.csv cannot be read"
    with pytest.raises(InputError, match=rf"{run.run_id}: {file} \(.*{reason}.*; evaluate"):
        fetch_report_card(run, "test")
