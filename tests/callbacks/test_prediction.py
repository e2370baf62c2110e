"""Predicted masks are those of the network, slice by slice, on the voxels of their images."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from datamodules.datamodule import DecathlonDataModule
from lightning_module.volume_scores import volume_scores
from tests.commands.tilted import (
    SHAPE,
    affine,
    hard_network,
    hard_place,
    load,
    one_slice,
    plain_network,
    plain_place,
)
from tests.places import Place


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return plain_place(tmp_path_factory)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return hard_place(tmp_path_factory)


def predicted(place: Place, folder: Path, *options: str) -> pd.DataFrame:
    """The table of scores after a call."""
    checkpoint = str(place.checkpoint(place.run_ids()[0]))
    flags = ["--prediction.output", str(folder), *options]
    assert place.run("predict", "--ckpt_path", checkpoint, *flags) == 0
    return pd.read_csv(folder / "scores.csv")


def expected_probs(place: Place, network: nn.Module, case: str) -> NDArray[np.float32]:
    """Probabilities slice by slice without padding, shape ``(X, Y, Z, K)``."""
    frames = []
    for frame in range(SHAPE[2]):
        with torch.no_grad():
            probs = network(one_slice(place, network, case, frame).image).sigmoid()[0]
        frames.append(probs[:, : SHAPE[0], : SHAPE[1]].numpy())
    return np.moveaxis(np.stack(frames, axis=-1), 0, -1)


def test_masks_are_those_of_the_network(plain: Place, tmp_path: Path) -> None:
    table = predicted(plain, tmp_path, "--prediction.tolerance_mm", "2")
    assert len(table) == len(set(table["case"])) >= 3
    network = plain_network(plain)
    for row in table.to_dict("records"):
        case = row["case"]
        mask = load(tmp_path / f"{case}.nii.gz")
        probs = expected_probs(plain, network, case)[..., 0]
        sure = np.abs(probs - 0.5) > 1e-5
        np.testing.assert_array_equal(mask[sure] == 1, (probs > 0.5)[sure])
        assert set(np.unique(mask)) <= {0, 1}
        truth = load(plain.task / f"labelsTr/{case}.nii.gz") > 0
        zooms = nibabel.load(plain.task / f"imagesTr/{case}.nii.gz").header.get_zooms()  # type: ignore[attr-defined]
        scores = volume_scores(mask == 1, truth, zooms[:3], tolerance_mm=2)
        for name in ("dice", "hd95_mm", "nsd", "true_ml", "predicted_ml"):
            np.testing.assert_allclose(row[name], getattr(scores, name), atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["predictions.json", "scores.csv", *(f"{case}.nii.gz" for case in table["case"])]
    )


def test_masks_lie_over_their_images(plain: Place, tmp_path: Path) -> None:
    table = predicted(plain, tmp_path)
    for case in table["case"]:
        image = nibabel.load(plain.task / f"imagesTr/{case}.nii.gz")
        label = nibabel.load(plain.task / f"labelsTr/{case}.nii.gz")
        mask = nibabel.load(tmp_path / f"{case}.nii.gz")
        assert isinstance(mask, nibabel.Nifti1Image)
        assert isinstance(image, nibabel.Nifti1Image)
        assert isinstance(label, nibabel.Nifti1Image)
        assert mask.shape == image.shape
        np.testing.assert_array_equal(mask.affine, image.affine)
        np.testing.assert_allclose(mask.affine, affine(), atol=1e-5)
        assert mask.header["datatype"] == label.header["datatype"]


def test_the_dice_of_a_case_is_that_of_test(plain: Place, tmp_path: Path) -> None:
    """Without overlapping classes the table says what test measures."""
    table = predicted(plain, tmp_path)
    run_id = plain.run_ids()[0]
    checkpoint = str(plain.checkpoint(run_id))
    assert plain.run("test", "--ckpt_path", checkpoint) == 0
    (stored,) = plain.stored(run_id).metrics["test/dice"]
    assert float(table["dice"].mean()) == pytest.approx(float.fromhex(stored[1]), abs=2e-6)


def test_each_class_has_its_value_and_the_most_probable_one_has_the_voxel(
    hard: Place, tmp_path: Path
) -> None:
    table = predicted(hard, tmp_path, "--prediction.probabilities", "true")
    network = hard_network(hard)
    case = str(table["case"].iloc[0])
    probs = expected_probs(hard, network, case)
    stored = load(tmp_path / f"{case}_probabilities.nii.gz")
    np.testing.assert_allclose(stored, probs, atol=1e-5)
    mask = load(tmp_path / f"{case}.nii.gz")
    best = np.where(stored.max(axis=-1) > 0.5, stored.argmax(axis=-1) + 1, 0)
    sure = np.abs(stored.max(axis=-1) - 0.5) > 1e-5
    np.testing.assert_array_equal(mask[sure], best[sure])
    assert table[table["case"] == case]["class"].tolist() == ["front", "back"]
    facts = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert facts["labels"] == {"1": "front", "2": "back"}
    assert facts["run"] == hard.run_ids()[0]


def test_merged_labels_are_one_and_said_so(plain: Place, tmp_path: Path) -> None:
    predicted(plain, tmp_path)
    facts = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert facts["labels"] == {"1": "front+back"}


def test_all_cases_of_the_test_set_are_there(plain: Place, tmp_path: Path) -> None:
    table = predicted(plain, tmp_path)
    settings = plain.config_of(plain.run_ids()[0], "fit")["data"]
    known = ("root", "task", "fold", "size", "cache_dir", "max_pixel")
    data = DecathlonDataModule(**{name: settings[name] for name in known})
    assert table["case"].tolist() == list(data.split_cases("test"))


def test_files_go_beside_the_store_unless_told_otherwise(plain: Place) -> None:
    run_id = plain.run_ids()[0]
    assert plain.run("predict", "--ckpt_path", str(plain.checkpoint(run_id))) == 0
    assert (plain.store / "predictions" / run_id / "scores.csv").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prediction.output", "/proc/none"], ["--prediction.output /proc/none", "cannot be"]),
        (["--prediction.tolerance_mm", "-1"], ["--prediction.tolerance_mm", "-1"]),
        (["--prediction.probability", "true"], ["--prediction.probabilities"]),
        (["--return_predictions", "true"], ["--return_predictions"]),
    ],
)
def test_wrong_input_is_named(
    options: list[str], words: list[str], plain: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(plain.checkpoint(plain.run_ids()[0]))
    capsys.readouterr()
    assert plain.run("predict", "--ckpt_path", checkpoint, *options) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert all(word in error for word in words), error
