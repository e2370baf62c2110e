"""Adds to runs that are in the store already."""

from functools import partial
from pathlib import Path

from tracking.delivery import Delivery, finish, patience
from tracking.reading import StoredRun
from tracking.spool import Entry, Spool
from tracking.store import open_client, tracking_uri


def store_file(run: StoredRun, path: Path, folder: str) -> None:
    """Store a file with a run; where the store is away the file waits in the run's spool.

    Args:
        run: The run.
        path: The file.
        folder: Folder among the run's artifacts; a file of the same name is replaced.

    Raises:
        InputError: If the environment says a wrong time to wait for the store.
    """
    uri, longest_s = tracking_uri(), patience()
    spool = Spool(run.run_id)
    spool.claim(uri)
    delivery = Delivery(spool, partial(open_client, uri))
    delivery.append(Entry("file", {"path": f"{folder}/{path.name}"}, path.read_bytes()))
    finish(delivery, longest_s)
