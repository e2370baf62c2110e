"""Where runs are kept, and how their store is opened safely by many processes at once."""

import logging
import os
import re
from difflib import get_close_matches
from pathlib import Path

from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from errors import InputError

# Nothing about somebody's experiments leaves the machine unless they ask for it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# Its bars for single small files would stand among the lines of a command.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

_SQLITE = "sqlite:///"


def project_dir() -> Path:
    """The folder of ``main.py``, wherever a command is called."""
    return Path(__file__).resolve().parent.parent


def tracking_uri() -> str:
    """The store: ``MLFLOW_TRACKING_URI``, or else the SQLite file under ``mlruns/``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{project_dir()}/mlruns/mlflow.db"


def runs_dir() -> Path:
    """Where checkpoints and reports go: beside the SQLite file, or ``mlruns/`` for a server."""
    database = sqlite_path(tracking_uri())
    return project_dir() / "mlruns" if database is None else database.parent


def sqlite_path(uri: str) -> Path | None:
    """The file behind an ``sqlite:///`` address; None for any other address."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE)).absolute()


def open_client() -> MlflowClient:
    """A client of the store, which is created on its first use.

    Processes that create an SQLite store at once would break it for good, so its first
    construction is behind a lock.

    Raises:
        InputError: If the address is one that MLflow does not know, or does not answer.
    """
    uri = tracking_uri()
    database = sqlite_path(uri)
    # The store's migrations report every step of theirs, which nobody can act on.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    try:
        if database is None:
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
            return client
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(database.with_suffix(".lock")):
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
            return client
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(error).split())
        msg = f"tracking store {uri}: cannot be opened ({reason:.200}); check MLFLOW_TRACKING_URI"
        raise InputError(msg) from error


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """The id of an experiment, which is created if it is new.

    Args:
        client: From :func:`open_client`.
        name: Name of the experiment: the task.

    Returns:
        Its id.

    Raises:
        InputError: If the experiment was deleted in the UI.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        database = sqlite_path(tracking_uri())
        location = None if database is None else (database.parent / "artifacts").as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process was faster.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        msg = f"experiment {name}: found deleted, expected an active one; restore it in the UI"
        raise InputError(msg)
    return str(found.experiment_id)


def find_experiment(client: MlflowClient, name: str) -> str:
    """The id of an existing experiment.

    Raises:
        InputError: If there is none of this name; the nearest names are given.
    """
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    names = sorted(experiment.name for experiment in client.search_experiments())
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    msg = (
        f"experiment {name}: not in {tracking_uri()}; {hint}expected one of: "
        f"{', '.join(names) or 'none yet'}"
    )
    raise InputError(msg)


def slug(text: str) -> str:
    """A part of a metric's key: small letters, digits and ``_.-``."""
    return re.sub(r"[^a-z0-9_.-]+", "_", text.lower()).strip("_") or "_"
