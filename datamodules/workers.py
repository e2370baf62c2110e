"""Work on many items in several processes, where one that is killed takes no other with it."""

import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_apart(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    advance: Callable[[], None],
) -> list[Result | None]:
    """Call a function on each item, in other processes.

    Args:
        work: A function that can be pickled, and so can what it takes and gives.
        items: What it is called with.
        workers: Number of processes, at most one for an item.
        advance: Called whenever a result is there.

    Returns:
        A result for each item, in order; None where the process was killed, as the system does for
        want of memory.

    Raises:
        Exception: What the function raises.
    """
    results: dict[int, Result | None] = {}
    left = list(range(len(items)))
    while left:
        results |= _run(work, items, left, workers, advance)
        left = [index for index in left if index not in results]
        # A killed process ends its whole pool. Items are begun in order: the first of those that
        # are left were being worked on, and each shows by itself which one it was.
        for index in left[:workers]:
            results[index] = _run(work, items, [index], 1, advance).get(index)
        left = left[workers:]
    return [results[index] for index in range(len(items))]


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    indices: Sequence[int],
    workers: int,
    advance: Callable[[], None],
) -> dict[int, Result]:
    """Results by index, without those that were lost with a killed process."""
    # A fork would copy the threads' locks of whatever was imported before.
    context = multiprocessing.get_context("spawn")
    workers = min(workers, len(indices))
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    others = multiprocessing.active_children()
    futures: dict[Future[Result], int] = {}
    results = {}
    try:
        try:
            for index in indices:
                futures[pool.submit(work, items[index])] = index
        except BrokenProcessPool:
            pass
        except OSError:
            # A pool that breaks while it begins closes the pipes of the processes to come.
            if not futures:
                raise
        for future in as_completed(futures):
            with suppress(BrokenProcessPool):
                results[futures[future]] = future.result()
                advance()
    finally:
        if len(results) < len(indices):
            # Of a pool that broke while it began, a process can be left that waits for its work
            # for good, and shutdown for it.
            for child in set(multiprocessing.active_children()) - set(others):
                child.kill()
        pool.shutdown(cancel_futures=True)
    return results


def _end_with_parent() -> None:
    """A parent that is killed cannot end its processes, which would wait for work for good."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _begin() -> None:
    """What a process does first: leave Ctrl-C to its parent, and remarks of libraries unsaid."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
