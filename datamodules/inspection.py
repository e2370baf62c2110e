"""What a task's folder holds: every case measured in processes of its own, then compared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datamodules.inspection_case import UNREADABLE, CaseJob, inspect_case
from datamodules.inspection_facts import CaseFacts, Problem
from datamodules.inspection_outliers import compare_cases
from datamodules.preprocessing import fitting_size
from datamodules.task import Task
from datamodules.workers import run_apart

LISTED_WRONGLY = "wrong in dataset.json, or not there"


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
        shapes = [case.image.shape for case in self.usable if case.image is not None]
        return fitting_size([(shape[0], shape[1]) for shape in shapes]) if shapes else None


def inspect_task(
    task: Task, *, workers: int, pictures: int, advance: Callable[[], None]
) -> Inspection:
    """Look at all cases of a task; what is wrong with some of them does not stop the others.

    Args:
        task: The task.
        workers: Number of processes; each holds one volume at a time.
        pictures: Of how many cases a slice is taken, the first by name.
        advance: Called after each case that is listed rightly.
    """
    jobs = [
        CaseJob(case, len(task.channels), task.labels, picture=index < pictures)
        for index, case in enumerate(task.cases)
    ]
    found = [
        facts or _lost(job)
        for facts, job in zip(
            run_apart(inspect_case, jobs, workers=workers, advance=advance), jobs, strict=True
        )
    ]
    broken = [
        CaseFacts(case.name, problems=(Problem(LISTED_WRONGLY, case.reason, blocks=True),))
        for case in task.broken
    ]
    compared = compare_cases(sorted([*found, *broken], key=lambda case: case.name), task.labels)
    return Inspection(task.folder, task.labels, task.channels, compared)


def _lost(job: CaseJob) -> CaseFacts:
    reason = "the process that read it was killed, as the system does when memory runs out"
    lost = Problem(UNREADABLE, reason, blocks=True)
    return CaseFacts(job.case.name, problems=(lost,))
