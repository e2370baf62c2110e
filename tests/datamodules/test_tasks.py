"""Tests of the table of the ten tasks: against MONAI's, against real folders, and its look-up."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.apps.datasets import DecathlonDataset

from datamodules.dataset_json import read_json
from datamodules.decathlon import read_task
from datamodules.tasks import TASKS, TaskFacts, find_task
from errors import InputError
from tests.places import real_task

FOLDERS = [facts.folder for facts in TASKS]


def test_addresses_and_sums_are_those_of_monai() -> None:
    assert {facts.folder: facts.address for facts in TASKS} == DecathlonDataset.resource
    assert {facts.folder: facts.md5 for facts in TASKS} == DecathlonDataset.md5


def test_the_numbers_add_up_to_what_the_published_files_hold() -> None:
    assert [facts.number for facts in TASKS] == list(range(1, 11))
    assert all(facts.folder.startswith(f"Task{facts.number:02d}_") for facts in TASKS)
    # The paper counts 2,633 volumes: four more of the hippocampus (394) and one more of lungs (96).
    assert sum(facts.training_cases + facts.test_cases for facts in TASKS) == 2633 - 4 - 1


@pytest.mark.parametrize("facts", TASKS, ids=FOLDERS)
def test_a_window_is_there_for_ct_and_only_for_ct(facts: TaskFacts) -> None:
    assert (facts.window_hu is not None) == (facts.modality == "CT")
    if facts.window_hu:
        low, high = facts.window_hu
        assert -1024 <= low < 0
        assert 100 < high < 1000  # soft tissue lies about 40 HU, bone above 300


@pytest.mark.parametrize("facts", TASKS, ids=FOLDERS)
def test_a_task_is_found_by_name_number_and_folder(facts: TaskFacts) -> None:
    names = [facts.name, facts.name.upper(), facts.name.replace("_", "-"), f" {facts.name} "]
    numbers = [str(facts.number), f"{facts.number:02d}"]
    for name in (*names, *numbers, facts.folder, facts.folder.lower()):
        assert find_task(name) is facts


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("hipocampus", "hippocampus"),
        ("Task04_Hippocamp", "hippocampus"),
        ("brain tumor", "brain_tumour"),
        ("spleens", "spleen"),
        ("hepatic vessels", "hepatic_vessel"),
    ],
)
def test_an_unknown_name_answers_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(InputError) as caught:
        find_task(name)
    assert f"(nearest: {nearest}" in str(caught.value)


@pytest.mark.parametrize("name", ["", "0", "11", "004", "Task00_Phantom", "²", "4.0"])
def test_a_name_like_none_answers_with_all(name: str) -> None:
    with pytest.raises(InputError) as caught:
        find_task(name)
    assert repr(name) in str(caught.value)
    assert all(facts.name in str(caught.value) for facts in TASKS)


def plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


@pytest.mark.real
@pytest.mark.parametrize("facts", TASKS, ids=FOLDERS)
def test_the_table_holds_for_a_real_folder(facts: TaskFacts, real_data: Path) -> None:
    real_task(real_data, facts.folder)
    task = read_task(real_data, facts.folder)
    assert [plain(name) for name in task.channels] == [plain(name) for name in facts.channels]
    assert [value for value, _ in task.labels] == list(range(1, len(facts.labels) + 1))
    assert [plain(name) for _, name in task.labels] == [plain(name) for name in facts.labels]
    assert 0 < len(task.cases) <= facts.training_cases
    content = read_json(task.folder / "dataset.json")
    tests = content.get("test", [])
    assert isinstance(tests, list)
    assert len(tests) <= facts.test_cases
    for right, published in facts.misspelt:
        assert (right in content) != (published in content)


@pytest.mark.real
@pytest.mark.parametrize(
    "facts", [facts for facts in TASKS if facts.window_hu], ids=lambda facts: facts.folder
)
def test_a_window_holds_nearly_all_of_the_real_foreground(
    facts: TaskFacts, real_data: Path
) -> None:
    real_task(real_data, facts.folder)
    assert facts.window_hu is not None
    case = read_task(real_data, facts.folder).cases[0]
    image, label = (
        np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
        for path in (case.image, case.label)
    )
    low, high = facts.window_hu
    inside = (image[label > 0] >= low) & (image[label > 0] <= high)
    assert inside.mean() > 0.95
    assert ((image < low) | (image > high)).mean() > 0.05  # and leaves out air or bone
