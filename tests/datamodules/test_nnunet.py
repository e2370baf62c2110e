"""Raw folders of nnU-Net: they are read as the same volumes in a Decathlon folder are."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.decathlon import read_task
from datamodules.task import Task
from datamodules.volumes import read_header, read_volume
from errors import InputError
from tests.datamodules.inspected import clean_pair, clean_task, inspect, save, trained_on
from tests.datamodules.nnunet_raw import NNUNET, as_nnunet
from tests.datamodules.tiny import check_refusal, edit_json, refusal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three cases of two channels."""
    return as_nnunet(clean_task(tmp_path, cases=3, channels=2))


def read(folder: Path) -> Task:
    return read_task(folder.parent, folder.name)


def image_of(folder: Path, index: int, channel: int = 0) -> Path:
    return folder / f"imagesTr/case_{index}_{channel:04d}.nii.gz"


def label_of(folder: Path, index: int) -> Path:
    return folder / f"labelsTr/case_{index}.nii.gz"


@settings(max_examples=25)
@given(
    shape=st.tuples(st.integers(2, 7), st.integers(2, 7), st.integers(1, 5)),
    channels=st.integers(1, 3),
    dtype=st.sampled_from([np.uint8, np.int16, np.float32, np.float64]),
    label_dtype=st.sampled_from([np.uint8, np.int64, np.float32]),
    ending=st.sampled_from([".nii", ".nii.gz"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_volumes_are_those_of_the_decathlon_folder(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    channels: int,
    dtype: type[np.generic],
    label_dtype: type[np.generic],
    ending: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    first = clean_task(tmp_path_factory.mktemp("data"), cases=2, channels=channels)
    for index in range(2):
        image = rng.integers(0, 200, (*shape, channels)).astype(dtype)
        image[0, 0, 0], image[1, 1, 0] = np.uint8(201), np.uint8(202)
        label = rng.integers(0, 3, shape).astype(label_dtype)
        save(first / f"imagesTr/case_{index}.nii.gz", image if channels > 1 else image[..., 0])
        save(first / f"labelsTr/case_{index}.nii.gz", label)
    one, other = read(first), read(as_nnunet(first, ending=ending))
    assert (one.labels, one.channels) == (other.labels, other.channels)
    assert [case.name for case in one.cases] == [case.name for case in other.cases]
    assert not one.broken
    assert not other.broken
    for before, after in zip(one.cases, other.cases, strict=True):
        expected = read_volume(before, channels=channels, labels={0, 1, 2})
        found = read_volume(after, channels=channels, labels={0, 1, 2})
        np.testing.assert_array_equal(found.image, expected.image)
        assert found.image.dtype == expected.image.dtype
        np.testing.assert_array_equal(found.label, expected.label)
        np.testing.assert_array_equal(found.affine, expected.affine)
        header = read_header(after, channels=channels)
        assert header.shape == shape
        np.testing.assert_array_equal(header.affine, found.affine)


def test_a_folder_is_read(folder: Path) -> None:
    task = read(folder)
    assert task.labels == ((1, "Front part"), (2, "Back"))
    assert task.channels == ("channel 0", "channel 1")
    assert task.ignored is None
    assert [case.name for case in task.cases] == ["case_0", "case_1", "case_2"]
    assert task.cases[1].images == (image_of(folder, 1), image_of(folder, 1, 1))
    assert task.cases[1].image == image_of(folder, 1)
    assert task.cases[1].label == label_of(folder, 1)
    assert not task.broken


def test_it_is_trained_on_and_inspected(folder: Path, tmp_path: Path) -> None:
    assert trained_on(folder, tmp_path)
    found, same = inspect(folder), inspect(folder.with_name("Task77_Tiny"))
    assert len(found.usable) == 3
    for one, other in zip(found.cases, same.cases, strict=True):
        assert one.image is not None
        assert other.image is not None
        assert (one.name, one.label) == (other.name, other.label)
        assert (one.image.channels, one.image.sha256) == (other.image.channels, other.image.sha256)
        assert not one.problems


def test_channels_of_other_types_keep_their_values(folder: Path) -> None:
    voxels = np.random.default_rng(0).normal(0, 1, (12, 16, 6))
    save(image_of(folder, 0, 1), voxels)
    volume = read_volume(read(folder).cases[0], channels=2, labels={0, 1, 2})
    np.testing.assert_array_equal(volume.image[0], clean_pair(0, (12, 16, 6, 2))[0][..., 0])
    np.testing.assert_array_equal(volume.image[1], voxels)
    (first, *_) = inspect(folder).cases
    assert first.image is not None
    assert first.image.dtype == "int16 float64"


def test_the_label_that_the_format_ignores(folder: Path) -> None:
    edit_json(folder, labels={"background": 0, "part": 1, "ignore": 2})
    task = read(folder)
    assert task.ignored == "ignore"
    assert task.select(None, without=task.value_of("ignore", "")) == ((1, "part"),)
    edit_json(folder.with_name("Task77_Tiny"), labels={"0": "background", "1": "ignore", "2": "x"})
    assert read_task(folder.parent, "Task77_Tiny").ignored is None


def test_files_listed_by_name(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    moved = folder / "elsewhere/t2.nii.gz"
    image_of(folder, 0, 1).rename(moved)
    dataset = {
        "one": {
            "images": ["imagesTr/case_0_0000.nii.gz", "elsewhere/t2.nii.gz"],
            "label": "labelsTr/case_0.nii.gz",
        }
    }
    edit_json(folder, dataset=dataset, numTraining=1)
    (case,) = read(folder).cases
    assert (case.name, case.images) == ("one", (image_of(folder, 0), moved))
    assert not read(folder).broken


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"images": ["imagesTr/case_0_0000.nii.gz"]}, "2 image"),
        ({"images": "imagesTr/case_0_0000.nii.gz"}, "2 image"),
        ({"images": ["../a.nii.gz", "b.nii.gz"]}, "leads out of the task's folder"),
        ({"images": ["imagesTr/case_0_0000.nii.gz", "/etc/a.nii"]}, "leads out"),
        ({"images": ["link.nii.gz", "imagesTr/case_0_0001.nii.gz"]}, "leads out"),
        ({"images": ["loop.nii.gz", "imagesTr/case_0_0001.nii.gz"]}, "cannot be followed"),
        ({"images": ["imagesTr/case_0_0000.nii.gz", "dataset.json"]}, "expected a NIfTI file"),
        ({"images": ["imagesTr/case_0_0000.nii.gz", "no.nii"]}, "no such file, expected channel 1"),
        ({"label": "no.nii"}, "no such file, expected the label map of case odd"),
        ({"label": None}, "found {"),
        ("imagesTr/case_0_0000.nii.gz", "found "),
    ],
)
def test_a_wrong_entry_is_told_and_stops_no_other(folder: Path, entry: object, words: str) -> None:
    (folder / "loop.nii.gz").symlink_to("loop.nii.gz")
    save(folder.parent / "a.nii.gz", clean_pair(0)[0])
    (folder / "link.nii.gz").symlink_to(folder.parent / "a.nii.gz")
    good = {
        "images": ["imagesTr/case_0_0000.nii.gz", "imagesTr/case_0_0001.nii.gz"],
        "label": "labelsTr/case_0.nii.gz",
    }
    odd = {**good, **entry} if isinstance(entry, dict) else entry
    edit_json(folder, dataset={"odd": odd, "good": good}, numTraining=2)
    task = read(folder)
    (broken,) = task.broken
    assert broken.name == "odd"
    assert words in check_refusal(broken.reason)
    assert [case.name for case in task.cases] == ["good"]


@pytest.mark.parametrize("name", ["", ".", "..", "../case", "a/b", "/etc/a"])
def test_a_case_has_a_plain_name(folder: Path, name: str) -> None:
    entry = {
        "images": ["imagesTr/case_0_0000.nii.gz", "imagesTr/case_0_0001.nii.gz"],
        "label": "labelsTr/case_0.nii.gz",
    }
    edit_json(folder, dataset={name: entry}, numTraining=1)
    assert "expected a name without slashes" in check_refusal(read(folder).broken[0].reason)


def rename(before: str, after: str) -> Callable[[Path], object]:
    return lambda folder: (folder / before).rename(folder / after)


def copy(before: str, after: str) -> Callable[[Path], object]:
    return lambda folder: shutil.copy(folder / before, folder / after)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: image_of(folder, 1).unlink(), "case_1_0000.nii.gz: found no such file"),
        (
            lambda folder: image_of(folder, 1, 1).unlink(),
            "found no such file, expected channel 1 (channel 1) of case case_1",
        ),
        (lambda folder: label_of(folder, 1).unlink(), "expected the label map of case case_1"),
        (
            copy("imagesTr/case_1_0000.nii.gz", "imagesTr/case_1_0002.nii.gz"),
            "found channel 0002, expected case_1_0000.nii.gz to case_1_0001.nii.gz",
        ),
        (
            rename("imagesTr/case_1_0001.nii.gz", "imagesTr/case_1.nii.gz"),
            "found a name without a channel's number, expected case_1_0000.nii.gz",
        ),
    ],
)
def test_files_that_do_not_fit_are_told(
    folder: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(folder)
    task = read(folder)
    (broken,) = task.broken
    assert broken.name == "case_1"
    assert words in check_refusal(broken.reason)
    assert [case.name for case in task.cases] == ["case_0", "case_2"]


def test_fewer_cases_than_are_said_are_told(folder: Path) -> None:
    for path in (image_of(folder, 1), image_of(folder, 1, 1), label_of(folder, 1)):
        path.unlink()
    task = read(folder)
    (broken,) = task.broken
    assert broken.name == "numTraining"
    assert "found numTraining 3, expected 2" in check_refusal(broken.reason)
    assert len(task.cases) == 2
    edit_json(folder, numTraining=None)
    assert not read(folder).broken


def test_hidden_and_other_files_are_no_cases(folder: Path) -> None:
    for name in ("imagesTr/._case_0_0000.nii.gz", "imagesTr/notes.txt", "labelsTr/._x.nii.gz"):
        (folder / name).write_bytes(b"")
    assert not read(folder).broken


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file_ending": ".mha"}, "found file_ending .*, expected one of .nii.gz, .nii; convert"),
        ({"file_ending": None}, "found no 'file_ending', expected the keys channel_names"),
        ({"file_ending": ".nii"}, r"found no files \*_0000\.nii in imagesTr"),
        ({"channel_names": None}, "found no 'channel_names'"),
        ({"channel_names": {"1": "CT"}}, "found channel_names .*, expected the numbers 0 to 0"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, 'found "whole" as a region of several'),
        ({"labels": {"part": 1}}, "labels without 0"),
        ({"dataset": {}}, "list the labelled cases, or remove the key"),
        ({"dataset": []}, "list the labelled cases, or remove the key"),
    ],
)
def test_a_folder_that_is_wrong_as_a_whole(
    folder: Path, changes: dict[str, object], said: str
) -> None:
    edit_json(folder, **changes)
    with pytest.raises(InputError, match=said) as caught:
        read(folder)
    assert refusal(caught).startswith(str(folder))


def test_a_folder_without_images(folder: Path) -> None:
    shutil.rmtree(folder / "imagesTr")
    with pytest.raises(InputError, match="imagesTr: found no folder that can be read"):
        read(folder)


def test_a_folder_of_images_elsewhere_is_not_followed(folder: Path) -> None:
    (folder / "imagesTr").rename(folder.parent / "outside")
    (folder / "imagesTr").symlink_to(folder.parent / "outside")
    task = read(folder)
    assert not task.cases
    assert [broken.name for broken in task.broken] == ["case_0", "case_1", "case_2"]
    assert all("leads out of the task's folder" in broken.reason for broken in task.broken)


def test_the_folder_is_found_by_its_name(folder: Path) -> None:
    with pytest.raises(InputError, match=f"nearest: {NNUNET}"):
        read_task(folder.parent, "Dataset077_Tinny")
