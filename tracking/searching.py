"""Which runs of an experiment match a filter in MLflow's search syntax."""

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from errors import InputError
from tracking.store import find_experiment, open_client


def matching_runs(experiment: str, query: str) -> set[str]:
    """The ids of the runs that a filter lets through.

    Args:
        experiment: Name of the experiment.
        query: Such as ``params.epochs = '4' and metrics.`val/dice` > 0.8``.

    Raises:
        InputError: If there is no such experiment, or the filter is none.
    """
    client = open_client()
    experiment_id = find_experiment(client, experiment)
    found: set[str] = set()
    token: str | None = None
    while True:
        try:
            page = client.search_runs([experiment_id], query, page_token=token)
        except (MlflowException, SQLAlchemyError) as error:
            reason = " ".join(str(error).split())
            msg = (
                f"--filter {query!r}: MLflow does not understand it ({reason:.200}); expected such "
                "as \"params.epochs = '4' and metrics.`val/dice` > 0.8\""
            )
            raise InputError(msg) from error
        found |= {str(run.info.run_id) for run in page}
        token = page.token
        if not token:
            return found
