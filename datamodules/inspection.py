"""What a task's folder holds: every case measured in processes of its own, then compared."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datamodules.inspection_case import UNREADABLE, CaseJob, inspect_case
from datamodules.inspection_facts import CaseFacts, ImageFacts, Problem
from datamodules.inspection_outliers import compare_cases
from datamodules.nifti_file import is_usable
from datamodules.preprocessing import fitting_size
from datamodules.slice_grid import Orientation, axes_of_slices
from datamodules.task import Task
from datamodules.workers import run_apart

LISTED_WRONGLY = "wrong in dataset.json, or not there"
_DEPTH = 2  # axis of the slices, as --data.axis is by default


@dataclass(frozen=True)
class Inspection:
    """What was found in a task's folder.

    Attributes:
        folder: The task's folder.
        labels: Value and name of each label but the background, ascending by value.
        channels: Names of the image's channels, in order.
        cases: All that are listed, sorted by name.
        ignored: Value of the label whose voxels count for nothing; None without one.
    """

    folder: Path
    labels: tuple[tuple[int, str], ...]
    channels: tuple[str, ...]
    cases: tuple[CaseFacts, ...]
    ignored: int | None = None

    @property
    def usable(self) -> tuple[CaseFacts, ...]:
        """The cases that a network can be trained with."""
        return tuple(case for case in self.cases if case.usable)

    @property
    def images(self) -> tuple[ImageFacts, ...]:
        """The images of these."""
        return tuple(case.image for case in self.usable if case.image is not None)

    @property
    def orientation(self) -> Orientation:
        """The ``--data.orientation`` that fits: canonical where axes of several images differ.

        As stored where one has no usable affine, and so cannot be turned.
        """
        differ = len({image.orientation for image in self.images}) > 1
        can_turn = all(is_usable(image.affine) for image in self.images)
        return "canonical" if differ and can_turn else "stored"

    @property
    def size(self) -> tuple[int, int] | None:
        """The least ``--data.size`` that holds all slices so; None where no case can be used."""
        planes = []
        for image in self.images:
            (rows, columns, _), _ = axes_of_slices(
                image.affine, axis=_DEPTH, orientation=self.orientation
            )
            planes.append((image.shape[rows], image.shape[columns]))
        return fitting_size(planes) if planes else None


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
    ignored = None if task.ignored is None else task.value_of(task.ignored, "labels")
    jobs = [
        CaseJob(case, len(task.channels), task.labels, index < pictures, ignored)
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
    counted = [(value, name) for value, name in task.labels if value != ignored]
    compared = compare_cases(sorted([*found, *broken], key=lambda case: case.name), counted)
    return Inspection(task.folder, task.labels, task.channels, compared, ignored)


def _lost(job: CaseJob) -> CaseFacts:
    reason = "the process that read it was killed, as the system does when memory runs out"
    lost = Problem(UNREADABLE, reason, blocks=True)
    return CaseFacts(job.case.name, problems=(lost,))
