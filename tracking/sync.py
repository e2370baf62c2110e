"""Delivers what the runs of earlier processes left in their spools."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from datamodules.printable import printable
from errors import InputError
from tracking.delivery import AwayError, Connect, RefusedError, deliver
from tracking.spool import Entry, Spool, spools_dir, store_address, waiting_spools
from tracking.store import open_client, tracking_uri

_KINDS = {
    "metrics": ("metric", "metrics"),
    "file": ("file", "files"),
    "picture": ("picture", "pictures"),
    "describe": ("description", "descriptions"),
    "status": ("status", "statuses"),
}


@dataclass
class Synced:
    """What became of one spool.

    Attributes:
        run_id: Its run.
        delivered: How many metrics, files, ... the store has got, by kind of entry.
        waiting: How many entries are left.
        trouble: Why they are; None where nothing is left.
    """

    run_id: str
    delivered: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    trouble: str | None = None

    @property
    def summary(self) -> str:
        """What was delivered, in words."""
        found = [
            f"{self.delivered[kind]} {words[self.delivered[kind] != 1]}"
            for kind, words in _KINDS.items()
            if self.delivered[kind]
        ]
        return ", ".join(found) or "nothing"


def sync(run: str | None = None) -> Iterator[Synced]:
    """Deliver the spools beside the store, one after another.

    Spools that were written for another store are left alone, unless their run is named.

    Args:
        run: Id of a run, or how it begins; all runs where none is given.

    Yields:
        What became of each spool in which something waited.

    Raises:
        InputError: If several runs begin so, or no run that ever wrote beside the store.
    """
    known = [path.name for path in spools_dir().iterdir()] if spools_dir().is_dir() else []
    if run is not None and not any(name.startswith(run) for name in known):
        msg = (
            f"--run {run}: found nothing of such a run in {spools_dir()}, expected the id of a run "
            "that wrote there, or how it begins; leave --run out to deliver all that waits"
        )
        raise InputError(printable(msg))
    spools = [spool for spool in waiting_spools() if spool.run_id.startswith(run or "")]
    if run is not None and len(spools) > 1:
        names = ", ".join(spool.run_id for spool in spools)
        msg = f"--run {run}: found several runs that begin so ({names}), expected one; write more"
        raise InputError(msg)
    uri = tracking_uri()
    connect = partial(open_client, uri)
    for spool in spools:
        synced = Synced(spool.run_id)
        if run is None and spool.address not in {None, store_address(uri)}:
            synced.trouble = (
                f"waits for the store {spool.address}, not {store_address(uri)}; set "
                f"MLFLOW_TRACKING_URI to it, or give --run {spool.run_id} to deliver it here"
            )
        else:
            _deliver(spool, synced, connect)
        synced.waiting = len(spool.names())
        yield synced


def _deliver(spool: Spool, synced: Synced, connect: Connect) -> None:
    def count(entries: list[Entry]) -> None:
        for entry in entries:
            metrics = entry.kind == "metrics"
            synced.delivered[entry.kind] += len(entry.facts["values"]) if metrics else 1

    try:
        deliver(spool, connect, count)
    except AwayError as error:
        synced.trouble = f"the store does not answer ({error}); try again later"
    except RefusedError as error:
        synced.trouble = f"the store refuses it ({error}); mend that, or remove {spool.folder}"
