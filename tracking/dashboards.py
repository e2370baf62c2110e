"""Publishes dashboards: writes shared views into an experiment, and says where they open."""

import logging
import re
import time
from collections.abc import Iterable

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from tracking.interrupts import interrupts_held
from tracking.store import open_client
from tracking.views import OWN_KEYS, fitting_state, plan_views
from tracking.views_format import TAG_PREFIX, StoredView, decode, encode, known_keys

_log = logging.getLogger(__name__)
_ATTEMPTS = 5  # others may write at the same time
_PICTURED_RUNS = 20  # the newest ones: their pictures have the keys of all
_OWN_RUN = "segstress.revision"
_IMAGE_FILE = re.compile(r"images/(?P<key>.+)\+step\+\d+\+timestamp\+\d+\+[0-9a-f-]+\.png")
# Requests to a server raise OSError; a store that is locked or gone, one of the others.
_FAILURES = (MlflowException, SQLAlchemyError, OSError)


@interrupts_held()
def publish_run(client: MlflowClient, run_id: str) -> None:
    """Add what a run holds to the dashboards of its experiment; write those that change.

    A dashboard is a convenience: where it cannot be written, a warning says so.

    Args:
        client: Of the store.
        run_id: The run.
    """
    try:
        run = client.get_run(run_id)
        metrics, images = set(run.data.metrics), _pictures(client, [run])
        experiment_id = run.info.experiment_id
        for _ in range(_ATTEMPTS):
            stored = _stored(client, experiment_id)
            for view in stored.values():
                if view is not None and view.own:
                    known_metrics, known_images = known_keys(view.state)
                    metrics |= known_metrics
                    images |= known_images
            # Read again after writing: what another process wrote in between is added then.
            if not _write(client, experiment_id, stored, metrics, images):
                return
    # Whatever it is, the writes that wait behind this one must not wait for it.
    except Exception as error:
        _warn(error)


def publish_store(server: str) -> dict[str, dict[str, str]]:
    """Bring the dashboards of all experiments up to what their runs hold.

    Args:
        server: Address of the MLflow server that shows them.

    Returns:
        By name of the experiment, the one with the newest run first, the address of each dashboard
        by its name. Experiments without runs of SegStress are left alone, and left out.

    Raises:
        InputError: If the store cannot be opened.
    """
    client = open_client()
    found: list[tuple[int, str, dict[str, str]]] = []
    for experiment in client.search_experiments():
        runs = [run for run in _runs(client, experiment.experiment_id) if _OWN_RUN in run.data.tags]
        if not runs:
            continue
        views = {
            name: view_address(server, experiment.experiment_id, key)
            for key, name in _publish_runs(client, experiment.experiment_id, runs)
        }
        if views:
            found.append((runs[0].info.start_time, experiment.name, views))
    return {name: views for _, name, views in sorted(found, key=lambda one: -one[0])}


def view_address(server: str, experiment_id: str, key: str) -> str:
    """Where a dashboard opens.

    Args:
        server: Address of the MLflow server.
        experiment_id: The experiment.
        key: Key of the dashboard.
    """
    return (
        f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
        f"&compareRunsMode=CHART&viewStateShareKey={key}"
    )


@interrupts_held()
def _publish_runs(
    client: MlflowClient, experiment_id: str, runs: list[Run]
) -> list[tuple[str, str]]:
    """Key and name of each dashboard that the store holds afterwards, the main one first."""
    metrics = {key for run in runs for key in run.data.metrics}
    images = _pictures(client, runs[:_PICTURED_RUNS])
    try:
        _write(client, experiment_id, _stored(client, experiment_id), metrics, images)
    except _FAILURES as error:
        _warn(error)
    stored = _stored(client, experiment_id)
    planned = [view.key for view in plan_views(metrics, images)]
    return [(key, present.name) for key in planned if (present := stored.get(key)) is not None]


def _warn(error: Exception) -> None:
    reason = " ".join(str(error).split())
    _log.warning(
        "The dashboards could not be written (%.200s); python main.py ui tries it again.", reason
    )


def _write(
    client: MlflowClient,
    experiment_id: str,
    stored: dict[str, StoredView | None],
    metrics: set[str],
    images: set[str],
) -> bool:
    """Write the dashboards that are not there yet as they should be; whether there were any."""
    now, written = int(time.time() * 1000), False
    for view in plan_views(metrics, images):
        state = fitting_state(view, metrics, images)
        present = stored.get(view.key)
        if view.key in stored and (present is None or not present.own):
            continue
        if present is not None and (present.name, present.state) == (view.name, state):
            continue
        created = now if present is None else present.created
        value = encode(view.name, state, created=created, updated=now)
        client.set_experiment_tag(experiment_id, TAG_PREFIX + view.key, value)
        written = True
    return written


def _stored(client: MlflowClient, experiment_id: str) -> dict[str, StoredView | None]:
    """The views under the keys of SegStress; None for one that cannot be read."""
    tags = client.get_experiment(experiment_id).tags
    prefix = TAG_PREFIX + OWN_KEYS
    return {
        tag.removeprefix(TAG_PREFIX): decode(value)
        for tag, value in tags.items()
        if tag.startswith(prefix)
    }


def _runs(client: MlflowClient, experiment_id: str) -> Iterable[Run]:
    """All runs, the newest first."""
    token: str | None = None
    while True:
        order = ["attributes.start_time DESC"]
        page = client.search_runs([experiment_id], order_by=order, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _pictures(client: MlflowClient, runs: Iterable[Run]) -> set[str]:
    """Keys of the pictures that MLflow's grid can show."""
    found = set()
    for run in runs:
        if "mlflow.loggedImages" not in run.data.tags:
            continue
        for entry in client.list_artifacts(run.info.run_id, "images"):
            match = _IMAGE_FILE.fullmatch(entry.path)
            if match:
                found.add(match["key"].replace("~", "/"))
    return found
