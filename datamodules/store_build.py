"""Building a slice store: every volume is read, checked, scaled, cut and written into a folder."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from datamodules.decathlon import Case, Task
from datamodules.manifest import MANIFEST_FILE, CaseRecord, StoreSettings, dump_manifest
from datamodules.preprocessing import fitting_size, image_slices, label_slices
from datamodules.volumes import content_hash, read_shape, read_volume
from datamodules.wrong_input import wrong_input


def build_store(task: Task, settings: StoreSettings, folder: Path, key: str) -> None:
    """Write the slices of all cases of a task and then the manifest, and flush them to the disk.

    Args:
        task: What to read.
        settings: How volumes become slices.
        folder: An empty folder.
        key: Name of the store, kept in its manifest.

    Raises:
        InputError: If a volume cannot be used or its slices are larger than the size.
        OSError: If writing fails or the disk has too little space.
    """
    shapes = [read_shape(case, channels=len(task.channels)) for case in task.cases]
    _check_size(task, shapes, settings)
    needed = needed_bytes(task, shapes, settings)
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    console = Console(stderr=True)
    records = [
        _build_case(case, task, settings, folder, f"{index:05d}")
        for index, case in track(
            list(enumerate(task.cases)),
            description=f"Preparing slices of {task.folder.name}",
            console=console,
            disable=not console.is_terminal,
        )
    ]
    _write(folder / MANIFEST_FILE, dump_manifest(key, settings, records).encode())
    sync_folder(folder)


def needed_bytes(
    task: Task, shapes: Sequence[tuple[int, int, int]], settings: StoreSettings
) -> int:
    """Size of a store: for each pixel float32 for each channel and uint8 for its label."""
    pixels = sum(shape[2] for shape in shapes) * settings.size[0] * settings.size[1]
    return pixels * (4 * len(task.channels) + 1)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, so that a rename outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _build_case(
    case: Case, task: Task, settings: StoreSettings, folder: Path, number: str
) -> CaseRecord:
    values = [value for value, _ in task.labels]
    volume = read_volume(case, channels=len(task.channels), labels={0, *values})
    try:
        images = image_slices(
            volume.image,
            size=settings.size,
            max_pixel=settings.max_pixel,
            intensities=settings.intensities,
        )
    except ValueError as error:
        raise wrong_input(
            at=case.image,
            found=str(error),
            expected="intensities that differ between the percentiles",
            do="set --data.percentiles wider apart, or null for minimum and maximum",
        ) from error
    labels = label_slices(volume.label, size=settings.size)
    image_path, label_path = folder / f"{number}_image.npy", folder / f"{number}_label.npy"
    _write_array(image_path, images)
    _write_array(label_path, labels)
    return CaseRecord(
        case=case.name,
        image_file=image_path.name,
        label_file=label_path.name,
        file_bytes=(image_path.stat().st_size, label_path.stat().st_size),
        slices=len(labels),
        shape=volume.label.shape[:2],
        areas={
            value: tuple(np.count_nonzero(labels == value, axis=(1, 2)).tolist())
            for value in values
        },
        image_sha256=content_hash(volume.image),
        label_sha256=content_hash(volume.label),
    )


def _check_size(
    task: Task, shapes: Sequence[tuple[int, int, int]], settings: StoreSettings
) -> None:
    height, width = settings.size
    larger = [
        (case, shape)
        for case, shape in zip(task.cases, shapes, strict=True)
        if shape[0] > height or shape[1] > width
    ]
    if larger:
        case, shape = larger[0]
        fits = fitting_size(shapes)
        raise wrong_input(
            at=case.image,
            found=f"slices of {shape[0]} x {shape[1]} pixels ({len(larger)} of {len(shapes)} cases "
            "are too large)",
            expected=f"at most {height} x {width}, which is --data.size",
            do=f"set --data.size [{fits[0]},{fits[1]}], which holds all of them",
        )


def _write_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an ``.npy`` file by plain writes: a full disk is then an error and not a signal."""
    array = np.ascontiguousarray(array)
    with path.open("wb") as file:
        npy_format.write_array_header_1_0(file, npy_format.header_data_from_array_1_0(array))
        file.write(array.data)
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
