"""Building a slice store: cases are read, checked, scaled, cut and written, each on its own.

A case is whole once its record is there, which is written last: whatever ends a build, the next one
goes on with the cases that are missing.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from datamodules.failures import remember_failure
from datamodules.manifest import CaseRecord, dump_record, record_file
from datamodules.nifti_file import is_usable
from datamodules.preprocessing import fitting_size, image_frames, label_frames
from datamodules.slice_grid import SliceGrid
from datamodules.slicing import StoreSettings
from datamodules.task import BrokenCase, Case
from datamodules.volumes import (
    Header,
    check_image_files,
    content_hash,
    read_header,
    read_volume,
)
from datamodules.whole_file import ArrayFile, write_whole
from datamodules.workers import available_cores, run_apart
from datamodules.wrong_input import wrong_input
from errors import InputError

# A process takes about a second to begin: less than it takes to prepare so many voxels.
_VOXELS_PER_PROCESS = 16_000_000
_MEGABYTE = 1_000_000
_LOST = "the process that read it was killed, as the system does when memory runs out"


@dataclass(frozen=True)
class CaseJob:
    """A case to be prepared.

    Attributes:
        case: What to read.
        key: Beginning of the names of its files in the store.
        channels: Number of channels that the task declares.
        labels: Values of the labels beside the background.
        settings: How its volume becomes slices.
        folder: The store.
    """

    case: Case
    key: str
    channels: int
    labels: tuple[int, ...]
    settings: StoreSettings
    folder: Path


# A case, what its headers claim, and where its slices would lie.
Claim = tuple[CaseJob, Header, SliceGrid]


def build_cases(
    jobs: Sequence[CaseJob],
    *,
    title: str,
    workers: int | None,
    tell: Callable[[Sequence[BrokenCase]], None],
) -> tuple[list[CaseRecord], list[BrokenCase]]:
    """Prepare cases, in several processes where there is enough to do.

    Args:
        jobs: The cases, all of one task and one store, whose folder exists.
        title: What the progress bar says.
        workers: Number of processes; all cores if None.
        tell: Called with the cases that are known to be broken, before all are refused.

    Returns:
        Records of the cases that are whole now, and what is wrong with the others.

    Raises:
        InputError: If slices are larger than the size and that is to be refused, or the disk has
            too little space.
        OSError: If writing fails.
    """
    headers, broken = _headers(jobs)
    try:
        headers = _within_limits(headers, broken)
    except InputError:
        tell(broken)
        raise
    sound = [job for job, _, _ in headers]
    voxels = sum(int(np.prod(header.shape)) for _, header, _ in headers)
    most = min(workers or available_cores(), 1 + voxels // _VOXELS_PER_PROCESS)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(title, total=len(sound))
        found: list[CaseRecord | BrokenCase | None]
        if most > 1:
            found = run_apart(
                build_case, sound, workers=most, advance=lambda: progress.advance(bar)
            )
        else:
            found = []
            for job in sound:
                found.append(build_case(job))
                progress.advance(bar)
    records = [one for one in found if isinstance(one, CaseRecord)]
    for job, one in zip(sound, found, strict=True):
        if isinstance(one, BrokenCase):
            broken.append(one)
        elif one is None:
            broken.append(BrokenCase(job.case.name, f"{job.case.image}: {_LOST}"))
    return records, broken


def build_case(job: CaseJob) -> CaseRecord | BrokenCase:
    """Write the slices of a case and then its record.

    Args:
        job: The case.

    Returns:
        Its record, or what is wrong with it.

    Raises:
        OSError: If writing fails.
    """
    try:
        volume = read_volume(job.case, channels=job.channels, labels={0, *job.labels})
        grid = _grid(job, Header(volume.label.shape, volume.affine))
        frames = image_frames(
            volume.image,
            grid,
            max_pixel=job.settings.max_pixel,
            intensities=job.settings.intensities,
        )
        first = next(frames)
    except InputError as error:
        return _remembered(job, error)
    except ValueError as error:
        wrong = wrong_input(
            at=job.case.image,
            found=str(error),
            expected="intensities that differ between the percentiles",
            do="set --data.percentiles wider apart, or null for minimum and maximum",
        )
        return BrokenCase(job.case.name, str(wrong))
    image_file, label_file = (f"{job.key}_{kind}.npy" for kind in ("image", "label"))
    shape = (grid.slices, job.channels, *grid.size)
    with ArrayFile(job.folder / image_file, shape, np.float32) as file:
        file.write(first)
        for slices in frames:
            file.write(slices)
    areas: dict[int, list[int]] = {value: [] for value in job.labels}
    with ArrayFile(job.folder / label_file, (grid.slices, *grid.size), np.uint8) as file:
        for labels in label_frames(volume.label, grid):
            file.write(labels)
            for value in job.labels:
                areas[value] += np.count_nonzero(labels == value, axis=(1, 2)).tolist()
    record = CaseRecord(
        case=job.case.name,
        image_file=image_file,
        label_file=label_file,
        file_bytes=(
            (job.folder / image_file).stat().st_size,
            (job.folder / label_file).stat().st_size,
        ),
        grid=grid,
        pixel_ml=_pixel_ml(volume.affine, grid),
        areas={value: tuple(found) for value, found in areas.items()},
        image_sha256=content_hash(volume.image),
        label_sha256=content_hash(volume.label),
    )
    write_whole(job.folder / record_file(job.key), dump_record(record).encode())
    return record


def needed_bytes(headers: Sequence[Claim]) -> int:
    """Size of the slices of cases: for each pixel float32 a channel and uint8 for its label."""
    return sum(
        grid.slices * grid.size[0] * grid.size[1] * (4 * job.channels + 1)
        for job, _, grid in headers
    )


def _remembered(job: CaseJob, error: InputError) -> BrokenCase:
    broken = BrokenCase(job.case.name, str(error))
    # A disk that is away or memory that is short says nothing of the files.
    if not isinstance(error.__cause__, OSError | MemoryError):
        remember_failure(job.folder, job.key, job.case, broken)
    return broken


def _headers(jobs: Sequence[CaseJob]) -> tuple[list[Claim], list[BrokenCase]]:
    """What the files claim to hold, before any of it is read."""
    headers, broken = [], []
    for job in jobs:
        try:
            header = read_header(job.case, channels=job.channels)
            headers.append((job, header, _grid(job, header)))
        except InputError as error:
            broken.append(BrokenCase(job.case.name, str(error)))
    return headers, broken


def _grid(job: CaseJob, header: Header) -> SliceGrid:
    try:
        return job.settings.grid(header.shape, header.affine)
    except ValueError as error:
        raise wrong_input(
            at=job.case.image,
            found=str(error),
            expected="one that says where its axes point to and how long voxels are",
            do="mend it, or leave out --data.orientation and --data.spacing_mm",
        ) from error


def _within_limits(claims: list[Claim], broken: list[BrokenCase]) -> list[Claim]:
    """Refuse slices that are too large or too many, but not for what a damaged header claims.

    The length of a gz file is not known before it is read: where the claims are refused, those that
    decide it are read through, and a case that holds less becomes one of the broken ones.
    """
    whole: set[str] = set()
    while True:
        try:
            _check_size(claims)
            if claims:
                _check_room(claims[0][0].folder, needed_bytes(claims))
        except InputError:
            lost = {}
            for job in _largest(claims):
                if job.case.name in whole:
                    continue
                try:
                    check_image_files(job.case)
                    whole.add(job.case.name)
                except InputError as error:
                    lost[job.case.name] = _remembered(job, error)
            if not lost:
                raise
            broken += lost.values()
            claims = [claim for claim in claims if claim[0].case.name not in lost]
        else:
            return claims


def _largest(claims: Sequence[Claim]) -> list[CaseJob]:
    """The cases that claim the most rows, columns and bytes."""
    measures: list[Callable[[Claim], int]] = [
        lambda claim: claim[2].plane[0],
        lambda claim: claim[2].plane[1],
        lambda claim: needed_bytes([claim]),
    ]
    largest = [max(claims, key=measure)[0] for measure in measures]
    return list({job.case.name: job for job in largest}.values())


def _check_size(headers: Sequence[Claim]) -> None:
    larger = [(job, grid) for job, _, grid in headers if not grid.fits]
    if larger:
        job, grid = larger[0]
        fits = fitting_size([grid.plane for _, _, grid in headers])
        raise wrong_input(
            at=job.case.image,
            found=f"slices of {grid.plane[0]} x {grid.plane[1]} pixels ({len(larger)} of "
            f"{len(headers)} cases are too large)",
            expected=f"at most {grid.size[0]} x {grid.size[1]}, which is --data.size",
            do=f"set --data.size [{fits[0]},{fits[1]}], which holds all of them, or "
            "--data.larger crop or tile",
        )


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise wrong_input(
            at=folder.parent,
            found=f"{free / _MEGABYTE:.1f} MB free in the cache folder",
            expected=f"{needed / _MEGABYTE:.1f} MB for the slices that are to be prepared",
            do="free some, or set --data.cache_dir to a folder on another disk",
        )


def _pixel_ml(affine: NDArray[np.float64], grid: SliceGrid) -> float:
    if not is_usable(affine):
        return float("nan")
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    (rows, columns), (fine_rows, fine_columns) = grid.stored_plane, grid.plane
    return voxel_ml * rows * columns / (fine_rows * fine_columns)
