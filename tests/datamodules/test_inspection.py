"""A task is inspected whole: each kind of problem is found in its case, in it alone, and told."""

import gzip
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datamodules.datamodule import DecathlonDataModule
from datamodules.inspection_table import summary_rows
from tests.datamodules.inspected import (
    AFFINE,
    clean_pair,
    clean_task,
    image_of,
    inspect,
    kinds,
    label_of,
    save,
    trained_on,
)
from tests.datamodules.nnunet_raw import as_nnunet
from tests.datamodules.tiny import edit_json

RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
SPOILED = 2  # the case that is spoiled


def test_a_clean_task_has_no_problems(tmp_path: Path) -> None:
    found = inspect(clean_task(tmp_path))
    assert [case.name for case in found.cases] == [f"case_{index}" for index in range(6)]
    assert not [problem for case in found.cases for problem in case.problems]
    assert found.usable == found.cases
    assert found.size == (16, 16)
    assert [name for _, name in found.labels] == ["Front part", "Back"]
    assert found.channels == ("channel 0",)


def spoil_label(change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        label = clean_pair(SPOILED)[1].astype(np.float32)
        changed = change(label)
        save(label_of(folder, SPOILED), label if changed is None else changed)

    return spoil


def spoil_image(change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        image = clean_pair(SPOILED)[0].astype(np.float32)
        changed = change(image)
        save(image_of(folder, SPOILED), image if changed is None else changed)

    return spoil


def put(at: object, value: float) -> Callable[[np.ndarray], None]:
    def change(voxels: np.ndarray) -> None:
        voxels[at] = value  # type: ignore[call-overload]

    return change


def affines(image: np.ndarray, label: np.ndarray) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        voxels = clean_pair(SPOILED)
        save(image_of(folder, SPOILED), voxels[0], image)
        save(label_of(folder, SPOILED), voxels[1], label)

    return spoil


def set_rows(*numbers: float) -> Callable[[Path], None]:
    """Sets the affine of both files, which nibabel itself would not write."""

    def spoil(folder: Path) -> None:
        for path in (image_of(folder, SPOILED), label_of(folder, SPOILED)):
            content = bytearray(gzip.decompress(path.read_bytes()))
            content[ROWS] = struct.pack("<12f", *numbers)
            path.write_bytes(gzip.compress(bytes(content)))

    return spoil


def one_bright_voxel(image: np.ndarray) -> None:
    image[...] = np.where(image < 500, 400, 401)
    image[0, 0, 0], image[0, 0, 1] = 0, 1000


def turned(degrees: float) -> np.ndarray:
    turn = np.radians(degrees)
    affine = AFFINE.copy()
    rotation = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    affine[:3, :3] = rotation @ AFFINE[:3, :3]
    return affine


def shifted(millimetres: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[1, 3] += millimetres
    return affine


MIRRORED = AFFINE * [[-1], [1], [1], [1]]
ROWS = slice(280, 328)  # bytes of a header that hold the affine
MIDDLE = (slice(4, 6), slice(5, 7), 3)
BLOCKING = {
    "label not in dataset.json": (spoil_label(put(MIDDLE, 7)), r"labels 7 \(4 voxels\)"),
    "label not in dataset.json ": (spoil_label(put(MIDDLE, -1)), r"labels -1 \(4 voxels\)"),
    "labels that are no whole numbers": (
        spoil_label(put(MIDDLE, 1.5)),
        "4 voxels of the label map are no whole number",
    ),
    "labels that are no whole numbers ": (
        spoil_label(put(MIDDLE, np.nan)),
        "4 voxels of the label map are no whole number",
    ),
    "image and label differ in shape": (
        spoil_label(lambda label: label[:, :-1]),
        r"label map has shape \(12, 15, 6\), image \(12, 16, 6\)",
    ),
    "image and label differ in shape ": (
        spoil_label(lambda label: np.stack([label, label], -1)),
        r"label map has shape \(12, 16, 6, 2\), image \(12, 16, 6\)",
    ),
    "image and label differ in affine ": (
        affines(AFFINE, shifted(0.5)),
        r"a corner of the volume 0\.5 mm apart, which is 0\.6[23] of the shortest edge",
    ),
    "image and label differ in affine  ": (
        affines(AFFINE, turned(3)),
        r"a corner of the volume 1\.\d+ mm apart",
    ),
    "NaN or infinite voxels": (spoil_image(put(MIDDLE, np.nan)), "4 voxels are NaN or infinite"),
    "NaN or infinite voxels ": (spoil_image(put(..., np.inf)), "1152 voxels are NaN or infinite"),
    "constant image": (spoil_image(put(..., 7)), "all voxels are 7"),
    "wrong number of axes or channels": (
        spoil_image(lambda image: np.stack([image, image], -1)),
        r"image has shape \(12, 16, 6, 2\), expected \(X, Y, Z\)",
    ),
    "wrong number of axes or channels ": (
        spoil_image(lambda image: image[..., None, None]),
        r"image has shape \(12, 16, 6, 1, 1\), expected \(X, Y, Z\)",
    ),
    "no voxels, or no real numbers": (
        spoil_image(lambda image: image.astype(np.complex64)),
        r"image of shape \(12, 16, 6\) holds complex64, expected real numbers",
    ),
    "no voxels, or no real numbers ": (
        spoil_image(lambda image: image.astype(np.uint8).astype(RGB)),
        r"image of shape \(12, 16, 6\) holds RGB, expected real numbers",
    ),
}
SUSPICIOUS = {
    "label missing that others have": (
        spoil_label(lambda label: np.where(label == 2, 1, label)),
        r"no voxel of label 2 \(Back\), which 5 cases have",
    ),
    "empty label": (spoil_label(put(..., 0)), "no voxel of the label map is foreground"),
    "nearly constant image": (
        spoil_image(one_bright_voxel),
        r"98 % of the voxels lie within 0\.10% of the range 0 to 1000",
    ),
    "intensities far from the others": (
        spoil_image(lambda image: 300 * image),
        r"maximum - minimum 29\d{4}, median of all cases 99\d.*z-score of its log10 \d.*limit 3\.5",
    ),
    "image and label differ in affine": (
        affines(AFFINE, shifted(0.3)),
        r"a corner of the volume 0\.3 mm apart, which is 0\.3[78] of the shortest edge",
    ),
    "foreground touches the border": (
        spoil_label(put((0, 15, 5), 1)),
        "foreground at the start of axis 1, end of axis 2, end of axis 3",
    ),
    "left-handed affine": (affines(MIRRORED, MIRRORED), "axes point to LAS"),
    "rotated affine": (affines(turned(20), turned(20)), "20.0 degrees off"),
    "no usable affine": (
        set_rows(0.8, 0, 0, 0, 0, 1.2, 0, 0, 0, 0, 0, 0),
        "not finite, or flattens the volume",
    ),
    "no usable affine ": (set_rows(*[np.nan] * 12), "not finite, or flattens the volume"),
}


def name_of(kind: str) -> str:
    """The kinds of which there are several cases have spaces at the end."""
    return kind.strip()


@pytest.mark.parametrize("kind", [*BLOCKING, *SUSPICIOUS])
def test_each_kind_is_found_in_its_case_alone(tmp_path: Path, kind: str) -> None:
    folder = clean_task(tmp_path)
    spoil, words = BLOCKING.get(kind) or SUSPICIOUS[kind]
    spoil(folder)
    found = inspect(folder)
    assert kinds(found.cases[SPOILED]) == {name_of(kind)}
    (problem,) = found.cases[SPOILED].problems
    assert re.search(words, problem.reason)
    assert not [case.name for case in found.cases if case.problems and case.name != "case_2"]
    assert found.cases[SPOILED].usable == (kind in SUSPICIOUS)
    # The inspection says the same as training does.
    assert trained_on(folder, tmp_path) == (kind in SUSPICIOUS)


def test_two_spoiled_cases_are_both_told(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    image_of(folder, 0).write_bytes(b"")
    label_of(folder, 4).unlink()
    found = inspect(folder, workers=2)
    assert [case.name for case in found.cases if not case.usable] == ["case_0", "case_4"]
    # What can be read of a broken pair is measured all the same.
    assert found.cases[0].label is not None
    assert found.cases[4].problems[0].reason.startswith(f"{label_of(folder, 4)}: found no such")


def test_cases_that_share_an_image_are_told(tmp_path: Path) -> None:
    """Whatever the type of the numbers and the label map: the voxels are the same."""
    folder = clean_task(tmp_path)
    save(image_of(folder, 5), clean_pair(1)[0].astype(np.float64))
    found = inspect(folder)
    for index, other in ((1, "case_5"), (5, "case_1")):
        (problem,) = found.cases[index].problems
        assert problem.kind == "identical images"
        assert problem.reason.startswith(f"the same image as {other}:")
    assert len(found.usable) == 6


def test_a_case_under_two_names_is_told_as_such(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    for index in (4, 5):
        save(image_of(folder, index), clean_pair(1)[0])
    save(label_of(folder, 5), clean_pair(1)[1].astype(np.int64))
    label = clean_pair(1)[1]
    label[5, 5, 2] = 2
    save(label_of(folder, 4), label)
    found = {case.name: case.problems for case in inspect(folder).cases if case.problems}
    said = {name: [problem.kind for problem in problems] for name, problems in found.items()}
    both = ["identical images and label maps", "identical images"]
    assert said == {"case_1": both, "case_4": ["identical images"], "case_5": both}
    assert found["case_5"][0].reason.startswith("the same image and label map as case_1:")
    assert found["case_5"][1].reason.startswith("the same image as case_4:")
    assert found["case_4"][0].reason.startswith("the same image as case_1, case_5:")


def test_the_hash_is_that_of_the_slice_store(tmp_path: Path) -> None:
    folder = clean_task(tmp_path, channels=2)
    module = DecathlonDataModule(
        root=str(tmp_path), task=folder.name, cache_dir=str(tmp_path / "cache")
    )
    stored = {name: record.image_sha256 for name, record in module.store.records.items()}
    found = {case.name: case.image.sha256 for case in inspect(folder).cases if case.image}
    assert found == stored


def test_a_shape_and_a_spacing_far_from_the_others_are_told(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    image, label = clean_pair(SPOILED, (12, 64, 6))
    affine = AFFINE * [1, 1, 4, 1]
    save(image_of(folder, SPOILED), image, affine)
    save(label_of(folder, SPOILED), label, affine)
    found = inspect(folder).cases[SPOILED]
    assert kinds(found) == {"shape far from the others", "spacing far from the others"}
    reasons = " ".join(problem.reason for problem in found.problems)
    assert "length of axis 2 64 voxels, median of all cases 16:" in reasons
    assert "spacing along axis 3 10 mm, median of all cases 2.5:" in reasons


def test_numbers_of_workers_change_nothing(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    image_of(folder, 3).write_bytes(b"")
    one, three = inspect(folder, workers=1), inspect(folder, workers=3)
    assert [case.problems for case in one.cases] == [case.problems for case in three.cases]
    assert [case.label for case in one.cases] == [case.label for case in three.cases]


def test_the_source_is_left_as_it_is(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    inspect(folder, pictures=3)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert os.listdir(tmp_path) == [folder.name]  # noqa: PTH208


def test_a_label_map_with_a_trailing_axis_is_one_without(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    before = inspect(folder, pictures=3)
    label = clean_pair(SPOILED)[1]
    save(label_of(folder, SPOILED), label[..., np.newaxis])
    after = inspect(folder, pictures=3)
    assert [case.problems for case in after.cases] == [()] * 6
    assert after.cases[SPOILED].label == before.cases[SPOILED].label
    one, other = before.cases[SPOILED].picture, after.cases[SPOILED].picture
    assert one is not None
    assert other is not None
    assert one.slice_index == other.slice_index
    np.testing.assert_array_equal(one.marks, other.marks)
    assert trained_on(folder, tmp_path)


def test_a_label_that_is_ignored_is_no_foreground(tmp_path: Path) -> None:
    folder = as_nnunet(clean_task(tmp_path))
    edit_json(folder, labels={"background": 0, "front": 1, "back": 2, "ignore": 3})
    label = clean_pair(1)[1]
    counted = inspect(folder)
    label[0], label[..., -1], label[5, 5, 2] = 3, 3, 3
    save(folder / "labelsTr/case_1.nii.gz", label)
    save(folder / "labelsTr/case_4.nii.gz", np.full_like(label, 3))
    found = inspect(folder, pictures=6)
    assert found.ignored == 3
    facts = found.cases[1].label
    assert facts is not None
    marked = (label == 1) | (label == 2)
    assert facts.frame_areas == tuple(marked.sum(axis=(0, 1)))
    assert facts.voxels[3] == (label == 3).sum()
    assert facts.touched == ()
    assert {case.name: kinds(case) for case in found.cases if case.problems} == {
        "case_4": {"empty label"}
    }
    assert found.cases[0].label == counted.cases[0].label
    rows = dict(summary_rows(found))
    assert rows["label 3"] == "ignore: in 2 of 6 label maps, counts as no foreground"
    assert rows["foreground"].startswith("0.00% to ")
    picture = found.cases[1].picture
    assert picture is not None
    assert picture.slice_index == int(np.argmax(marked.sum(axis=(0, 1))))
