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
# By default a call to a server that is away returns after minutes. What a run writes is tried
# again in any case, by tracking.delivery.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

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
    """Where checkpoints and reports go: beside the SQLite file.

    For a server, the folder that ``SEGSTRESS_RUNS_DIR`` names, or else ``mlruns/``.
    """
    database = sqlite_path(tracking_uri())
    if database is not None:
        return database.parent
    named = os.environ.get("SEGSTRESS_RUNS_DIR")
    return Path(named).expanduser().absolute() if named else project_dir() / "mlruns"


def sqlite_path(uri: str) -> Path | None:
    """The file behind an ``sqlite:///`` address; None for any other address."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE)).absolute()


def is_server(uri: str) -> bool:
    """Whether an address is that of an MLflow server, and not of a database."""
    return uri.startswith(("http://", "https://"))


def open_client(uri: str | None = None) -> MlflowClient:
    """A client of the store, which is created on its first use.

    Processes that create a database at once would break it for good, so its first construction
    is behind a lock.

    Args:
        uri: Address of the store; that of :func:`tracking_uri` where none is given.

    Raises:
        InputError: If the address is one that MLflow does not know, or does not answer.
    """
    uri = tracking_uri() if uri is None else uri
    database = sqlite_path(uri)
    # The store's migrations report every step of theirs, which nobody can act on.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # A store that is away is told in one line by who finds it so, not by tracebacks and retries.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    try:
        if is_server(uri):
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
            return client
        lock = runs_dir() / "database.lock" if database is None else database.with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
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
        # A server keeps the files of its runs; those of a database are kept beside the checkpoints.
        location = None if is_server(tracking_uri()) else (runs_dir() / "artifacts").as_uri()
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
