"""Entries of dataset.json that are wrong are told, and the others are inspected."""

import json
from pathlib import Path

import pytest

from errors import InputError
from tests.datamodules.inspected import (
    clean_task,
    image_of,
    inspect,
    label_of,
    trained_on,
)
from tests.datamodules.tiny import edit_json


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"image": "./imagesTr/case_0.nii.gz"}, "expected"),
        ("imagesTr/case_0.nii.gz", "expected"),
        ({"image": "../secret.nii.gz", "label": "./labelsTr/case_0.nii.gz"}, "leads out"),
        ({"image": "/etc/passwd", "label": "./labelsTr/case_0.nii.gz"}, "leads out"),
        ({"image": "a\0.nii.gz", "label": "./labelsTr/case_0.nii.gz"}, "cannot be followed"),
        ({"image": "dataset.json", "label": "./labelsTr/case_0.nii.gz"}, "expected a NIfTI file"),
        (
            {"image": "./imagesTr/case_0.nii.gz", "label": "./labelsTr/case_1.nii.gz"},
            "lists case_0 again",
        ),
    ],
)
def test_a_wrong_entry_is_told_and_stops_nothing(tmp_path: Path, entry: object, words: str) -> None:
    folder = clean_task(tmp_path)
    (tmp_path / "secret.nii.gz").write_bytes(image_of(folder, 0).read_bytes())
    training = json.loads((folder / "dataset.json").read_text())["training"]
    edit_json(folder, training=[*training, entry])
    found = inspect(folder)
    (wrong,) = [case for case in found.cases if not case.usable]
    assert words in wrong.problems[0].reason
    assert wrong.image is None
    assert len(found.usable) == 6
    assert not trained_on(folder, tmp_path)


@pytest.mark.parametrize(
    "changes", [{"labels": None}, {"modality": {}}, {"training": []}, {"training": "all"}]
)
def test_a_task_without_cases_labels_or_channels_is_refused(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    folder = clean_task(tmp_path)
    edit_json(folder, **changes)
    with pytest.raises(InputError, match=r"dataset\.json"):
        inspect(folder)


def test_no_folder_is_followed_out_of_the_root(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    label_of(folder, 0).unlink()
    (tmp_path / "inner").mkdir()
    with pytest.raises(InputError, match="plain name"):
        inspect(tmp_path / "inner" / ".." / folder.name / "..")
