"""Tests of the DataModule: options, splits, fingerprints and loaders, in one process and two."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.datamodule import DecathlonDataModule
from errors import InputError
from tests.datamodules.tiny import NAME, edit_json, refusal, volume, write_nifti, write_task


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_task(tmp_path / "data", cases=10)
    return tmp_path / "data"


def make(root: Path, **options: Any) -> DecathlonDataModule:  # noqa: ANN401
    defaults = {"task": NAME, "size": (16, 16), "cache_dir": str(root.parent / "cache")}
    return DecathlonDataModule(root=str(root), **{**defaults, **options})


def read(loader: DataLoader[Batch]) -> list[tuple[str, int]]:
    """List case and slice of everything that a loader gives, in its order."""
    return [
        (case, int(index))
        for batch in loader
        for case, index in zip(batch["case"], batch["slice_index"], strict=True)
    ]


def test_what_is_known_before_anything_is_read(root: Path) -> None:
    merged = make(root)
    assert (merged.class_names, merged.in_channels) == (("foreground",), 1)
    assert make(root, merge_labels=False).class_names == ("anterior", "posterior")
    one = make(root, merge_labels=False, labels=["Posterior"])
    assert one.class_names == ("posterior",)
    assert not (root.parent / "cache").exists()
    assert merged.hparams["size"] == (16, 16)


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"fold": 5}, "--data.fold: found 5"),
        ({"size": (64, 60)}, "--data.size: found [64, 60]"),
        ({"size": (0, 8)}, "--data.size: found [0, 8]"),
        ({"max_pixel": 0.0}, "--data.max_pixel: found 0.0"),
        ({"max_pixel": float("nan")}, "--data.max_pixel: found nan"),
        ({"batch_size": 0}, "--data.batch_size: found 0"),
        ({"eval_batch_size": -1}, "--data.eval_batch_size: found -1"),
        ({"num_workers": -1}, "--data.num_workers: found -1"),
        ({"seed": -1}, "--data.seed: found -1"),
        ({"labels": ["Antrior"]}, "--data.labels: found unknown label 'Antrior'"),
        ({"task": "Task77_Tin"}, "--data.task in "),
    ],
)
def test_options_out_of_range(root: Path, options: dict[str, Any], at: str) -> None:
    with pytest.raises(InputError) as caught:
        make(root, **options)
    assert refusal(caught).startswith(at)


def test_slices_larger_than_the_size_name_the_size_that_holds_all(root: Path) -> None:
    write_nifti(root / NAME / "imagesTr/tiny_07.nii.gz", volume(7, (20, 9, 4))[0])
    write_nifti(root / NAME / "labelsTr/tiny_07.nii.gz", volume(7, (20, 9, 4))[1])
    with pytest.raises(InputError) as caught:
        make(root, size=(16, 8)).prepare_data()
    message = refusal(caught)
    assert "found slices of 10 x 12 pixels (10 of 10 cases are too large)" in message
    assert "set --data.size [24,16]" in message
    assert not list((root.parent / "cache").glob("*.partial"))


def test_splits_are_sorted_disjoint_and_complete(root: Path) -> None:
    data = make(root)
    names = [data.split_cases(split) for split in ("train", "val", "test")]
    assert [len(cases) for cases in names] == [7, 1, 2]
    assert sorted(case for cases in names for case in cases) == [
        f"tiny_{index:02d}" for index in range(10)
    ]
    with pytest.raises(ValueError, match="predict"):
        data.split_cases("predict")


def test_cases_with_the_same_image_are_never_split_apart(root: Path) -> None:
    for name in ("tiny_03", "tiny_08"):
        write_nifti(root / NAME / f"imagesTr/{name}.nii.gz", volume(0)[0].astype(np.float64))
    for fold in range(5):
        data = make(root, fold=fold)
        home = [
            split
            for split in ("train", "val", "test")
            if {"tiny_00", "tiny_03", "tiny_08"} & set(data.split_cases(split))
        ]
        assert len(home) == 1


def test_the_split_seed_is_apart_from_the_seed(root: Path) -> None:
    tests = [make(root, split_seed=split_seed).split_cases("test") for split_seed in range(6)]
    assert len(set(tests)) > 1
    assert make(root, seed=9).split_cases("test") == make(root).split_cases("test")


def test_fingerprints_do_not_depend_on_the_machine(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "data"
    shutil.copytree(root, elsewhere)
    for path in (elsewhere / NAME).rglob("*.nii.gz"):
        os.utime(path, ns=(7, 7))
    pairs = json.loads((elsewhere / NAME / "dataset.json").read_text())["training"]
    edit_json(elsewhere / NAME, training=pairs[::-1], description="other words")
    for split in ("train", "val", "test"):
        assert make(elsewhere).fingerprints(split) == make(root).fingerprints(split)
    assert set(make(root).fingerprints("test")) == {"data", "split"}
    assert all(len(value) == 64 for value in make(root).fingerprints("test").values())


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"size": (24, 16)}, {"data"}),
        ({"max_pixel": 0.3}, {"data"}),
        ({"merge_labels": False}, {"data"}),
        ({"labels": ["Anterior"]}, {"data"}),
        ({"fold": 1}, {"split"}),
        ({"split_seed": 1}, {"split"}),
        ({"seed": 1, "batch_size": 3, "eval_batch_size": 5, "num_workers": 1}, set()),
    ],
)
def test_what_changes_the_fingerprints(
    root: Path, options: dict[str, Any], changed: set[str]
) -> None:
    before, after = make(root).fingerprints("test"), make(root, **options).fingerprints("test")
    assert {name for name in before if before[name] != after[name]} == changed


def test_content_changes_the_fingerprint_of_data(root: Path) -> None:
    before = make(root).fingerprints("test")
    label = volume(4)[1]
    label[0, 0, 1] = 0 if label[0, 0, 1] else 1
    write_nifti(root / NAME / "labelsTr/tiny_04.nii.gz", label)
    after = make(root).fingerprints("test")
    assert after["data"] != before["data"]
    assert after["split"] == before["split"]


def test_the_largest_slice_has_the_largest_area_of_the_chosen_labels(root: Path) -> None:
    for labels, values in ((None, (1, 2)), (["Posterior"], (2,))):
        data = make(root, labels=labels)
        chosen = data.largest_slices("train", 4)
        assert [case for case, _ in chosen] == list(data.split_cases("train")[:4])
        for case, index in chosen:
            areas = np.isin(volume(int(case[-2:]))[1], values).sum((0, 1))
            assert index == int(np.flatnonzero(areas == areas.max())[0])
    assert len(make(root).largest_slices("test", 99)) == 2


def test_of_equal_areas_the_lowest_slice_is_taken(root: Path) -> None:
    label = np.zeros((10, 12, 4), np.uint8)
    label[2:5, 3, 1:] = 1
    for path in (root / NAME / "labelsTr").iterdir():
        write_nifti(path, label)
    assert {index for _, index in make(root).largest_slices("train", 9)} == {1}


def test_evaluation_goes_through_every_slice_in_order(root: Path) -> None:
    data = make(root, eval_batch_size=3)
    for split, loader in (
        ("val", data.val_dataloader()),
        ("test", data.test_dataloader()),
        ("test", data.predict_dataloader()),
    ):
        expected = [(case, index) for case in data.split_cases(split) for index in range(4)]
        assert read(loader) == expected


def test_training_shuffles_all_slices_and_keeps_one_batch_size(root: Path) -> None:
    data = make(root, batch_size=5)
    loader = data.train_dataloader()
    assert [len(batch["case"]) for batch in loader] == [5] * 5
    seen = read(make(root, batch_size=4).train_dataloader())
    assert seen != sorted(seen)
    assert sorted(seen) == [
        (case, index) for case in data.split_cases("train") for index in range(4)
    ]


def test_fewer_slices_than_a_batch_are_one_smaller_batch(root: Path) -> None:
    loader = make(root, batch_size=500).train_dataloader()
    assert [len(batch["case"]) for batch in loader] == [28]


def test_workers_read_the_same_batches(root: Path) -> None:
    expected = list(make(root, batch_size=9).train_dataloader())
    read_beside = list(make(root, batch_size=9, num_workers=1).train_dataloader())
    assert len(read_beside) == len(expected)
    for batch, other in zip(read_beside, expected, strict=True):
        assert batch["case"] == other["case"]
        assert torch.equal(batch["image"], other["image"])
        assert torch.equal(batch["mask"], other["mask"])


class Recorder(LightningModule):
    """Notes which slices come in which epoch and stage, one file a process."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 1)
        self.folder = folder

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self._note("train", batch)
        loss: torch.Tensor = (self.layer(batch["image"]) - batch["mask"]).square().mean()
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._note("val", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def _note(self, stage: str, batch: Batch) -> None:
        file = self.folder / f"{stage}-{self.current_epoch}-{self.global_rank}"
        with file.open("a", encoding="utf-8") as notes:
            for case, index in zip(batch["case"], batch["slice_index"].tolist(), strict=True):
                notes.write(f"{case} {index}\n")


def _trainer(**options: Any) -> Trainer:  # noqa: ANN401
    return Trainer(
        accelerator="cpu",
        logger=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def _notes(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text(encoding="utf-8").splitlines()


def test_lightning_shuffles_by_epoch_and_a_resumed_run_sees_the_same(
    root: Path, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        folder.mkdir()
    trainer = _trainer(max_epochs=3)
    trainer.fit(Recorder(whole), datamodule=make(root, batch_size=4))
    orders = [_notes(whole, f"train-{epoch}-0") for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1

    first = _trainer(max_epochs=1)
    first.fit(Recorder(tmp_path / "resumed"), datamodule=make(root, batch_size=4))
    first.save_checkpoint(tmp_path / "first.ckpt")
    _trainer(max_epochs=3).fit(
        Recorder(resumed),
        datamodule=make(root, batch_size=4),
        ckpt_path=tmp_path / "first.ckpt",
        weights_only=True,
    )
    for epoch in range(3):
        assert _notes(resumed, f"train-{epoch}-0") == orders[epoch]


def test_two_processes_share_the_slices(root: Path, tmp_path: Path) -> None:
    data = make(root, batch_size=4, eval_batch_size=3)
    trainer = _trainer(max_epochs=1, devices=2, strategy="ddp_fork")
    trainer.fit(Recorder(tmp_path), datamodule=data)
    shares = [_notes(tmp_path, f"val-0-{rank}") for rank in range(2)]
    expected = [f"{case} {index}" for case in data.split_cases("val") for index in range(4)]
    assert sorted([*shares[0], *shares[1]]) == expected
    trained = [_notes(tmp_path, f"train-0-{rank}") for rank in range(2)]
    assert [len(share) for share in trained] == [12, 12]
    assert not set(trained[0]) & set(trained[1])


@pytest.mark.real
def test_real_hippocampus_batches(hippocampus: DecathlonDataModule) -> None:
    batch = next(iter(hippocampus.train_dataloader()))
    assert batch["image"].shape == batch["mask"].shape == (16, 1, 64, 64)
    assert hippocampus.class_names == ("foreground",)
    images = [hippocampus.store.arrays(case)[0] for case in hippocampus.store.records]
    assert {float(image.min()) for image in images} == {0.0}
    assert {image.max() for image in images} == {np.float32(0.2)}


@pytest.mark.real
def test_real_labels_merged_and_apart(hippocampus: DecathlonDataModule) -> None:
    apart = DecathlonDataModule(
        root=hippocampus.hparams["root"],
        cache_dir=str(hippocampus.cache_dir),
        merge_labels=False,
    )
    assert apart.class_names == ("anterior", "posterior")
    for merged, both in zip(hippocampus.val_dataloader(), apart.val_dataloader(), strict=True):
        assert torch.equal(merged["mask"], both["mask"].sum(1, keepdim=True))
        assert torch.equal(merged["image"], both["image"])


@pytest.mark.real
def test_a_real_slice_lies_where_the_file_says(
    hippocampus: DecathlonDataModule, real_data: Path
) -> None:
    nibabel = pytest.importorskip("nibabel")
    case, index = hippocampus.largest_slices("test", 1)[0]
    folder = real_data / "Task04_Hippocampus"
    image = nibabel.load(folder / f"imagesTr/{case}.nii.gz").get_fdata()
    label = nibabel.load(folder / f"labelsTr/{case}.nii.gz").get_fdata()
    height, width, _ = image.shape
    batch = next(
        batch
        for batch in hippocampus.test_dataloader()
        if (case, index) in zip(batch["case"], batch["slice_index"].tolist(), strict=True)
    )
    place = list(zip(batch["case"], batch["slice_index"].tolist(), strict=True)).index(
        (case, index)
    )
    shown = batch["image"][place, 0, :height, :width].numpy()
    scaled = 0.2 * (image[:, :, index] - image.min()) / (image.max() - image.min())
    np.testing.assert_allclose(shown, scaled, rtol=1e-6, atol=1e-9)
    mask = batch["mask"][place, 0, :height, :width].numpy()
    np.testing.assert_array_equal(mask, label[:, :, index] > 0)
    assert int(mask.sum()) == (label > 0).sum((0, 1)).max()


@pytest.mark.real
def test_real_heart_slices_of_256_pixels(real_data: Path, tmp_path: Path) -> None:
    shutil.copytree(real_data / "Task02_Heart", tmp_path / "Task02_Heart")
    pairs = json.loads((tmp_path / "Task02_Heart/dataset.json").read_text())["training"][:5]
    edit_json(tmp_path / "Task02_Heart", training=pairs)
    data = DecathlonDataModule(
        root=str(tmp_path), task="Task02_Heart", size=(256, 256), cache_dir=str(tmp_path / "cache")
    )
    assert [len(data.split_cases(split)) for split in ("train", "val", "test")] == [3, 1, 1]
    batch = next(iter(data.val_dataloader()))
    assert batch["image"].shape == (32, 1, 256, 256)
    assert batch["valid"].all()
    with pytest.raises(InputError) as caught:
        make(tmp_path, task="Task02_Heart", size=(64, 64)).prepare_data()
    assert "set --data.size [256,256]" in refusal(caught)
