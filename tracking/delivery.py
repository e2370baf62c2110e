"""Brings what waits in a spool to the store, beside the training and never in its way."""

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import Timeout
from mlflow import MlflowClient

from errors import InputError
from tracking.applying import apply, is_refusal, merged
from tracking.spool import Entry, Spool

_log = logging.getLogger(__name__)

WAIT_VARIABLE = "SEGSTRESS_STORE_WAIT"
WAIT_S = 120.0  # at the end of a run, for a store that is away
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LONGEST_PAUSE_AT_END_S = 2.0
LOCK_TIMEOUT_S = 60.0
_NEXT_WAIT_S = 5.0
_SHOWN_AFTER_S = 2.0
_GLANCE_S = 0.2
_REASON_LENGTH = 200

Connect = Callable[[], MlflowClient]


class RefusedError(Exception):
    """The store does not take an entry, and waiting does not mend that."""


class AwayError(Exception):
    """The store did not take an entry now; it may later."""


def deliver(
    spool: Spool, connect: Connect, delivered: Callable[[list[Entry]], None] | None = None
) -> None:
    """Deliver what waits, in order, each entry once; nothing else delivers from it meanwhile.

    Args:
        spool: What waits.
        connect: Opens the store.
        delivered: Called with the entries of each call that the store has answered.

    Raises:
        RefusedError: If the store refuses an entry, which stays with all after it.
        AwayError: If the store does not answer, or another process holds the spool for long.
    """
    try:
        with spool.lock(LOCK_TIMEOUT_S):
            spool.tidy()
            while names := spool.names():
                _deliver_all(spool, names, connect(), delivered)
    except (RefusedError, AwayError):
        raise
    except Timeout as error:
        msg = "another process is delivering"
        raise AwayError(msg) from error
    except Exception as error:
        raise (RefusedError if is_refusal(error) else AwayError)(_reason(error)) from error


def _deliver_all(
    spool: Spool,
    names: list[str],
    client: MlflowClient,
    delivered: Callable[[list[Entry]], None] | None,
) -> None:
    def write(batch: list[tuple[str, Entry]]) -> None:
        entries = [entry for _, entry in batch]
        try:
            apply(client, spool.run_id, entries)
        except Exception as error:
            if len(batch) == 1 or not is_refusal(error):
                raise
            # What stands before the entry that is refused is delivered.
            for one in batch:
                write([one])
            return
        for name, _ in batch:
            spool.remove(name)
        if delivered is not None:
            delivered(entries)

    waiting: list[tuple[str, Entry]] = []
    for name in names:
        entry = spool.read(name)
        if waiting and not merged([*(kept for _, kept in waiting), entry]):
            write(waiting)
            waiting = []
        waiting.append((name, entry))
    write(waiting)


def _reason(error: Exception) -> str:
    # What went wrong stands last in the message of a connection; its address stands first.
    text = " ".join(str(error).split()).rpartition("(Caused by ")[2]
    return text[:_REASON_LENGTH] or type(error).__name__


