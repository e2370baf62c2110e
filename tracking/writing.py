"""Adds to runs that are in the store already."""

from pathlib import Path

from tracking.interrupts import interrupts_held
from tracking.reading import StoredRun
from tracking.store import open_client


@interrupts_held()
def store_file(run: StoredRun, path: Path, folder: str) -> None:
    """Store a file with a run.

    Args:
        run: The run.
        path: The file.
        folder: Folder among the run's artifacts; a file of the same name is replaced.

    Raises:
        InputError: If the store does not answer.
    """
    open_client().log_artifact(run.run_id, str(path), folder)
