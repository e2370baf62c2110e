"""Runs one trial as a process of its own, from where its run is."""

import json
import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from errors import InputError
from sweeps.grid import Sweep, Trial
from sweeps.leftovers import wait_or_kill
from sweeps.minder import GRACE_SECONDS, minded
from sweeps.one_at_a_time import held
from tracking.reading import StoredRun
from tracking.store import project_dir, runs_dir, tracking_uri
from tracking.trials import (
    DONE_TAG,
    SWEEP_TAG,
    TAGS_VARIABLE,
    TRIAL_TAG,
    discard_run,
    epochs_logged,
    last_checkpoint,
    mark_done,
    trial_runs,
)

_T = TypeVar("_T")
State = Literal["finished", "interrupted", "new", "running", "failed", "refused"]
WRONG_INPUT = 2  # exit status of a command that refused its input
_CALL_VARIABLE = "SEGSTRESS_SWEEP_CALL"
_DICE = "val/dice"
_POLL_SECONDS = 0.5
_LOOK_SECONDS = 5.0
_PATIENCE_SECONDS = 120.0
_SECONDS_TO_END = GRACE_SECONDS + 5
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class Progress:
    """How far a trial is.

    Attributes:
        state: ``finished`` with its test; ``interrupted`` where it goes on from a checkpoint;
            ``new``; ``running``; ``failed``; ``refused`` where its input was wrong.
        run_id: Its run; empty where there is none yet.
        epoch: Epochs that were validated.
        dice: Dice of the last one; NaN before.
        seconds: Since it was begun here.
        message: What its command said last, where it failed.
    """

    state: State
    run_id: str = ""
    epoch: int = 0
    dice: float = float("nan")
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Job:
    """What an engine needs to run a trial, wherever that is.

    Attributes:
        trial: The trial.
        sweep: Name of its sweep.
        folder: Where commands are called, which relative paths are of.
        cpus: Threads of its PyTorch.
        retries: How often it is begun again where it failed.
        uri: The store.
        call: Of the sweep; in the environment of what is begun for it, to know that again.
    """

    trial: Trial
    sweep: str
    folder: Path
    cpus: int
    retries: int
    uri: str
    call: str

    @property
    def log(self) -> Path:
        """What its command prints."""
        return log_folder() / f"{self.trial.key}.log"

    @property
    def lock(self) -> Path:
        """Held while its command runs."""
        return self.log.with_suffix(".lock")


def jobs_of(sweep: Sweep, trials: Sequence[Trial]) -> list[Job]:
    """Jobs that run some trials of a sweep from here."""
    resources, call = sweep.resources, uuid.uuid4().hex
    return [
        Job(trial, sweep.name, Path.cwd(), resources.cpus, resources.retries, tracking_uri(), call)
        for trial in trials
    ]


def log_folder() -> Path:
    """Where the output of trials is kept, beside the store."""
    return runs_dir() / "sweeps"


def find_progress(trials: Sequence[Trial]) -> dict[str, Progress]:
    """How far each trial is, as the store says.

    Args:
        trials: The trials.

    Returns:
        By key.

    Raises:
        InputError: If the store does not answer.
    """
    stored = trial_runs()
    return {trial.key: _progress(stored.get(trial.key, ())) for trial in trials}


def command_line(trial: Trial, progress: Progress) -> list[str]:
    """The command of a trial, that anybody can call.

    Args:
        trial: The trial.
        progress: How far it is; from a checkpoint it goes on.
    """
    command = [sys.executable, str(project_dir() / "main.py"), *trial.arguments]
    if progress.state == "interrupted":
        command += ["--ckpt_path", str(last_checkpoint(progress.run_id))]
    return command


def run_with_retries(job: Job, report: Callable[[Progress], None]) -> Progress:
    """Run a trial, and again from its last checkpoint where it failed.

    Args:
        job: The trial.
        report: Called now and then with how far it is.

    Returns:
        How it ended at last.
    """
    ended = run_trial(job, report)
    for _ in range(job.retries):
        if ended.state != "failed":
            break
        report(ended)
        ended = run_trial(job, report)
    return ended


