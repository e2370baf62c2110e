"""Trials that are handed to a queue run there by themselves, from any folder, once."""

import time
from pathlib import Path

import pytest
import yaml

from tests.places import Place, make_place, with_store
from tracking.trials import DONE_TAG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def said_by(place: Place, *arguments: str) -> str:
    process = place.start("sweep", *arguments)
    out, error = process.communicate(timeout=200)
    assert process.returncode == 0, out + error
    return out


def finished(place: Place) -> list[str]:
    runs = [place.client.get_run(run_id) for run_id in place.run_ids()]
    return [run.info.run_id for run in runs if run.data.tags.get(DONE_TAG) == "true"]


def test_jobs_of_the_queue_run_to_their_end_and_are_not_submitted_again(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is submitit's own, of processes on this machine."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    place = with_store(make_place(tmp_path, cases=8), tmp_path_factory)
    file = tmp_path / "queued.yaml"
    options = {"config": [str(place.config)], "trainer.max_epochs": 1, "robustness.attacks": []}
    settings = {"options": options, "grid": {"seed_everything": [0, 1]}, "trial": {"cpus": 1}}
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    queue = [str(file), "--engine", "slurm", "--cluster", "local"]

    assert "Submitted 2 jobs" in said_by(place, *queue)
    deadline = time.monotonic() + 150
    while len(finished(place)) < 2:
        logs = [path.read_text() for path in place.store.glob("sweeps/slurm/*.err")]
        assert time.monotonic() < deadline, "\n".join(logs)
        time.sleep(1)

    assert "2 finished" in said_by(place, str(file), "--dry-run")
    before = finished(place)
    assert "Nothing to submit" in said_by(place, *queue)
    assert sorted(place.run_ids()) == sorted(before)
