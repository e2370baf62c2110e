"""The store opens once and for all, whoever comes first, and answers to names it does not know."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from errors import InputError
from tests.places import ROOT, Place
from tracking.store import (
    ensure_experiment,
    find_experiment,
    open_client,
    project_dir,
    runs_dir,
    sqlite_path,
    tracking_uri,
)


def test_the_store_lies_beside_main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert (project_dir() / "main.py").is_file()
    assert tracking_uri() == f"sqlite:///{ROOT}/mlruns/mlflow.db"
    assert runs_dir() == ROOT / "mlruns"


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri() == f"sqlite:///{ROOT}/mlruns/mlflow.db"


def test_checkpoints_go_beside_the_database(place: Place) -> None:
    assert tracking_uri() == place.uri
    assert runs_dir() == place.store
    assert sqlite_path(place.uri) == place.store / "mlflow.db"


def test_the_runs_of_a_server_keep_their_checkpoints_beside_main(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://runs.example:5000")
    assert sqlite_path(tracking_uri()) is None
    assert runs_dir() == ROOT / "mlruns"


def test_a_relative_address_is_relative_to_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///kept/runs.db") == tmp_path / "kept" / "runs.db"


def test_an_experiment_is_created_once(place: Place) -> None:
    first = ensure_experiment(open_client(), "Task04_Hippocampus")
    assert ensure_experiment(open_client(), "Task04_Hippocampus") == first
    assert find_experiment(open_client(), "Task04_Hippocampus") == first
    kept = place.client.get_experiment(first)
    assert kept.name == "Task04_Hippocampus"
    assert kept.artifact_location == (place.store / "artifacts").as_uri()


def test_a_deleted_experiment_is_not_written_to(place: Place) -> None:
    client = open_client()
    client.delete_experiment(ensure_experiment(client, "gone"))
    with pytest.raises(InputError, match=r"gone.*deleted.*restore") as raised:
        ensure_experiment(client, "gone")
    assert "\n" not in str(raised.value)


def test_an_unknown_experiment_answers_with_the_nearest(place: Place) -> None:
    client = open_client()
    ensure_experiment(client, "Task04_Hippocampus")
    ensure_experiment(client, "Task02_Heart")
    with pytest.raises(InputError) as raised:
        find_experiment(client, "Task04_Hipocampus")
    message = str(raised.value)
    assert "Task04_Hipocampus" in message
    assert "did you mean Task04_Hippocampus" in message
    assert "Task02_Heart" in message
    assert "\n" not in message


def test_a_file_that_is_no_database_is_refused_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"no database at all " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{broken}")
    with pytest.raises(InputError, match=r"mlflow\.db") as raised:
        open_client()
    assert "\n" not in str(raised.value)
    assert broken.read_bytes() == b"no database at all " * 100


@pytest.mark.parametrize("uri", ["nonsense://somewhere/db", "sqlite:////proc/nowhere/mlflow.db"])
def test_an_address_that_cannot_be_opened_is_named(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(InputError) as raised:
        open_client()
    assert uri in str(raised.value)
    assert "\n" not in str(raised.value)


_OPENER = """
import sys, time
from pathlib import Path
from tracking.store import ensure_experiment, open_client
folder, number = Path(sys.argv[1]), sys.argv[2]
(folder / f"ready{number}").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
print(ensure_experiment(open_client(), "trials"))
"""


@pytest.mark.slow
def test_three_processes_open_a_new_store_at_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", _OPENER, str(tmp_path), str(number)],
            cwd=ROOT,
            env={**os.environ, "MLFLOW_TRACKING_URI": place.uri},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    while len(list(tmp_path.glob("ready*"))) < 3:
        assert all(opener.poll() is None for opener in openers)
    (tmp_path / "go").touch()
    answers = [opener.communicate(timeout=240) for opener in openers]
    assert [opener.returncode for opener in openers] == [0, 0, 0], answers
    ids = {out.strip() for out, _ in answers}
    assert len(ids) == 1
    assert [found.name for found in place.client.search_experiments()] == ["trials", "Default"]
