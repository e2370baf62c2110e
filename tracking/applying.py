"""Writes the entries of a spool into MLflow, each so that a second time changes nothing."""

import io
import logging
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException, RestException
from PIL import Image, UnidentifiedImageError
from requests import HTTPError

from tracking.dashboards import publish_run
from tracking.spool import Entry

_log = logging.getLogger(__name__)
_BATCH = 1000  # the most metrics that MLflow takes in one call
_THUMBNAIL = 512  # pixels; the grid of pictures loads these
_SAME = 1e-9

_NOT_PERMITTED = {"PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED", "UNAUTHENTICATED"}
_NOT_ACCEPTED = {
    "INVALID_PARAMETER_VALUE",  # also a run that was deleted
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "INVALID_STATE",
    "FEATURE_DISABLED",
    "ENDPOINT_NOT_FOUND",
    "NOT_FOUND",
}
_CLIENT_ERRORS = range(400, 500)
_LATER = {404, 408, 425, 429}  # 404: what a gateway says while its server is away


def merged(entries: list[Entry]) -> bool:
    """Whether entries can be written in one call: metrics of one kind, and not too many.

    Args:
        entries: In their order, at least one.
    """
    if any(entry.kind != "metrics" for entry in entries):
        return False
    evaluates = {bool(entry.facts["evaluates"]) for entry in entries}
    return len(evaluates) == 1 and sum(len(entry.facts["values"]) for entry in entries) <= _BATCH


def apply(client: MlflowClient, run_id: str, entries: list[Entry]) -> None:
    """Write entries into a run.

    Args:
        client: Of the store.
        run_id: The run.
        entries: One entry, or several that are :func:`merged`.

    Raises:
        ValueError: If an entry is of no known kind.
        MlflowException: If the store does not take it, as other errors of connections and files.
    """
    first = entries[0]
    match first.kind:
        case "metrics":
            values = [value for entry in entries for value in entry.facts["values"]]
            _write_metrics(client, run_id, values, evaluates=first.facts["evaluates"])
        case "describe":
            _describe(client, run_id, first.facts["params"], first.facts["tags"])
        case "file":
            _write_file(client, run_id, first.facts["path"], first.payload)
        case "picture":
            _write_picture(client, run_id, first.facts["key"], first.facts["step"], first.payload)
        case "status":
            _write_status(client, run_id, first.facts["status"], first.facts["time"])
        case "dashboards":
            publish_run(client, run_id)
        case _:
            msg = f"an entry of kind {first.kind!r}, which this version does not know"
            raise ValueError(msg)


def is_refusal(error: Exception) -> bool:
    """Whether waiting does not mend what the store answered.

    A deleted run, an invalid value and a missing permission are refusals. A store that is away,
    slow or broken is none; in doubt it is none either.
    """
    if isinstance(error, MlflowException):
        if error.error_code in _NOT_PERMITTED:
            return True
        # A gateway's page for a server that is away reads "not found" too, but is not JSON.
        from_gateway = not isinstance(error, RestException) and "Response body" in str(error)
        return error.error_code in _NOT_ACCEPTED and not from_gateway
    if isinstance(error, HTTPError) and error.response is not None:
        status = error.response.status_code
        return status in _CLIENT_ERRORS and status not in _LATER
    return isinstance(error, PermissionError | ValueError | KeyError | UnidentifiedImageError)


def grid_file_stem(key: str, step: int) -> str:
    """The name by which MLflow's grid of pictures knows a file: key, step, time, unique id.

    MLflow's own call draws the id at random and would show a picture twice after a resume; here
    it follows from key and step.

    Args:
        key: Key of the picture.
        step: Its step.

    Returns:
        The file's name without its ending.
    """
    unique = uuid.uuid5(uuid.NAMESPACE_URL, f"{key}@{step}")
    return f"{key.replace('/', '~')}+step+{step}+timestamp+{step}+{unique}"


def _write_metrics(
    client: MlflowClient, run_id: str, values: list[list[Any]], *, evaluates: bool
) -> None:
    metrics = [Metric(key, value, now, step) for key, step, now, value in values]
    if evaluates:
        metrics = _without_known(client, run_id, metrics)
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])


def _without_known(client: MlflowClient, run_id: str, metrics: list[Metric]) -> list[Metric]:
    """Leave out what the run holds at the same step: a curve drawn twice is a sawtooth."""
    held = client.get_run(run_id).data.metrics
    known = {
        (key, stored.step): stored
        for key in {metric.key for metric in metrics} & set(held)
        for stored in client.get_metric_history(run_id, key)
    }
    changed = sorted(
        {
            metric.key
            for metric in metrics
            if (metric.key, metric.step) in known
            and abs(known[metric.key, metric.step].value - metric.value) > _SAME
        }
    )
    if changed:
        _log.warning(
            "The run holds other values of %d metrics (%s, ...), which MLflow cannot replace: "
            "its charts keep the first ones, counts.parquet has the new ones.",
            len(changed),
            changed[0],
        )
    return [metric for metric in metrics if (metric.key, metric.step) not in known]


def _describe(
    client: MlflowClient, run_id: str, params: dict[str, str], tags: dict[str, str]
) -> None:
    held = client.get_run(run_id).data.params
    for key, value in params.items():
        if key in held and held[key] != value:
            _log.warning(
                "Run %s began with %s=%s and goes on with %s; its param stays as it was.",
                run_id,
                key,
                held[key],
                value,
            )
    new = [Param(key, value) for key, value in params.items() if key not in held]
    client.log_batch(run_id, params=new, tags=[RunTag(key, value) for key, value in tags.items()])


def _write_file(client: MlflowClient, run_id: str, path: str, content: bytes) -> None:
    place = PurePosixPath(path)
    folder = str(place.parent) if place.parent.name else None
    with tempfile.TemporaryDirectory() as scratch:
        local = Path(scratch, place.name)
        local.write_bytes(content)
        client.log_artifact(run_id, str(local), folder)


def _write_picture(client: MlflowClient, run_id: str, key: str, step: int, png: bytes) -> None:
    for path, content in _files_of_picture(key, step, png):
        _write_file(client, run_id, path, content)
    client.set_tag(run_id, "mlflow.loggedImages", "True")


def _files_of_picture(key: str, step: int, png: bytes) -> Iterator[tuple[str, bytes]]:
    thumbnail = Image.open(io.BytesIO(png)).convert("RGB")
    thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
    small = io.BytesIO()
    thumbnail.save(small, "WEBP")
    stem = grid_file_stem(key, step)
    yield f"{key}.png", png
    yield f"images/{stem}.png", png
    yield f"images/{stem}+compressed.webp", small.getvalue()


def _write_status(client: MlflowClient, run_id: str, status: str, time_ms: int) -> None:
    if status == "RUNNING":
        client.update_run(run_id, status=status)
    else:
        client.set_terminated(run_id, status, time_ms)
