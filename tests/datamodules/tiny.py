"""Tiny Decathlon tasks, made on the fly."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.decathlon import Case
from errors import InputError

NAME = "Task77_Tiny"
PROJECT = Path(__file__).resolve().parent.parent.parent


def write_nifti(path: Path, voxels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = nibabel.Nifti1Image(voxels, np.eye(4), dtype=voxels.dtype)  # type: ignore[no-untyped-call]
    content = made.to_bytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def volume(
    seed: int, shape: tuple[int, ...] = (10, 12, 4), labels: Sequence[int] = (0, 1, 2)
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Make random intensities, and random labels in the middle frames."""
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 20, shape).astype(np.float32)
    label = rng.choice(np.array(labels, dtype=np.uint8), shape[:3])
    label[:, :, 0] = 0
    return image, label


def write_task(
    root: Path,
    *,
    cases: int = 5,
    name: str = NAME,
    shape: tuple[int, ...] = (10, 12, 4),
    labels: Mapping[str, str] | None = None,
    modality: Mapping[str, str] | None = None,
) -> Path:
    """Write a task of random volumes and return its folder."""
    folder = root / name
    labels = labels or {"0": "background", "1": "Anterior", "2": "Posterior"}
    pairs = []
    for index in range(cases):
        file = f"tiny_{index:02d}.nii.gz"
        image, label = volume(index, shape, [int(value) for value in labels])
        write_nifti(folder / "imagesTr" / file, image)
        write_nifti(folder / "labelsTr" / file, label)
        pairs.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    content = {
        "name": name,
        "relase": "1.0",
        "modality": modality or {"0": "MRI"},
        "labels": labels,
        "training": pairs,
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def edit_json(folder: Path, **changes: object) -> None:
    """Set keys of a task's dataset.json; a key set to None is removed."""
    file = folder / "dataset.json"
    content = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in content.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")


def case_in(folder: Path, name: str = "tiny_00") -> Case:
    return Case(name, (folder / f"imagesTr/{name}.nii.gz",), folder / f"labelsTr/{name}.nii.gz")


def refusal(caught: pytest.ExceptionInfo[InputError]) -> str:
    """Take the message of an error, which must be one line in the house's wording."""
    return check_refusal(str(caught.value))


def check_refusal(message: str) -> str:
    """Whether a message is one line in the house's wording."""
    assert "\n" not in message
    assert ": found " in message
    assert ", expected " in message
    assert "; " in message.rpartition(", expected ")[2]
    return message


def start_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start another process of the project."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
