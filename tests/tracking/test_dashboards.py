"""Dashboards reach the store once, from any process, and never at the cost of a run or a user."""

import json
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from tests.places import NewLogger, Place
from tests.tracking.test_logger import png
from tracking.dashboards import publish_run, publish_store
from tracking.logger import RunLogger
from tracking.store import open_client
from tracking.views_format import TAG_LIMIT, TAG_PREFIX, StoredView, decode, known_keys

RUNS, LOSSES = f"{TAG_PREFIX}segstress-runs", f"{TAG_PREFIX}segstress-losses"
SERVER = "http://127.0.0.1:5000"


def tags(place: Place) -> dict[str, str]:
    """The views of the experiment that the tests write."""
    experiment = place.client.get_experiment_by_name("trials")
    assert experiment is not None
    found = experiment.tags
    return {key: value for key, value in found.items() if key.startswith(TAG_PREFIX)}


def stored(place: Place, key: str = RUNS) -> StoredView:
    view = decode(tags(place)[key])
    assert view is not None
    return view


def write_run(logger: RunLogger, attack: str) -> str:
    """A run with one attack and one picture; its id."""
    columns = {"dice": [0.9, 0.5], "pixels": [1.0, 2.0]}
    logger.log_curve(f"test/{attack}", columns)
    logger.log_metrics({f"test/{attack}/auc": 0.7})
    logger.log_picture(png(0), f"grid/saliency/{attack}")
    logger.finalize("success")
    assert logger.version is not None
    return logger.version


def publish_in_another_process(attack: str) -> None:
    write_run(RunLogger("trials"), attack)


def test_a_run_publishes_what_it_holds(place: Place, new_logger: NewLogger) -> None:
    write_run(new_logger(), "topn")
    assert set(tags(place)) == {RUNS, LOSSES}
    assert all(len(value) <= TAG_LIMIT for value in tags(place).values())
    metrics, images = known_keys(stored(place).state)
    assert metrics == {"test/topn/dice", "test/topn/pixels", "test/topn/auc"}
    assert images == {"grid/saliency/topn"}
    assert stored(place, LOSSES).state["groupBy"] is not None


def test_the_first_epoch_is_enough_for_a_dashboard(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    logger.log_metrics({"train/loss": 1.0, "val/dice": 0.5})
    logger.send()
    logger.flush()
    assert known_keys(stored(place).state)[0] == {"train/loss", "val/dice"}


def test_the_same_content_is_not_written_again(place: Place, new_logger: NewLogger) -> None:
    run_id = write_run(new_logger(), "topn")
    before = tags(place)
    publish_run(open_client(), run_id)
    publish_store(SERVER)
    write_run(new_logger(), "topn")
    assert tags(place) == before


def test_new_attacks_are_added_and_old_ones_stay(place: Place, new_logger: NewLogger) -> None:
    write_run(new_logger(), "topn")
    created = stored(place).created
    write_run(new_logger(), "pgd")
    metrics, images = known_keys(stored(place).state)
    assert {"test/topn/dice", "test/pgd/dice"} <= metrics
    assert images == {"grid/saliency/topn", "grid/saliency/pgd"}
    assert stored(place).created == created


@pytest.mark.slow
def test_several_processes_at_once_lose_nothing(place: Place, new_logger: NewLogger) -> None:
    write_run(new_logger(), "first")
    names = ["a", "b", "c"]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=publish_in_another_process, args=(name,)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    attacks = {key.split("/")[1] for key in known_keys(stored(place).state)[0]}
    assert attacks == {"first", *names}


def test_views_of_users_are_never_touched(place: Place, new_logger: NewLogger) -> None:
    write_run(new_logger(), "topn")
    client = open_client()
    experiment = client.get_experiment_by_name("trials")
    assert experiment is not None
    theirs = json.loads(tags(place)[RUNS])
    del theirs["segstress"]  # as MLflow's UI writes a view that it saves again
    mine = {RUNS: json.dumps(theirs), f"{TAG_PREFIX}a1b2": json.dumps(theirs | {"name": "mine"})}
    mine[LOSSES] = "what nobody can read"
    for key, value in mine.items():
        client.set_experiment_tag(experiment.experiment_id, key, value)
    write_run(new_logger(), "pgd")
    publish_store(SERVER)
    assert tags(place) == mine


def test_a_dashboard_that_cannot_be_written_costs_one_line(
    place: Place, new_logger: NewLogger, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(place.store / "mlflow.db") as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON experiment_tags "
            "BEGIN SELECT RAISE(FAIL, 'no room'); END"
        )
    run_id = write_run(new_logger(), "topn")
    run = place.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/topn/auc"] == 0.7
    lines = [record.getMessage() for record in caplog.records if "dashboards" in record.msg]
    assert lines
    assert all("\n" not in line and "main.py ui" in line for line in lines)
    assert publish_store(SERVER) == {}
    assert tags(place) == {}


def test_an_existing_store_gets_its_dashboards_and_their_addresses(
    place: Place, new_logger: NewLogger, tmp_path: Path
) -> None:
    write_run(new_logger(), "topn")
    client = open_client()
    experiment = client.get_experiment_by_name("trials")
    assert experiment is not None
    written = tags(place)
    client.delete_experiment_tag(experiment.experiment_id, RUNS)
    others = client.create_experiment("others", artifact_location=tmp_path.as_uri())
    client.log_metric(client.create_run(others).info.run_id, "val/dice", 0.5)
    found = publish_store(f"{SERVER}/")
    head = f"{SERVER}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
    head += "&compareRunsMode=CHART&viewStateShareKey="
    assert found == {
        "trials": {
            "SegStress: test set by run": f"{head}segstress-runs",
            "SegStress: test set by loss": f"{head}segstress-losses",
        }
    }
    assert decode(tags(place)[RUNS]) is not None
    assert tags(place)[LOSSES] == written[LOSSES]
    # Somebody else's experiment.
    assert not any(key.startswith(TAG_PREFIX) for key in client.get_experiment(others).tags)


def test_the_newest_experiment_comes_first(place: Place) -> None:
    for name in ("older", "newer"):
        write_run(RunLogger(name), "topn")
    assert place.run_ids()
    assert [*publish_store(SERVER)] == ["newer", "older"]
