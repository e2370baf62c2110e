import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tracking.interrupts import interrupts_held


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """A process that a script started in the background ignores interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_acts_when_the_write_is_done() -> None:
    steps = []

    def write() -> None:
        with interrupts_held():
            steps.append("begun")
            with interrupts_held():
                interrupt()
                interrupt()
            steps.append("done")
        steps.append("never")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert steps == ["begun", "done"]
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_an_error_inside_is_not_lost_and_the_handler_is_put_back() -> None:
    def write() -> None:
        with interrupts_held():
            msg = "full"
            raise ValueError(msg)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="full"):
        write()
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_write_as_they_are() -> None:
    done = []

    def write() -> None:
        with interrupts_held():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGINT)]
