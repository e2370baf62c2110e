"""A trial runs as a process of its own, once, and goes on from where its run is."""

import shlex
import time
from pathlib import Path

import pytest

from sweeps.grid import Sweep, Trial, read_sweep
from sweeps.one_at_a_time import held
from sweeps.trial import (
    Job,
    Progress,
    command_line,
    find_progress,
    jobs_of,
    run_trial,
    run_with_retries,
)
from tests.places import Place, make_place, with_store
from tracking.trials import DONE_TAG, SWEEP_TAG, TRIAL_TAG, discard_run


@pytest.fixture
def place(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Place:
    made = with_store(make_place(tmp_path, cases=8), tmp_path_factory)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    monkeypatch.chdir(tmp_path)
    return made


def sweep_of(place: Place, options: str = "{}", grid: str = "{seed_everything: [0]}") -> Sweep:
    path = place.folder / "tried.yaml"
    text = f"options: {options}\ngrid: {grid}\ntrial: {{retries: 1}}\n"
    path.write_text(text, encoding="utf-8")
    more = ["--trainer.max_epochs", "1", "--robustness.attacks", "[]"]
    return with_config(read_sweep(path, more), place)


def with_config(sweep: Sweep, place: Place) -> Sweep:
    trials = tuple(
        Trial(trial.key, (("config", str(place.config)), *trial.options), trial.chosen)
        for trial in sweep.trials
    )
    return Sweep(sweep.name, trials, sweep.resources, sweep.source)


def only_job(sweep: Sweep) -> Job:
    (job,) = jobs_of(sweep, sweep.trials)
    return job


def test_a_new_trial_is_run_once(place: Place) -> None:
    sweep = sweep_of(place)
    job = only_job(sweep)
    assert find_progress(sweep.trials) == {job.trial.key: Progress("new")}
    reported: list[Progress] = []
    ended = run_trial(job, reported.append)
    assert (ended.state, ended.epoch, ended.message) == ("finished", 1, ""), ended
    (run_id,) = place.run_ids()
    run = place.client.get_run(run_id)
    assert run.data.tags[TRIAL_TAG] == job.trial.key
    assert run.data.tags[SWEEP_TAG] == "tried"
    assert run.data.tags[DONE_TAG] == "true"
    assert ended.dice == pytest.approx(run.data.metrics["val/dice"])
    # What its log shows can be typed as it stands.
    first = job.log.read_text(encoding="utf-8").splitlines()[0]
    assert shlex.split(first)[1:] == command_line(job.trial, Progress("new"))
    before = job.log.read_bytes()
    again = run_trial(job, reported.append)
    assert (again.state, again.run_id) == ("finished", run_id)
    assert job.log.read_bytes() == before
    assert place.run_ids() == [run_id]


@pytest.mark.slow
def test_an_interrupted_trial_goes_on_in_its_run(place: Place) -> None:
    sweep = sweep_of(place)
    job = only_job(sweep)
    run_id = run_trial(job, lambda _: None).run_id
    # As if it had been killed in its test: trained, and not marked.
    place.client.delete_tag(run_id, DONE_TAG)
    assert find_progress(sweep.trials)[job.trial.key].state == "interrupted"
    checkpoint = str(place.checkpoint(run_id))
    command = command_line(job.trial, find_progress(sweep.trials)[job.trial.key])
    assert command[-2:] == ["--ckpt_path", checkpoint]
    before = place.stored(run_id)
    ended = run_trial(job, lambda _: None)
    assert (ended.state, ended.run_id) == ("finished", run_id)
    assert place.run_ids() == [run_id]
    assert place.stored(run_id).metrics == before.metrics


def test_a_beginning_without_a_checkpoint_is_deleted(place: Place) -> None:
    sweep = sweep_of(place)
    job = only_job(sweep)
    experiment = place.client.create_experiment("Task90_Blob")
    lost = place.client.create_run(experiment, tags={TRIAL_TAG: job.trial.key})
    ended = run_trial(job, lambda _: None)
    assert ended.state == "finished"
    assert place.run_ids() == [ended.run_id]
    assert place.client.get_run(lost.info.run_id).info.lifecycle_stage == "deleted"


def test_wrong_input_is_not_tried_again(place: Place) -> None:
    sweep = sweep_of(place, "{data.fold: 9}")
    job = only_job(sweep)
    ended = run_with_retries(job, lambda _: None)
    assert ended.state == "refused"
    assert ended.message.startswith("error: --data.fold: found 9")
    assert job.log.read_text(encoding="utf-8").count("$ ") == 1
    assert find_progress(sweep.trials)[job.trial.key].state == "new"


def test_a_trial_that_fails_is_tried_again(place: Place) -> None:
    sweep = sweep_of(place, "{trainer.profiler: none.such.Profiler}")
    job = only_job(sweep)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    (place.folder / "sitecustomize.py").write_text("raise SystemExit(3)", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(place.folder))
        states: list[str] = []
        ended = run_with_retries(job, lambda progress: states.append(progress.state))
    assert ended.state == "failed"
    assert states.count("failed") == 1
    assert job.log.read_text(encoding="utf-8").count("$ ") == 2


def test_a_trial_that_another_process_runs_is_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = only_job(sweep_of(place))
    monkeypatch.setattr("sweeps.trial._SECONDS_TO_END", 0.3)
    started = time.monotonic()
    with held(job.lock, 0):
        ended = run_trial(job, lambda _: None)
    assert (ended.state, ended.message) == ("running", "another process runs this trial")
    assert time.monotonic() - started < 5
    assert place.run_ids() == []


@pytest.mark.slow
def test_a_deleted_run_is_no_progress(place: Place) -> None:
    sweep = sweep_of(place)
    job = only_job(sweep)
    run_id = run_trial(job, lambda _: None).run_id
    discard_run(run_id)
    assert find_progress(sweep.trials)[job.trial.key].state == "new"
