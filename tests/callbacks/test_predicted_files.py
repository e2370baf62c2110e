"""What the files of a case decide when it is predicted: ignored voxels, types and trailing axes."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from callbacks.predicted_case import write_case
from datamodules.datamodule import DecathlonDataModule
from tests.commands.tilted import load
from tests.datamodules.nnunet_raw import as_nnunet
from tests.datamodules.tiny import edit_json, volume, write_nifti, write_task

CASE = "tiny_02"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_task(tmp_path / "data", cases=5)


def make(folder: Path, **options: Any) -> DecathlonDataModule:  # noqa: ANN401
    return DecathlonDataModule(
        root=str(folder.parent),
        task=folder.name,
        size=(16, 16),
        cache_dir=str(folder.parent / "cache"),
        **options,
    )


def predict(
    data: DecathlonDataModule, probs: NDArray[np.float32], output: Path
) -> list[dict[str, Any]]:
    return write_case(
        output, data, CASE, probs, 2 * probs - 1, probabilities=True, tolerance_mm=1.0
    )


def truth_of(data: DecathlonDataModule) -> NDArray[np.float32]:
    slices = data.case_slices(CASE)
    masks: NDArray[np.float32] = slices.__getitems__(range(len(slices)))["mask"].numpy()
    return masks


@pytest.mark.parametrize("merged", [True, False])
def test_ignored_voxels_count_in_no_score(folder: Path, tmp_path: Path, merged: bool) -> None:
    """What is found there is neither right nor wrong."""
    raw = as_nnunet(folder)
    edit_json(raw, labels={"background": 0, "front": 1, "back": 2, "ignore": 3})
    label = volume(2)[1]
    is_ignored = np.zeros(label.shape, bool)
    is_ignored[:4] = is_ignored[..., 2] = True
    marked = np.where(is_ignored, 3, label).astype(np.uint8)
    write_nifti(raw / f"labelsTr/{CASE}.nii.gz", marked)
    data = make(raw, merge_labels=merged)
    # The right answer everywhere else, and every class wherever voxels are ignored.
    probs = truth_of(data)
    ignored_slices = is_ignored.transpose(2, 0, 1)[:, np.newaxis]
    probs[:, :, :10, :12][np.broadcast_to(ignored_slices, probs[:, :, :10, :12].shape)] = 1
    rows = predict(data, probs, tmp_path)
    assert [row["dice"] for row in rows] == [1.0] * len(data.class_names)
    # A voxel that is missed outside counts as it would alone.
    at = tuple(np.argwhere((label == 1) & ~is_ignored)[0])
    probs[at[2], 0, at[0], at[1]] = 0
    dice = predict(data, probs, tmp_path)[0]["dice"]
    true = int((((label > 0) if merged else (label == 1)) & ~is_ignored).sum())
    assert dice == pytest.approx(2 * (true - 1) / (2 * true - 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_mask_has_the_type_of_the_label_map(
    folder: Path, tmp_path: Path, dtype: type[np.generic]
) -> None:
    label = volume(2)[1]
    write_nifti(folder / f"labelsTr/{CASE}.nii.gz", label.astype(dtype))
    data = make(folder, merge_labels=False)
    predict(data, truth_of(data), tmp_path)
    mask = nibabel.load(tmp_path / f"{CASE}.nii.gz")
    assert isinstance(mask, nibabel.Nifti1Image)
    assert mask.get_data_dtype() == dtype  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(load(tmp_path / f"{CASE}.nii.gz"), label)


@pytest.mark.parametrize("image_has", [False, True])
@pytest.mark.parametrize("label_has", [False, True])
def test_a_mask_has_the_three_axes_of_space(
    folder: Path, tmp_path: Path, image_has: bool, label_has: bool
) -> None:
    """Though image or label map have a fourth of length 1."""
    image, label = volume(2)
    write_nifti(folder / f"imagesTr/{CASE}.nii.gz", image[..., None] if image_has else image)
    write_nifti(folder / f"labelsTr/{CASE}.nii.gz", label[..., None] if label_has else label)
    data = make(folder, merge_labels=False)
    rows = predict(data, truth_of(data), tmp_path)
    assert [row["dice"] for row in rows] == [1.0, 1.0]
    np.testing.assert_array_equal(load(tmp_path / f"{CASE}.nii.gz"), label)
    assert load(tmp_path / f"{CASE}_probabilities.nii.gz").shape == (*label.shape, 2)