class Delivery:
    """Delivers a run's spool from a thread of its own, which ends when nothing waits.

    A store that is away is tried again, with pauses that grow to 30 s; one that refuses is not.

    Args:
        spool: What waits.
        connect: Opens the store.
    """

    def __init__(self, spool: Spool, connect: Connect) -> None:
        self.spool = spool
        self.refused: str | None = None
        self._connect = connect
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._due = False
        self._ending = False
        self._away: str | None = None
        self._calls = 0

    def append(self, entry: Entry) -> str:
        """Add an entry to the spool and have it delivered; returns its name there."""
        name = self.spool.append(entry)
        self.wake()
        return name

    def wake(self) -> None:
        """Have delivered what waits."""
        with self._changed:
            self._due = True
            if self._thread is None and self.refused is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"delivery-{self.spool.run_id}", daemon=True
                )
                self._thread.start()

    def wait(self, patience_s: float) -> bool:
        """Wait until the store has everything; Ctrl-C ends the wait, and nothing else.

        Args:
            patience_s: How long to wait without anything being delivered. Where an earlier wait
                of this process was in vain, less.

        Returns:
            Whether nothing waits any more.
        """
        if not self.spool.names():
            return True
        self.wake()
        with _interrupt_noted() as interrupted, self._changed:
            self._ending = True
            self._changed.notify_all()
            self._wait(_WAITED.left(patience_s), interrupted)
            self._ending = False
        return not self.spool.names()

    def _wait(self, patience_s: float, interrupted: list[int]) -> None:
        began = since = time.monotonic()
        calls, shown = self._calls, False
        while self._thread is not None and not interrupted:
            self._changed.wait(_GLANCE_S)
            now = time.monotonic()
            if self._calls != calls:
                calls, since = self._calls, now
                _WAITED.in_vain_s = 0.0
            # Nobody knows yet whether a store is away that has not had the time to answer.
            least_s = 0.0 if self._away is not None else _NEXT_WAIT_S
            if now - since >= max(patience_s, least_s):
                _WAITED.in_vain_s += now - since
                return
            if not shown and self._away is not None and now - began > _SHOWN_AFTER_S:
                shown = True
                _log.warning(
                    "Waiting up to %.0f s for the tracking store (Ctrl-C leaves; nothing is lost).",
                    patience_s,
                )

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while self._take():
            try:
                deliver(self.spool, self._connect, self._count)
            except RefusedError as error:
                self._refuse(str(error))
                return
            except AwayError as error:
                self._note_away(str(error))
                with self._changed:
                    self._due = True
                    began = time.monotonic()
                    while (left := began + self._shortened(pause) - time.monotonic()) > 0:
                        self._changed.wait(left)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                pause = FIRST_PAUSE_S

    def _shortened(self, pause_s: float) -> float:
        return min(pause_s, LONGEST_PAUSE_AT_END_S) if self._ending else pause_s

    def _take(self) -> bool:
        with self._changed:
            if self._due:
                self._due = False
                return True
            self._thread = None
            self._changed.notify_all()
            return False

    def _count(self, _: list[Entry]) -> None:
        with self._changed:
            self._calls += 1
            self._changed.notify_all()
            back, self._away = self._away is not None, None
        if back:
            _log.warning("The tracking store answers again; what waited is being delivered.")

    def _note_away(self, reason: str) -> None:
        with self._changed:
            first, self._away = self._away is None, reason
        if first:
            _log.warning(
                "The tracking store does not answer (%s): the run goes on, and what it writes "
                "waits in %s.",
                reason,
                self.spool.folder,
            )

    def _refuse(self, reason: str) -> None:
        _log.warning(
            "The tracking store refuses what run %s writes (%s): it is kept in %s; when that is "
            "mended, python main.py sync delivers it.",
            self.spool.run_id,
            reason,
            self.spool.folder,
        )
        with self._changed:
            self.refused = reason
            self._thread = None
            self._changed.notify_all()


class _Waited:
    """How long this process has waited in vain; a second wait for a dead store is a short one."""

    def __init__(self) -> None:
        self.in_vain_s = 0.0

    def left(self, patience_s: float) -> float:
        return max(patience_s - self.in_vain_s, min(patience_s, _NEXT_WAIT_S))


_WAITED = _Waited()


def finish(delivery: Delivery, patience_s: float) -> None:
    """Wait for the store at the end, and say what waits on where it does not come back.

    Args:
        delivery: Of the run.
        patience_s: How long to wait without anything being delivered.
    """
    if not delivery.wait(patience_s) and delivery.refused is None:
        _log.warning(
            "The tracking store does not have all of run %s yet: %d entries wait in %s; "
            "python main.py sync delivers them.",
            delivery.spool.run_id,
            len(delivery.spool.names()),
            delivery.spool.folder,
        )


def patience() -> float:
    """How many seconds the end of a run waits for a store that is away.

    Raises:
        InputError: If the environment variable is no number of seconds.
    """
    text = os.environ.get(WAIT_VARIABLE) or str(WAIT_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        msg = f"{WAIT_VARIABLE}: found {text}, expected seconds, 0 or more; set it to {WAIT_S:g}"
        raise InputError(msg)
    return seconds


@contextmanager
def _interrupt_noted() -> Iterator[list[int]]:
    """Note SIGINT inside instead of raising, also where Lightning ignores it while it ends."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
