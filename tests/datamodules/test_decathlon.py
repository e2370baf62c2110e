"""Tests of reading a task's folder."""

import json
from pathlib import Path

import pytest

from datamodules.decathlon import read_task
from datamodules.task import BrokenCase
from errors import InputError
from tests.datamodules.tiny import (
    NAME,
    check_refusal,
    edit_json,
    refusal,
    volume,
    write_nifti,
    write_task,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_task(tmp_path, cases=3)


def only_broken(folder: Path) -> BrokenCase:
    """The one case that is listed wrongly; all others of the task are there."""
    (broken,) = read_task(folder.parent, NAME).broken
    check_refusal(broken.reason)
    return broken


def test_a_task_is_read(folder: Path) -> None:
    task = read_task(folder.parent, NAME)
    assert task.labels == ((1, "Anterior"), (2, "Posterior"))
    assert task.channels == ("MRI",)
    assert [case.name for case in task.cases] == ["tiny_00", "tiny_01", "tiny_02"]
    assert task.cases[1].image == folder / "imagesTr/tiny_01.nii.gz"
    assert task.cases[1].label == folder / "labelsTr/tiny_01.nii.gz"


def test_cases_come_by_name_whatever_their_order(folder: Path) -> None:
    pairs = json.loads((folder / "dataset.json").read_text())["training"]
    edit_json(folder, training=pairs[::-1])
    assert [case.name for case in read_task(folder.parent, NAME).cases] == [
        "tiny_00",
        "tiny_01",
        "tiny_02",
    ]


@pytest.mark.real
def test_real_tasks_are_read(real_data: Path) -> None:
    hippocampus = read_task(real_data, "Task04_Hippocampus")
    assert len(hippocampus.cases) == 200
    assert hippocampus.labels == ((1, "Anterior"), (2, "Posterior"))
    assert read_task(real_data, "Task02_Heart").labels == ((1, "left atrium"),)
    brain = read_task(real_data, "Task01_BrainTumour")
    assert brain.channels == ("FLAIR", "T1w", "t1gd", "T2w")
    assert len(brain.labels) == 3
    assert read_task(real_data, "Task09_Spleen").channels == ("CT",)


def test_labels_are_selected_by_name_in_any_case(folder: Path) -> None:
    task = read_task(folder.parent, NAME)
    assert task.select(None) == task.labels
    assert task.select(["posterior"]) == ((2, "Posterior"),)
    assert task.select(["Posterior", "Anterior"]) == task.labels


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["Anteriour"], "unknown label 'Anteriour' (nearest: Anterior"),
        ([], "no label"),
        (["Anterior", "anterior"], "Anterior twice"),
        (["background"], "unknown label"),
    ],
)
def test_wrong_selections(folder: Path, labels: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_task(folder.parent, NAME).select(labels)
    assert said in refusal(caught)
    assert refusal(caught).startswith("--data.labels")


def test_a_label_to_ignore_is_left_out_and_cannot_be_segmented(folder: Path) -> None:
    task = read_task(folder.parent, NAME)
    assert task.value_of("ANTERIOR", "--data.ignore_label") == 1
    assert task.select(None, without=1) == ((2, "Posterior"),)
    with pytest.raises(InputError, match=r"--data\.ignore_label as well"):
        task.select(["Anterior", "Posterior"], without=1)
    with pytest.raises(InputError, match=r"--data\.ignore_label: found unknown label 'edge'"):
        task.value_of("edge", "--data.ignore_label")


def test_an_unknown_task(folder: Path) -> None:
    write_task(folder.parent, cases=1, name="Task04_Hippocampus")
    with pytest.raises(InputError) as caught:
        read_task(folder.parent, "Task04_Hipocampus")
    message = refusal(caught)
    assert "nearest: Task04_Hippocampus" in message
    assert NAME in message


@pytest.mark.parametrize("task", ["", "..", ".", "a/b", "/etc"])
def test_a_task_is_a_name_and_no_path(folder: Path, task: str) -> None:
    with pytest.raises(InputError) as caught:
        read_task(folder.parent, task)
    assert refusal(caught).startswith("--data.task")


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    missing, empty, task, file = (tmp_path / name for name in ("no", "empty", "root", "file"))
    empty.mkdir()
    (task / NAME).mkdir(parents=True)
    file.write_text("")
    for root, said in (
        (missing, "found no such folder"),
        (empty, "found an empty folder"),
        (file, "found a file"),
        (task, "found an empty folder, expected dataset.json, imagesTr and labelsTr"),
    ):
        with pytest.raises(InputError) as caught:
            read_task(root, NAME)
        assert said in refusal(caught)
        assert str(root) in refusal(caught)


def test_a_root_that_is_a_task_itself(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_task(folder, "Task04_Hippocampus")
    assert f"set --data.root {folder.parent} --data.task {NAME}" in refusal(caught)


def test_a_listed_case_that_is_absent(folder: Path) -> None:
    (folder / "labelsTr/tiny_01.nii.gz").unlink()
    broken = only_broken(folder)
    assert broken.name == "tiny_01"
    assert broken.reason.startswith(f"{folder / 'labelsTr/tiny_01.nii.gz'}: found no such file")
    assert "training[1]" in broken.reason
    names = [case.name for case in read_task(folder.parent, NAME).cases]
    assert names == ["tiny_00", "tiny_02"]


def test_of_a_case_twice_the_first_is_kept(folder: Path) -> None:
    write_nifti(folder / "imagesTr/tiny_00.nii", volume(0)[0])
    pairs = json.loads((folder / "dataset.json").read_text())["training"]
    other = {"image": "imagesTr/tiny_00.nii", "label": "labelsTr/tiny_00.nii.gz"}
    before = read_task(folder.parent, NAME).cases
    for again in (pairs[0], other):
        edit_json(folder, training=[*pairs, again])
        broken = only_broken(folder)
        assert broken.name == "tiny_00"
        assert "training[3]: found case 'tiny_00' a second time" in broken.reason
        assert read_task(folder.parent, NAME).cases == before


@pytest.mark.parametrize("training", [[], {}, "x"])
def test_a_task_without_a_list_of_cases(folder: Path, training: object) -> None:
    edit_json(folder, training=training)
    with pytest.raises(InputError) as caught:
        read_task(folder.parent, NAME)
    assert "training" in refusal(caught)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("imagesTr/tiny_00.nii.gz", "training[3]"),
        ({"image": "imagesTr/tiny_00.nii.gz"}, "training[3]"),
        ({"image": "imagesTr/tiny_00.nii.gz", "label": 3}, "training[3]"),
        ({"image": "dataset.json", "label": "labelsTr/tiny_00.nii.gz"}, "training[3]"),
        ({"image": "imagesTr", "label": "labelsTr/tiny_00.nii.gz"}, "training[3]"),
        ({"image": "", "label": "labelsTr/tiny_00.nii.gz"}, "training[3]"),
        (None, "training[3]"),
        ({"image": "folder.nii", "label": "labelsTr/tiny_00.nii.gz"}, "folder"),
    ],
)
def test_a_wrong_entry_is_told_and_stops_no_other(folder: Path, entry: object, name: str) -> None:
    (folder / "folder.nii").mkdir()
    before = read_task(folder.parent, NAME).cases
    pairs = json.loads((folder / "dataset.json").read_text())["training"]
    edit_json(folder, training=[*pairs, entry])
    broken = only_broken(folder)
    assert broken.name == name
    assert "training[3]" in broken.reason
    assert read_task(folder.parent, NAME).cases == before


