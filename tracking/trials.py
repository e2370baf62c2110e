"""Runs of trials: found again by the key of their trial, marked when they are done."""

import json
import os
from pathlib import Path

from tracking.reading import StoredRun, stored_run
from tracking.store import ensure_experiment, open_client, runs_dir

TAGS_VARIABLE = "SEGSTRESS_RUN_TAGS"
TRIAL_TAG = "trial"
SWEEP_TAG = "sweep"
DONE_TAG = "trial.done"
_PAGE = 1000


def tags_given() -> dict[str, str]:
    """Tags that whoever began this process wants on its run: a JSON object in the environment."""
    try:
        given = json.loads(os.environ.get(TAGS_VARIABLE, "{}"))
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in given.items()} if isinstance(given, dict) else {}


def trial_runs() -> dict[str, list[StoredRun]]:
    """Runs of all experiments that belong to trials, by key, the newest first.

    Raises:
        InputError: If the store does not answer.
    """
    client = open_client()
    experiments = [found.experiment_id for found in client.search_experiments()]
    by_key: dict[str, list[StoredRun]] = {}
    token: str | None = None
    while experiments:
        page = client.search_runs(
            experiments,
            f"tags.{TRIAL_TAG} != ''",
            max_results=_PAGE,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        for run in page:
            by_key.setdefault(run.data.tags[TRIAL_TAG], []).append(stored_run(run))
        token = page.token
        if not token:
            break
    return by_key


def mark_done(run_id: str) -> None:
    """Say of a run that its trial is through, its test included."""
    open_client().set_tag(run_id, DONE_TAG, "true")


def discard_run(run_id: str) -> None:
    """Delete a run that holds nothing to go on from; MLflow can restore it."""
    open_client().delete_run(run_id)


def epochs_logged(run_id: str, key: str) -> int:
    """How many epochs a metric of a run has come to."""
    return max((one.step for one in open_client().get_metric_history(run_id, key)), default=-1) + 1


def last_checkpoint(run_id: str) -> Path | None:
    """The checkpoint that a run goes on from; None where there is none."""
    path = runs_dir() / "checkpoints" / run_id / "last.ckpt"
    return path if path.is_file() else None


def open_parent(experiment: str, sweep: str, key: str) -> str:
    """The run that stands for a sweep, created if it is new.

    It has an experiment of its own: in that of the trials it would leave the charts empty.

    Args:
        experiment: The experiment's name.
        sweep: Name of the sweep.
        key: What tells the sweep from another of its name.

    Returns:
        Its id.
    """
    client = open_client()
    experiment_id = ensure_experiment(client, experiment)
    found = client.search_runs([experiment_id], f"tags.sweep_key = '{key}'", max_results=1)
    if found:
        run_id = str(found[0].info.run_id)
        client.update_run(run_id, status="RUNNING")
        return run_id
    tags = {"sweep_key": key, SWEEP_TAG: sweep}
    return str(client.create_run(experiment_id, run_name=sweep, tags=tags).info.run_id)


def close_parent(run_id: str, counts: dict[str, int], files: dict[str, str], *, ok: bool) -> None:
    """Note how a sweep ended.

    Args:
        run_id: From :func:`open_parent`.
        counts: Number of trials by state.
        files: Texts to keep with it, by name.
        ok: Whether all trials are finished.
    """
    client = open_client()
    for name, count in counts.items():
        client.log_metric(run_id, f"trials/{name}", count)
    for name, text in files.items():
        client.log_text(run_id, text, name)
    client.set_terminated(run_id, "FINISHED" if ok else "FAILED")
