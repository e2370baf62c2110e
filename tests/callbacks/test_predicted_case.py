"""What a perfect network finds is the truth on the voxels of the source, however it was sliced."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from callbacks.predicted_case import write_case
from datamodules.datamodule import DecathlonDataModule
from tests.commands.tilted import load
from tests.datamodules.tiny import NAME, write_nifti, write_task

WAYS: dict[str, dict[str, Any]] = {
    "as stored": {},
    "first axis": {"axis": 0, "size": (40, 24)},
    "canonical, second axis": {"axis": 1, "orientation": "canonical", "size": (40, 24)},
    "tiles": {"size": (16, 16), "larger": "tile"},
    "neighbours": {"neighbours": 1},
    "tiles along the first axis": {"axis": 0, "size": (8, 16), "larger": "tile"},
}
FINER: dict[str, dict[str, Any]] = {
    "finer": {"spacing_mm": (0.7, 0.7), "size": (64, 64)},
    "finer tiles": {"spacing_mm": (0.5, 0.8), "size": (32, 32), "larger": "tile"},
}


def blob(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Two smooth bodies in a volume of 40 x 36 x 20 voxels."""
    rng = np.random.default_rng(seed)
    x, y, z = np.ogrid[:40, :36, :20]
    label = np.zeros((40, 36, 20), np.uint8)
    for value, middle in ((1, (14, 15)), (2, (26, 22))):
        distance = ((x - middle[0]) / 11) ** 2 + ((y - middle[1]) / 10) ** 2 + ((z - 10) / 8) ** 2
        label[distance < 1] = value
    image = (label * 50 + rng.normal(100, 5, label.shape)).astype(np.float32)
    return image, label


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = write_task(tmp_path / "data", cases=5)
    for index in range(5):
        image, label = blob(index)
        write_nifti(folder / f"imagesTr/tiny_{index:02d}.nii.gz", image)
        write_nifti(folder / f"labelsTr/tiny_{index:02d}.nii.gz", label)
    return folder.parent


def perfect(data: DecathlonDataModule, case: str) -> NDArray[np.float32]:
    """The masks of a case as if a network had found them, shape ``(S, K, H, W)``."""
    slices = data.case_slices(case)
    masks: NDArray[np.float32] = slices.__getitems__(range(len(slices)))["mask"].numpy()
    return masks


def dice_of_truth(
    data: DecathlonDataModule, case: str, folder: Path
) -> tuple[NDArray[np.float64], list[float]]:
    """The mask of a perfect network as it is written, and its scores."""
    masks = perfect(data, case)
    rows = write_case(
        folder, data, case, masks, 2 * masks - 1, probabilities=True, tolerance_mm=1.0
    )
    return load(folder / f"{case}.nii.gz").astype(np.float64), [row["dice"] for row in rows]


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_without_resampling_the_truth_comes_back(
    root: Path, tmp_path: Path, way: str, merged: bool
) -> None:
    options = {"size": (40, 40), "merge_labels": merged, **WAYS[way]}
    data = DecathlonDataModule(
        root=str(root), task=NAME, cache_dir=str(tmp_path / "cache"), **options
    )
    truth = load(root / NAME / "labelsTr/tiny_02.nii.gz")
    mask, dice = dice_of_truth(data, "tiny_02", tmp_path)
    np.testing.assert_array_equal(mask, (truth > 0) if merged else truth)
    assert dice == [1.0] * len(data.class_names)
    image = nibabel.load(root / NAME / "imagesTr/tiny_02.nii.gz")
    stored = nibabel.load(tmp_path / "tiny_02_probabilities.nii.gz")
    assert isinstance(image, nibabel.Nifti1Image)
    assert isinstance(stored, nibabel.Nifti1Image)
    assert stored.shape[:3] == image.shape
    np.testing.assert_array_equal(stored.affine, image.affine)


@pytest.mark.parametrize("way", FINER)
def test_with_resampling_the_truth_nearly_comes_back(root: Path, tmp_path: Path, way: str) -> None:
    data = DecathlonDataModule(
        root=str(root),
        task=NAME,
        cache_dir=str(tmp_path / "cache"),
        merge_labels=False,
        **FINER[way],
    )
    mask, dice = dice_of_truth(data, "tiny_02", tmp_path)
    truth = load(root / NAME / "labelsTr/tiny_02.nii.gz")
    assert mask.shape == truth.shape
    assert min(dice) >= 0.99
    for value, found in zip((1, 2), dice, strict=True):
        both = int(((mask == value) & (truth == value)).sum())
        assert found == pytest.approx(2 * both / ((mask == value).sum() + (truth == value).sum()))


def test_what_was_cropped_away_is_background_and_counts(root: Path, tmp_path: Path) -> None:
    data = DecathlonDataModule(
        root=str(root),
        task=NAME,
        cache_dir=str(tmp_path / "cache"),
        size=(16, 16),
        larger="crop",
    )
    mask, (dice,) = dice_of_truth(data, "tiny_02", tmp_path)
    truth = load(root / NAME / "labelsTr/tiny_02.nii.gz") > 0
    inside = np.zeros(truth.shape, bool)
    inside[12:28, 10:26] = True
    np.testing.assert_array_equal(mask > 0, truth & inside)
    kept = int((truth & inside).sum())
    assert dice == pytest.approx(2 * kept / (kept + int(truth.sum())))


@pytest.mark.real
@pytest.mark.parametrize(
    ("task", "options", "least"),
    [
        ("Task04_Hippocampus", {"merge_labels": False}, 1.0),
        ("Task04_Hippocampus", {"spacing_mm": (0.6, 0.6), "size": (104, 104)}, 0.99),
        ("Task04_Hippocampus", {"spacing_mm": (0.9, 0.9), "size": (72, 72)}, 0.99),
        # What is small loses its corners to larger pixels: no way back can know them.
        ("Task04_Hippocampus", {"spacing_mm": (1.25, 1.25), "size": (64, 64)}, 0.94),
        ("Task02_Heart", {"size": (128, 128), "larger": "tile"}, 1.0),
        ("Task02_Heart", {"spacing_mm": (1.0, 1.0), "size": (320, 320)}, 0.99),
        ("Task09_Spleen", {"size": (168, 168), "split": "overlap"}, 1.0),
        ("Task09_Spleen", {"size": (96, 96), "spacing_mm": (1.5, 1.5), "split": "overlap"}, 0.97),
        ("Task09_Spleen", {"size": (136, 136), "spacing_mm": (1.0, 1.0), "split": "overlap"}, 0.99),
        ("Task01_BrainTumour", {"size": (176, 176), "axis": 0, "split": "overlap"}, 1.0),
    ],
)
def test_real_truth_comes_back(
    real_data: Path, tmp_path: Path, task: str, options: dict[str, Any], least: float
) -> None:
    data = DecathlonDataModule(
        root=str(real_data), task=task, cache_dir=str(tmp_path / "cache"), **options
    )
    for case in list(data.store.records)[:3]:
        mask, dice = dice_of_truth(data, case, tmp_path)
        truth = load(real_data / task / "labelsTr" / f"{case}.nii.gz")
        assert mask.shape == truth.shape
        assert min(dice) >= least, (case, dice)
        if least == 1.0:
            np.testing.assert_array_equal(mask > 0, truth > 0)