@pytest.mark.parametrize(
    "path",
    [
        "../secret.nii.gz",
        "imagesTr/../../secret.nii.gz",
        "imagesTr/../imagesTr/tiny_00.nii.gz",
        "{outside}/secret.nii.gz",
        "imagesTr/link.nii.gz",
        "linked/secret.nii.gz",
    ],
)
@pytest.mark.parametrize("part", ["image", "label"])
def test_paths_that_lead_out_are_not_followed(folder: Path, path: str, part: str) -> None:
    outside = folder.parent
    write_nifti(outside / "secret.nii.gz", volume(0)[0])
    (folder / "imagesTr/link.nii.gz").symlink_to(outside / "secret.nii.gz")
    (folder / "linked").symlink_to(outside)
    pair = {"image": "imagesTr/tiny_00.nii.gz", "label": "labelsTr/tiny_00.nii.gz"}
    edit_json(folder, training=[{**pair, part: path.format(outside=outside)}])
    assert "leads out of the task's folder" in only_broken(folder).reason
    assert not read_task(folder.parent, NAME).cases


@pytest.mark.parametrize(
    "path", ["a\0b.nii.gz", "x" * 5000 + ".nii.gz", "loop/a.nii.gz", "loop.nii.gz", "\ud800.nii"]
)
def test_paths_that_cannot_be_followed(folder: Path, path: str) -> None:
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "loop.nii.gz").symlink_to("other.nii.gz")
    (folder / "other.nii.gz").symlink_to("loop.nii.gz")
    edit_json(folder, training=[{"image": path, "label": "labelsTr/tiny_00.nii.gz"}])
    assert str(folder) in only_broken(folder).reason


def test_links_inside_the_folder_are_followed(folder: Path) -> None:
    (folder / "imagesTr/linked.nii.gz").symlink_to(folder / "imagesTr/tiny_00.nii.gz")
    pair = {"image": "imagesTr/linked.nii.gz", "label": "labelsTr/tiny_00.nii.gz"}
    edit_json(folder, training=[pair])
    assert [case.name for case in read_task(folder.parent, NAME).cases] == ["linked"]


def test_json_that_is_no_utf_8(folder: Path) -> None:
    source = folder / "dataset.json"
    source.write_bytes(source.read_bytes().replace(b"Anterior", "Südteil".encode("latin-1")))
    with pytest.raises(InputError, match=r"found broken JSON .* expected a JSON object in UTF-8"):
        read_task(folder.parent, NAME)
