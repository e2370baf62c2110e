"""What a task's folder holds: every case measured in processes of its own, then compared."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datamodules.inspection_case import UNREADABLE, CaseJob, inspect_case
from datamodules.inspection_facts import CaseFacts, Problem
from datamodules.inspection_listing import Listing
from datamodules.inspection_outliers import compare_cases
from datamodules.inspection_workers import run_apart
from datamodules.preprocessing import fitting_size


@dataclass(frozen=True)
class Inspection:
    """What was found in a task's folder.

    Attributes:
        folder: The task's folder.
        labels: Value and name of each label but the background, ascending by value.
        channels: Names of the image's channels, in order.
        cases: All that are listed, sorted by name.
    """

    folder: Path
    labels: tuple[tuple[int, str], ...]
    channels: tuple[str, ...]
    cases: tuple[CaseFacts, ...]

    @property
    def usable(self) -> tuple[CaseFacts, ...]:
        """The cases that a network can be trained with."""
        return tuple(case for case in self.cases if case.usable)

    @property
    def size(self) -> tuple[int, int] | None:
        """The least ``--data.size`` that holds all slices; None where no case can be used."""
        shapes = [case.image.shape[:3] for case in self.usable if case.image is not None]
        return fitting_size([(x, y, z) for x, y, z in shapes]) if shapes else None


def inspect_task(
    listing: Listing, *, workers: int, pictures: int, advance: Callable[[], None]
) -> Inspection:
    """Look at all cases of a task; what is wrong with some of them does not stop the others.

    Args:
        listing: What the task lists, from :func:`inspection_listing.list_cases`.
        workers: Number of processes; each holds one volume at a time.
        pictures: Of how many cases a slice is taken, the first by name.
        advance: Called after each case.
    """
    jobs = [
        CaseJob(case, len(listing.channels), listing.labels, picture=index < pictures)
        for index, case in enumerate(listing.cases)
    ]
    found = [
        facts or _lost(job)
        for facts, job in zip(
            run_apart(inspect_case, jobs, workers=workers, advance=advance), jobs, strict=True
        )
    ]
    return Inspection(
        listing.folder, listing.labels, listing.channels, compare_cases(found, listing.labels)
    )


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _lost(job: CaseJob) -> CaseFacts:
    reason = "the process that read it was killed, as the system does when memory runs out"
    lost = Problem(UNREADABLE, reason, blocks=True)
    return CaseFacts(job.case.name, problems=(*job.case.problems, lost))
