"""Keeps reports of comparisons in the store, in an experiment beside that of the runs."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from errors import InputError
from tracking.interrupts import interrupts_held
from tracking.store import ensure_experiment, open_client

REPORTS = "-reports"
_KEY = "segstress.compared"


@interrupts_held()
def log_report(
    experiment: str,
    split: str,
    run_ids: Sequence[str],
    files: Sequence[Path],
    tags: Mapping[str, str],
) -> tuple[str, str]:
    """Store a report; one of the same runs and split takes the place of the earlier one.

    Args:
        experiment: The experiment of the runs.
        split: The split that is compared.
        run_ids: The runs.
        files: The report's files.
        tags: What else is to be known of the report, such as its command.

    Returns:
        The name of the experiment of reports and the id of the report's run.

    Raises:
        InputError: If the store does not take the report.
    """
    name = experiment + REPORTS
    compared = "\n".join([split, *sorted(run_ids)])
    key = hashlib.sha256(compared.encode()).hexdigest()
    client = open_client()
    try:
        run_id = _run_of(client, ensure_experiment(client, name), key)
        facts = {"mlflow.runName": f"{split}, {len(run_ids)} runs", "segstress.split": split}
        for tag, value in {**facts, _KEY: key, **tags}.items():
            client.set_tag(run_id, tag, value)
        for path in files:
            client.log_artifact(run_id, str(path))
        client.set_terminated(run_id)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(error).split())
        msg = (
            f"experiment {name}: the report is written but the store does not take it "
            f"({reason:.200}); --no-log leaves it out"
        )
        raise InputError(msg) from error
    return name, run_id


def _run_of(client: MlflowClient, experiment_id: str, key: str) -> str:
    """The run that holds the report of the same runs, or a new one."""
    found = client.search_runs([experiment_id], f"tags.`{_KEY}` = '{key}'", max_results=1)
    run = found[0] if found else client.create_run(experiment_id)
    return str(run.info.run_id)
