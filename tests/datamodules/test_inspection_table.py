"""The table of cases as CSV and in the terminal, its summary, and the list of what is wrong."""

import csv
import io
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from datamodules.inspection_table import (
    HEADERS,
    csv_text,
    problem_lines,
    summary_rows,
    table_rows,
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
from tests.datamodules.tiny import edit_json

LEFT_HANDED = AFFINE * [[-1], [1], [1], [1]]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_csv_holds_the_numbers_of_the_files(tmp_path: Path, channels: int) -> None:
    folder = clean_task(tmp_path, channels=channels)
    rows = rows_of(csv_text(inspect(folder)))
    assert len(rows) == 6
    for index, row in enumerate(rows):
        image = np.asarray(nibabel.load(image_of(folder, index)).dataobj)  # type: ignore[attr-defined]
        label = np.asarray(nibabel.load(label_of(folder, index)).dataobj)  # type: ignore[attr-defined]
        assert row["case"] == f"case_{index}"
        assert (row["usable"], row["found"]) == ("yes", "")
        assert row["shape"] == " x ".join(map(str, image.shape))
        assert row["spacing_mm"] == "0.8 x 1.2 x 2.5"
        assert row["orientation"] == "RAS"
        assert (row["image_dtype"], row["label_dtype"]) == ("int16", "uint8")
        for channel in range(channels):
            values = image if channels == 1 else image[..., channel]
            suffix = "" if channels == 1 else f"_{channel}"
            for name, share in (("minimum", 0), ("p1", 1), ("median", 50), ("p99", 99)):
                assert float(row[name + suffix]) == np.percentile(values, share)
            assert float(row[f"maximum{suffix}"]) == values.max()
        assert row["labels"] == "0 1 2"
        for value, name in ((1, "front_part"), (2, "back")):
            count = int((label == value).sum())
            assert float(row[f"ml_{name}"]) == pytest.approx(count * 0.8 * 1.2 * 2.5 / 1000)
            assert float(row[f"share_{name}"]) == pytest.approx(count / label.size)
        assert int(row["slices"]) == 6
        assert int(row["foreground_slices"]) == label.any(axis=(0, 1)).sum() == 3
        assert float(row["foreground_share"]) == pytest.approx((label > 0).mean())
        assert len(row["image_sha256"]) == 16
    assert len({row["image_sha256"] for row in rows}) == 6


def test_a_case_that_cannot_be_read_is_a_row_with_the_reason(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    image_of(folder, 1).write_bytes(b"")
    label_of(folder, 1).write_bytes(b"")
    found = inspect(folder)
    row = rows_of(csv_text(found))[1]
    assert {row.pop("case"), row.pop("usable")} == {"case_1", "no"}
    reasons = row.pop("found")
    assert reasons.count("cannot be read: ") == 2
    assert "case_1.nii.gz" in reasons
    assert set(row.values()) == {""}
    assert len(table_rows(found, None)[1]) == len(HEADERS)
    assert table_rows(found, None)[1][-1] == "cannot be read"


def test_names_are_no_formulas_and_no_controls(tmp_path: Path) -> None:
    folder = clean_task(tmp_path, cases=2)
    training = []
    for index, name in enumerate(("=1+1\n\x1b[31m", "@SUM")):
        image_of(folder, index).rename(folder / "imagesTr" / f"{name}.nii.gz")
        label = f"labelsTr/case_{index}.nii.gz"
        training.append({"image": f"imagesTr/{name}.nii.gz", "label": label})
    training.append({"image": "\ud800.nii.gz", "label": "=A1"})
    labels = {"0": "background", "1": "=a\x07", "2": "b"}
    edit_json(folder, training=training, labels=labels)
    found = inspect(folder)
    text = csv_text(found)
    text.encode()
    assert [row["case"] for row in rows_of(text)] == [
        r"'=1+1\n\x1b[31m",
        "'@SUM",
        r"\ud800",
    ]
    shown = json.dumps(
        [
            table_rows(found, None),
            summary_rows(found),
            problem_lines(found, blocks=True, most=None),
        ]
    )
    assert "\\n\\u001b" not in shown
    assert "\\u0007" not in shown
    assert "\\ud800.nii" not in shown.replace("\\\\ud800", "")
    assert "\x1b" not in text
    assert "\x07" not in text


def test_the_first_rows_are_shown_or_all(tmp_path: Path) -> None:
    found = inspect(clean_task(tmp_path))
    assert len(table_rows(found, None)) == 6
    first = table_rows(found, 2)
    assert [row[0] for row in first] == ["case_0", "case_1"]
    cells = dict(zip(HEADERS, first[0], strict=True))
    label = clean_pair(0)[1]
    shares = [f"{(label == value).mean():.2%}" for value in (1, 2)]
    lines = cells["labels: ml, share"].splitlines()
    assert lines[0].startswith("Front part 0.0768 ml, ")
    assert [line.rpartition(" ")[2] for line in lines] == shares
    assert cells["slices"] == "3 of 6"
    assert cells["types"] == "int16 / uint8"


def test_the_summary_tells_of_the_whole_task(tmp_path: Path) -> None:
    folder = clean_task(tmp_path, cases=7)
    image, label = clean_pair(0, (20, 17, 8))
    mirrored = AFFINE * [[-1], [1], [1], [1]] * [1.5, 1, 1, 1]
    label[label == 2] = 0
    save(image_of(folder, 0), image, mirrored)
    save(label_of(folder, 0), label, mirrored)
    image_of(folder, 6).write_bytes(b"")
    found = inspect(folder)
    rows = dict(summary_rows(found))
    assert rows["cases"] == "7: 6 can be used for training, 1 of them with remarks"
    assert rows["label 1"] == "Front part: in 7 of 7 label maps"
    assert rows["label 2"] == "Back: in 6 of 7 label maps"
    assert rows["shapes"] == "12-20 x 16-17 x 6-8"
    assert rows["spacings"] == "0.8-1.2 x 1.2 x 2.5 mm"
    assert rows["axes"] == "RAS in 5, LAS in 1"
    assert rows["slices"] == f"44, {(6 * 3 + 6) / 44:.0%} of them without foreground"
    maps = [label, *(clean_pair(index)[1] for index in range(1, 7))]
    shares = [float((one > 0).mean()) for one in maps]
    low, high = min(shares), max(shares)
    assert rows["foreground"].startswith(f"{low:.2%} to {high:.2%} of the voxels of a case")
    assert rows["foreground"].endswith(f"median {np.median(shares):.2%}")
    assert rows["--data.size"] == "[24,24] holds all slices, turned to canonical axes"
    assert found.size == (24, 24)


def test_problems_are_grouped_and_the_first_are_shown(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    for index in (1, 3, 4):
        save(label_of(folder, index), np.zeros((12, 16, 6), np.uint8))
    label_of(folder, 5).unlink()
    found = inspect(folder)
    assert problem_lines(found, blocks=False, most=2) == [
        "empty label (3 cases)",
        "  case_1: no voxel of the label map is foreground",
        "  case_3: no voxel of the label map is foreground",
        "  ... and 1 more",
    ]
    assert len(problem_lines(found, blocks=False, most=None)) == 4
    (head, line) = problem_lines(found, blocks=True, most=2)
    assert head == "wrong in dataset.json, or not there (1 case)"
    assert line.startswith(f"  case_5: {label_of(folder, 5)}: found no such file, expected ")


def test_a_label_named_as_a_column_has_its_own(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    edit_json(folder, labels={"0": "background", "1": "foreground", "2": "labels"})
    (first, *_) = rows_of(csv_text(inspect(folder)))
    label = clean_pair(0)[1]
    assert float(first["share_foreground"]) == pytest.approx((label == 1).mean())
    assert float(first["foreground_share"]) == pytest.approx((label > 0).mean())


def test_a_task_that_is_left_handed_throughout_is_no_cause_for_suspicion(tmp_path: Path) -> None:
    folder = clean_task(tmp_path)
    for index in range(6):
        image, label = clean_pair(index)
        save(image_of(folder, index), image, LEFT_HANDED)
        save(label_of(folder, index), label, LEFT_HANDED)
    found = inspect(folder)
    assert not [problem for case in found.cases for problem in case.problems]
    rows = dict(summary_rows(found))
    assert rows["axes"] == "LAS in 6; left-handed, as dcm2niix mostly writes them"
    assert rows["--data.size"] == "[16,16] holds all slices"
    image, label = clean_pair(2)
    save(image_of(folder, 2), image)
    save(label_of(folder, 2), label)
    mixed = inspect(folder)
    assert dict(summary_rows(mixed))["axes"] == "LAS in 5, RAS in 1"
    assert problem_lines(mixed, blocks=False, most=None) == [
        "right-handed affine (1 case)",
        "  case_2: axes point to RAS, which mirrors the volume beside 5 left-handed ones",
    ]


def test_the_size_holds_slices_that_are_turned(tmp_path: Path) -> None:
    """Of volumes of 12 x 16 x 6 voxels, one has its depth first: then it has slices of 16 x 6."""
    folder = clean_task(tmp_path)
    assert inspect(folder).size == (16, 16)
    for index in range(5):
        image, label = clean_pair(index)
        turned = AFFINE[:, [2, 0, 1, 3]]
        save(image_of(folder, index), image, turned)
        save(label_of(folder, index), label, turned)
    found = inspect(folder)
    assert dict(summary_rows(found))["axes"] == "SRA in 5, RAS in 1"
    # Rows and columns are axes 2 and 3 of five volumes, and 1 and 2 of the last.
    assert found.size == (16, 16)
    image, label = clean_pair(5)
    save(image_of(folder, 5), image[:, :8], turned @ np.diag([-1, 1, 1, 1]))
    save(label_of(folder, 5), label[:, :8], turned @ np.diag([-1, 1, 1, 1]))
    assert inspect(folder).size == (16, 8)
