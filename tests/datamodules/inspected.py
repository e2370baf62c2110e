"""Tasks to be inspected: clean ones, in which nothing is suspicious, and ways to spoil a case."""

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from datamodules.datamodule import DecathlonDataModule
from datamodules.decathlon import read_task
from datamodules.inspection import Inspection, inspect_task
from datamodules.inspection_facts import CaseFacts
from errors import InputError
from tests.datamodules.tiny import NAME

SHAPE = (12, 16, 6)
AFFINE = np.diag([0.8, 1.2, 2.5, 1.0])
LABELS = {"0": "background", "1": "Front part", "2": "Back"}


def save(path: Path, voxels: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels, affine, dtype=voxels.dtype)  # type: ignore[no-untyped-call]
    content = image.to_bytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def clean_pair(
    seed: int, shape: tuple[int, ...] = SHAPE
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Intensities of about 0 to 1000, and two labels in the middle of the volume."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 1000, shape).astype(np.int16)
    label = np.zeros(shape[:3], np.uint8)
    label[3:7, 4:8, 2:4] = 1
    label[3 : 6 + seed % 3, 8:11, 2:5] = 2
    return image, label


def clean_task(root: Path, *, cases: int = 6, channels: int = 1) -> Path:
    folder = root / NAME
    pairs = []
    for index in range(cases):
        shape = SHAPE if channels == 1 else (*SHAPE, channels)
        image, label = clean_pair(index, shape)
        file = f"case_{index}.nii.gz"
        save(folder / "imagesTr" / file, image)
        save(folder / "labelsTr" / file, label)
        pairs.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    content = {
        "modality": {str(index): f"channel {index}" for index in range(channels)},
        "labels": LABELS,
        "training": pairs,
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def image_of(folder: Path, index: int) -> Path:
    return folder / f"imagesTr/case_{index}.nii.gz"


def label_of(folder: Path, index: int) -> Path:
    return folder / f"labelsTr/case_{index}.nii.gz"


def inspect(folder: Path, *, pictures: int = 0, workers: int = 1) -> Inspection:
    task = read_task(folder.parent, folder.name)
    return inspect_task(task, workers=workers, pictures=pictures, advance=lambda: None)


def kinds(case: CaseFacts) -> set[str]:
    return {problem.kind for problem in case.problems}


def trained_on(folder: Path, tmp_path: Path) -> bool:
    """Whether the slices that training needs can be made of all cases."""
    try:
        module = DecathlonDataModule(
            root=str(folder.parent), task=folder.name, cache_dir=str(tmp_path / "cache")
        )
        module.prepare_data()
    except InputError:
        return False
    return True