def run_trial(job: Job, report: Callable[[Progress], None]) -> Progress:
    """Run a trial to its end, unless it is finished or another process runs it.

    A run without a checkpoint is begun anew, and its beginning deleted.

    Args:
        job: The trial.
        report: Called now and then with how far it is.

    Returns:
        How it ended.
    """
    os.environ["MLFLOW_TRACKING_URI"] = job.uri
    with held(job.lock, _SECONDS_TO_END) as lock:
        if lock is None:
            return Progress("running", message="another process runs this trial")
        return _run_locked(job, lock, report)


def wait_for_ends(jobs: Sequence[Job]) -> None:
    """Wait until nothing runs of trials whose engine has ended; what goes on here is killed."""
    deadline = time.monotonic() + _SECONDS_TO_END
    for call in {job.call for job in jobs}:
        wait_or_kill(_CALL_VARIABLE, call, GRACE_SECONDS)
    # On other machines of a cluster.
    for job in jobs:
        with held(job.lock, deadline - time.monotonic()):
            pass


def _run_locked(job: Job, lock: int, report: Callable[[Progress], None]) -> Progress:
    started = time.monotonic()
    stored = trial_runs().get(job.trial.key, ())
    before = _progress(stored)
    if before.state == "finished":
        return before
    for run in stored:
        if run.run_id != before.run_id:
            discard_run(run.run_id)
    command = command_line(job.trial, before)
    with job.log.open("ab") as log:
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        written = log.tell()
        process = subprocess.Popen(
            minded(command),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=job.folder,
            env=_environment(job),
            # Ctrl-C in a terminal, and a Ray that kills groups, are for this process alone.
            start_new_session=True,
            # Should this process be killed, the lock is held until the command has ended.
            pass_fds=[lock],
        )
        try:
            looked = time.monotonic()
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                if time.monotonic() - looked > _LOOK_SECONDS:
                    looked = time.monotonic()
                    # A store that is away for a while says nothing of the trial, which goes on.
                    with suppress(InputError):
                        report(_running(job, started))
        finally:
            # Ends the command, should this be an interruption.
            if process.stdin is not None:
                process.stdin.close()
            process.wait()
    now = _patiently(lambda: _progress(trial_runs().get(job.trial.key, ())))
    seconds = time.monotonic() - started
    if process.returncode == 0:
        _patiently(lambda: mark_done(now.run_id))
        return Progress("finished", now.run_id, now.epoch, now.dice, seconds)
    message = _last_line(job.log, written)
    state: State = "refused" if process.returncode == WRONG_INPUT else "failed"
    return Progress(state, now.run_id, now.epoch, now.dice, seconds, message)


def _patiently(ask: Callable[[], _T]) -> _T:
    """Ask the store, also if it comes back only in a while."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except InputError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)


def _running(job: Job, started: float) -> Progress:
    seconds = time.monotonic() - started
    runs = trial_runs().get(job.trial.key, ())
    if not runs:
        return Progress("running", seconds=seconds)
    now = _of_run("running", runs[0])
    return Progress("running", now.run_id, now.epoch, now.dice, seconds)


def _progress(runs: Sequence[StoredRun]) -> Progress:
    """How far the newest of a trial's runs is that there is something of."""
    for run in runs:
        if run.tags.get(DONE_TAG) == "true":
            return _of_run("finished", run)
    for run in runs:
        if last_checkpoint(run.run_id) is not None:
            return _of_run("interrupted", run)
    return Progress("new")


def _of_run(state: State, run: StoredRun) -> Progress:
    dice = run.metrics.get(_DICE, float("nan"))
    return Progress(state, run.run_id, epochs_logged(run.run_id, _DICE), dice)


def _environment(job: Job) -> Mapping[str, str]:
    tags = {TRIAL_TAG: job.trial.key, SWEEP_TAG: job.sweep}
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(job.cpus)}
    return {
        **os.environ,
        **threads,
        "MLFLOW_TRACKING_URI": job.uri,
        TAGS_VARIABLE: json.dumps(tags),
        _CALL_VARIABLE: job.call,
        "PYTHONUNBUFFERED": "1",
    }


def _last_line(log: Path, start: int) -> str:
    """What a command said last, as the reason why it ended."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith("error: ")]
    return (errors or said or ["it said nothing"])[-1]
