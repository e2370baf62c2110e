"""Options to train with: which task a folder holds, its window, its size and its split."""

from pathlib import Path

import numpy as np
import pytest

from datamodules.inspection_advice import (
    known_task,
    orientation_options,
    size_options,
    split_options,
    window_options,
)
from tests.datamodules.inspected import (
    AFFINE,
    clean_pair,
    clean_task,
    image_of,
    inspect,
    label_of,
    save,
)
from tests.datamodules.test_inspection import set_rows
from tests.datamodules.tiny import edit_json


@pytest.mark.parametrize(
    ("folder", "channels", "name"),
    [
        ("Task04_Hippocampus", 1, "hippocampus"),
        ("Dataset004_Hippocampus", 1, "hippocampus"),
        ("Task01_BrainTumour", 4, "brain_tumour"),
        ("Task10_Colon", 1, "colon"),
        ("Dataset010_Colon", 1, "colon"),
        ("Task01_BrainTumour", 1, None),
        ("Task04_Hippocampus", 2, None),
        ("Dataset504_Hippocampus", 1, None),
        ("Task09_Hippocampus", 1, None),
        ("Hippocampus", 1, None),
    ],
)
def test_a_known_task_has_its_number_name_and_channels(
    tmp_path: Path, folder: str, channels: int, name: str | None
) -> None:
    made = clean_task(tmp_path, cases=1, channels=channels)
    found = known_task(inspect(made.rename(made.with_name(folder))))
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("channels", "low", "is_windowed"),
    [
        (("CT",), 0, True),
        (("ct ",), 0, True),
        (("scan",), -1024, True),
        (("scan",), 0, False),
        (("CT", "CT"), 0, True),
        (("CT", "PET"), -1024, False),
    ],
)
def test_a_window_is_for_ct(
    tmp_path: Path, channels: tuple[str, ...], low: int, is_windowed: bool
) -> None:
    folder = clean_task(tmp_path, cases=2, channels=len(channels))
    edit_json(folder, modality={str(index): name for index, name in enumerate(channels)})
    for index in range(2):
        shape = (12, 16, 6) if len(channels) == 1 else (12, 16, 6, len(channels))
        save(image_of(folder, index), (clean_pair(index, shape)[0] + low).astype(np.int16))
    expected = ["--data.window", "[-160,240]"] if is_windowed else []
    assert window_options(inspect(folder)) == expected


@pytest.mark.parametrize(
    ("configured", "options"),
    [
        (None, ["--data.size", "[16,72]"]),
        ((64, 64), ["--data.size", "[16,72]"]),
        ((8, 512), ["--data.size", "[16,72]"]),
        ((16, 72), []),
        ((64, 72), []),
        ((72, 72), ["--data.size", "[16,72]"]),
    ],
)
def test_a_size_is_given_where_the_configured_one_holds_not_all(
    tmp_path: Path, configured: tuple[int, int] | None, options: list[str]
) -> None:
    folder = clean_task(tmp_path, cases=1)
    image, label = clean_pair(0, (12, 72, 6))
    save(image_of(folder, 0), image)
    save(label_of(folder, 0), label)
    assert size_options(inspect(folder), configured) == options


def test_different_images_are_counted_and_not_cases(tmp_path: Path) -> None:
    folder = clean_task(tmp_path, cases=5)
    assert split_options(inspect(folder)) == ([], [])
    save(image_of(folder, 4), clean_pair(0)[0])
    options, (note,) = split_options(inspect(folder))
    assert options == ["--data.split", "overlap"]
    assert note.startswith("4 different images can be used, fewer than the 5")


def test_axes_that_differ_are_turned_alike(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    assert orientation_options(inspect(folder)) == ([], [])
    image, label = clean_pair(1)
    save(image_of(folder, 1), image, AFFINE[:, [1, 0, 2, 3]])
    save(label_of(folder, 1), label, AFFINE[:, [1, 0, 2, 3]])
    options, (note,) = orientation_options(inspect(folder))
    assert options == ["--data.orientation", "canonical"]
    assert note.startswith("Axes point to different sides (RAS in 5, ARS in 1): --data.orientation")
    # One that cannot be turned would stop the training.
    set_rows(*[np.nan] * 12)(folder)
    found = inspect(folder)
    assert len(found.usable) == 6
    options, (note,) = orientation_options(found)
    assert options == []
    assert "(RAS in 4, ARS in 1, ??? in 1)" in note
    # One that is not used anyway has no say.
    label_of(folder, 1).unlink()
    label_of(folder, 2).unlink()
    assert orientation_options(inspect(folder)) == ([], [])
