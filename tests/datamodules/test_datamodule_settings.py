"""Tests of what the DataModule can be told: planes, neighbours, thinning, folds, broken cases."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from datamodules.datamodule import SPLITS, DecathlonDataModule
from errors import InputError
from tests.datamodules.test_datamodule import make, read
from tests.datamodules.tiny import NAME, refusal, volume, write_nifti, write_task


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_task(tmp_path / "data", cases=10)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"fold": 3, "folds": 3}, "--data.fold: found 3"),
        ({"folds": 1}, "--data.folds: found 1"),
        ({"axis": 3}, "--data.axis: found 3"),
        ({"axis": -1}, "--data.axis: found -1"),
        ({"spacing_mm": (1.0, 0.0)}, "--data.spacing_mm: found [1.0, 0.0]"),
        ({"spacing_mm": (float("nan"), 1.0)}, "--data.spacing_mm: found [nan, 1.0]"),
        ({"neighbours": -1}, "--data.neighbours: found -1"),
        ({"keep_empty": 1.5}, "--data.keep_empty: found 1.5"),
        ({"keep_empty": float("nan")}, "--data.keep_empty: found nan"),
        ({"prepare_workers": -2}, "--data.prepare_workers: found -2"),
        ({"prepare_workers": 0}, "--data.prepare_workers: found 0"),
    ],
)
def test_options_out_of_range(root: Path, options: dict[str, Any], at: str) -> None:
    with pytest.raises(InputError) as caught:
        make(root, **options)
    assert refusal(caught).startswith(at)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"axis": 0}, {"data"}),
        ({"orientation": "canonical"}, {"data"}),
        ({"spacing_mm": (0.9, 0.9)}, {"data"}),
        ({"larger": "tile"}, {"data"}),
        ({"neighbours": 1}, {"data"}),
        ({"folds": 3}, {"split"}),
        ({"keep_empty": 0.5, "augmentation": "all", "on_error": "skip"}, set()),
        ({"prepare_workers": 1}, set()),
    ],
)
def test_what_changes_the_fingerprints(
    root: Path, options: dict[str, Any], changed: set[str]
) -> None:
    before, after = make(root).fingerprints("test"), make(root, **options).fingerprints("test")
    assert {name for name in before if before[name] != after[name]} == changed


def test_any_axis_can_be_the_depth(root: Path) -> None:
    for axis in (0, 1, 2):
        data = make(root, axis=axis)
        for case in data.split_cases("test"):
            image, label = volume(int(case[-2:]))
            low, high = float(image.min()), float(image.max())
            expected = 0.2 * (np.moveaxis(image, axis, 0).astype(np.float64) - low) / (high - low)
            batch = data.case_slices(case).__getitems__(range(label.shape[axis]))
            rows, columns = expected.shape[1:]
            np.testing.assert_allclose(
                batch["image"][:, 0, :rows, :columns].numpy(), expected, rtol=3e-7
            )
            assert torch.equal(
                batch["mask"][:, 0, :rows, :columns] > 0,
                torch.from_numpy(np.moveaxis(label, axis, 0) > 0),
            )
            assert int(batch["valid"].sum()) == label.size


def test_canonical_slices_are_the_same_however_a_volume_is_stored(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "data", cases=5)
    plain = make(tmp_path / "data", orientation="canonical", split="overlap")
    expected = plain.case_slices("tiny_03").__getitems__(range(4))
    for path in sorted(folder.rglob("*.nii.gz")):
        image = nibabel.load(path)
        assert isinstance(image, nibabel.Nifti1Image)
        turn = nibabel.orientations.ornt_transform(  # type: ignore[no-untyped-call]
            nibabel.io_orientation(image.affine),  # type: ignore[no-untyped-call]
            nibabel.orientations.axcodes2ornt(("P", "S", "L")),  # type: ignore[no-untyped-call]
        )
        nibabel.save(image.as_reoriented(turn), path)  # type: ignore[no-untyped-call]
    again = make(tmp_path / "data", orientation="canonical", split="overlap")
    found = again.case_slices("tiny_03").__getitems__(range(4))
    assert torch.equal(found["image"], expected["image"])
    assert torch.equal(found["mask"], expected["mask"])
    as_stored = make(tmp_path / "data", split="overlap", size=(16, 16)).store.records["tiny_03"]
    assert as_stored.grid.depth == 10


def test_neighbours_are_channels_after_the_slice_itself(root: Path) -> None:
    data = make(root, neighbours=2)
    assert data.in_channels == 5
    case = data.split_cases("test")[0]
    alone = make(root).case_slices(case).__getitems__(range(4))["image"][:, 0]
    images = data.case_slices(case).__getitems__(range(4))["image"]
    assert images.shape == (4, 5, 16, 16)
    for frame in range(4):
        places = [frame, frame - 1, frame + 1, frame - 2, frame + 2]
        for channel, place in enumerate(places):
            assert torch.equal(images[frame, channel], alone[min(max(place, 0), 3)])


def test_neighbours_of_a_tile_are_the_same_tile_of_other_frames(root: Path) -> None:
    data = make(root, neighbours=1, size=(8, 8), larger="tile")
    case = data.split_cases("test")[0]
    alone = make(root, size=(8, 8), larger="tile").case_slices(case)
    tiles = 4
    assert len(alone) == 4 * tiles
    images = data.case_slices(case).__getitems__(range(4 * tiles))["image"]
    for index in range(4 * tiles):
        before, after = max(index - tiles, index % tiles), index + tiles
        after = after if after < 4 * tiles else index
        for channel, place in enumerate((index, before, after)):
            assert torch.equal(images[index, channel], alone[place]["image"][0, 0])


def test_larger_slices_are_cut_into_tiles_or_cropped(root: Path) -> None:
    with pytest.raises(InputError, match=r"--data\.larger crop"):
        make(root, size=(8, 8)).prepare_data()
    tiled, cropped = (make(root, size=(8, 8), larger=larger) for larger in ("tile", "crop"))
    assert len(tiled.test_dataloader().dataset) == 2 * 4 * 4  # type: ignore[arg-type]
    assert len(cropped.test_dataloader().dataset) == 2 * 4  # type: ignore[arg-type]
    areas, pixels = tiled.class_areas("test", padding=False)
    assert pixels.sum() == 2 * 10 * 12 * 4
    truth = sum(int((volume(int(case[-2:]))[1] > 0).sum()) for case in tiled.split_cases("test"))
    assert areas.sum() == truth
    for batch in cropped.test_dataloader():
        assert batch["valid"].all()


def test_slices_can_be_resampled(root: Path) -> None:
    data = make(root, spacing_mm=(0.5, 2.0), size=(24, 8))
    batch = data.case_slices(data.split_cases("test")[0]).__getitems__(range(4))
    assert int(batch["valid"][0].sum()) == 20 * 6
    assert batch["image"].max() <= 0.2
    assert batch["image"].min() >= 0


def test_empty_slices_are_thinned_in_training_alone(root: Path) -> None:
    data = make(root, keep_empty=0.5, batch_size=1)
    cases = data.split_cases("train")
    empty = {(case, 0) for case in cases}
    full = {(case, index) for case in cases for index in (1, 2, 3)}
    loader = data.train_dataloader()
    kept = []
    for epoch in range(6):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        seen = read(loader)
        assert full <= set(seen)
        assert len(seen) == len(set(seen)) == len(full) + round(len(empty) / 2)
        kept.append(frozenset(seen) & empty)
    assert len(set(kept)) > 1
    assert frozenset.union(*kept) == empty
    assert len(read(data.test_dataloader())) == 4 * len(data.split_cases("test"))


@pytest.mark.parametrize("workers", [0, 1])
def test_augmentation_follows_seed_epoch_and_sample(root: Path, workers: int) -> None:
    def batches(epoch: int, **options: Any) -> list[torch.Tensor]:  # noqa: ANN401
        options = {"augmentation": "all", "batch_size": 7, **options}
        loader = make(root, **options).train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return [batch["image"] for batch in loader]

    first = batches(3)
    again = batches(3, num_workers=workers)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    plain = batches(3, augmentation="none")
    assert not any(torch.equal(one, other) for one, other in zip(first, plain, strict=True))
    moved, still = (
        {
            (case, int(index)): image
            for batch in make(root, augmentation=recipe).train_dataloader()
            for case, index, image in zip(
                batch["case"], batch["slice_index"], batch["image"], strict=True
            )
        }
        for recipe in ("all", "none")
    )
    assert moved.keys() == still.keys()
    data = make(root, augmentation="all")
    for batch, other in zip(data.test_dataloader(), make(root).test_dataloader(), strict=True):
        assert torch.equal(batch["image"], other["image"])


def test_groups_are_never_split_apart(root: Path) -> None:
    table = root / "groups.csv"
    table.write_text("case,group\ntiny_00,ada\ntiny_04,ada\ntiny_08,ada\n", encoding="utf-8")
    for fold in range(5):
        data = make(root, fold=fold, groups=str(table))
        homes = [
            split
            for split in ("train", "val", "test")
            if {"tiny_00", "tiny_04", "tiny_08"} & set(data.split_cases(split))
        ]
        assert len(homes) == 1


def test_stratified_folds_share_the_foreground(root: Path) -> None:
    for index in range(10):
        label = np.zeros((10, 12, 4), np.uint8)
        label[: index + 1, :, 1] = 1
        write_nifti(root / NAME / f"labelsTr/tiny_{index:02d}.nii.gz", label)
    for fold in range(5):
        data = make(root, fold=fold, stratify=True)
        large = [case for case in data.split_cases("test") if case >= "tiny_05"]
        assert len(large) == 1


def test_a_broken_case_stops_or_is_skipped(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / NAME / "imagesTr/tiny_03.nii.gz").write_bytes(b"no NIfTI")
    (root / NAME / "imagesTr/tiny_06.nii.gz").unlink()
    with pytest.raises(InputError) as caught:
        make(root).prepare_data()
    assert "2 of 10 cases that cannot be used (tiny_03, tiny_06)" in refusal(caught)
    capsys.readouterr()
    data = make(root, on_error="skip")
    data.prepare_data()
    data.setup("fit")
    told = capsys.readouterr().err
    assert told.count("Left out: tiny_03: ") == told.count("Left out: tiny_06: ") == 1
    cases = [case for split in ("train", "val", "test") for case in data.split_cases(split)]
    assert sorted(cases) == [f"tiny_{index:02d}" for index in range(10) if index not in {3, 6}]
    # A table may go on naming them.
    weights = root / "weights.csv"
    weights.write_text("case,weight\ntiny_03,2\ntiny_06,2\ntiny_07,2\n", encoding="utf-8")
    weighted = make(root, on_error="skip", case_weights=str(weights))
    weighted.setup("fit")
    assert fingerprint_changes(data, make(root, on_error="skip")) == set()


def test_what_is_skipped_keeps_its_place_among_the_folds(root: Path) -> None:
    whole = make(root)
    broken = root / NAME / "imagesTr/tiny_03.nii.gz"
    content = broken.read_bytes()
    for fold in range(5):
        before = {split: make(root, fold=fold).split_cases(split) for split in SPLITS}
        broken.write_bytes(b"no NIfTI")
        data = make(root, fold=fold, on_error="skip")
        try:
            for split, cases in before.items():
                assert data.split_cases(split) == tuple(c for c in cases if c != "tiny_03")
        except InputError as error:
            assert "no case left to" in str(error)  # noqa: PT017
            assert ("tiny_03",) in before.values()
        broken.write_bytes(content)
    assert whole.split_cases("test")


def test_broken_cases_are_told_of_before_a_size_that_is_too_small(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / NAME / "imagesTr/tiny_03.nii.gz").write_bytes(b"no NIfTI")
    (root / NAME / "imagesTr/tiny_06.nii.gz").unlink()
    with pytest.raises(InputError, match=r"at most 8 x 8, which is --data\.size"):
        make(root, size=(8, 8)).prepare_data()
    told = capsys.readouterr().err
    assert [line.split(": ")[1] for line in told.splitlines()] == ["tiny_03", "tiny_06"]


def fingerprint_changes(one: DecathlonDataModule, other: DecathlonDataModule) -> set[str]:
    before, after = one.fingerprints("test"), other.fingerprints("test")
    return {name for name in before if before[name] != after[name]}
