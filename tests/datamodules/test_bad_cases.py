"""A folder with a case of every kind of breakage: all of them come out in one go, by name."""

import gzip
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.decathlon import read_task
from datamodules.task import Case, Task
from datamodules.volumes import read_volume
from errors import InputError
from tests.datamodules.inspected import AFFINE, clean_pair, clean_task, inspect, save
from tests.datamodules.nnunet_raw import as_nnunet
from tests.datamodules.tiny import check_refusal, edit_json

SHAPE = (12, 16, 6, 2)
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
GOOD = ("good_first", "good_int64", "good_last")
Files = Callable[[Case], object]


def image_as(change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Files:
    """Write the first file of the image again with other voxels."""

    def spoil(case: Case) -> None:
        voxels = np.asanyarray(nibabel.load(case.image).dataobj)  # type: ignore[attr-defined]
        save(case.image, change(voxels))

    return spoil


def label_as(change: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Files:
    def spoil(case: Case) -> None:
        voxels = np.asanyarray(nibabel.load(case.label).dataobj)  # type: ignore[attr-defined]
        save(case.label, change(voxels))

    return spoil


def with_value(value: float) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    def change(label: NDArray[np.generic]) -> NDArray[np.generic]:
        changed: NDArray[np.float32] = label.astype(np.float32)
        changed[4, 5, 2] = value
        return changed

    return change


def channel_of(value: float) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    """The last channel, which is also the only one of a file, all of one value."""

    def change(image: NDArray[np.generic]) -> NDArray[np.generic]:
        changed: NDArray[np.float32] = image.astype(np.float32)
        changed.reshape((12, 16, 6, -1))[..., -1] = value
        return changed

    return change


def header_bytes(at: int, form: str, *values: float) -> Files:
    def spoil(case: Case) -> None:
        content = bytearray(gzip.decompress(case.image.read_bytes()))
        struct.pack_into(form, content, at, *values)
        case.image.write_bytes(gzip.compress(bytes(content)))

    return spoil


def turned_label(case: Case) -> None:
    affine = AFFINE.copy()
    affine[:3, :3] = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ AFFINE[:3, :3]
    save(case.label, clean_pair(0)[1], affine)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def way_out(path: Path) -> None:
    """Move a file out of the folder and link to it."""
    outside = path.parent.parent.parent / f"{path.parent.name}_{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


def flip_checksum(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


# What a case is spoiled by, and what is said of it; in both formats.
KINDS: dict[str, tuple[Files, str]] = {
    "voxels_10_12": (
        header_bytes(40, "<4h", 3, 10000, 10000, 10000),
        r"declares \(10000, 10000, 10000\) voxels, which is below 0 or above 2\^32",
    ),
    "voxels_10_9": (header_bytes(40, "<4h", 3, 1000, 1000, 1000), "the file holds"),
    "negative_length": (header_bytes(40, "<4h", 3, -12, 16, 6), "which is below 0"),
    "five_axes": (image_as(lambda image: image[..., None, None]), "shape .* expected"),
    "two_axes": (image_as(lambda image: image[:, :, 0]), "found shape"),
    "rgb": (image_as(lambda image: image.astype(np.uint8).astype(RGB)), "voxels of type RGB"),
    "complex": (image_as(lambda image: image.astype(np.complex64)), "voxels of type complex64"),
    "zero_depth": (
        header_bytes(40, "<5h", 4, 12, 16, 0, 2),
        r"shape \(12, 16, 0, 2\), expected one voxel or more",
    ),
    "no_real_offset": (header_bytes(108, "<f", np.nan), "cannot be read"),
    "of_a_pair": (header_bytes(344, "<4s", b"ni1\0"), "that of a pair of files"),  # type: ignore[arg-type]
    "constant": (image_as(channel_of(7)), "nothing but 7"),
    "all_nan": (image_as(channel_of(np.nan)), "1152 NaN or infinite voxels"),
    "infinite": (image_as(channel_of(np.inf)), "1152 NaN or infinite voxels"),
    "negative_label": (label_as(with_value(-1)), r"does not declare: -1 \(1 voxel\)"),
    "strange_label": (label_as(with_value(3)), r"does not declare: 3 \(1 voxel\)"),
    "broken_label": (label_as(with_value(0.5)), r"does not declare: 0\.5 \(1 voxel\)"),
    "nan_label": (label_as(with_value(np.nan)), r"does not declare: nan \(1 voxel\)"),
    "short_label": (label_as(lambda label: label[..., 1:]), r"a label map of shape \(12, 16, 5\)"),
    "deep_label": (
        label_as(lambda label: np.stack([label, label], -1)),
        r"of shape \(12, 16, 6, 2\)",
    ),
    "turned_label": (turned_label, "voxel edges away from where that of"),
    "cut": (lambda case: case.image.write_bytes(case.image.read_bytes()[:-40]), "EOFError"),
    "checksum": (lambda case: flip_checksum(case.label), "CRC check failed"),
    "empty": (lambda case: case.image.write_bytes(b""), "cannot be read"),
    "text": (lambda case: case.label.write_text("none"), "Not a gzipped file"),
    "no_image": (lambda case: case.image.unlink(), "no such file"),
    "no_label": (lambda case: case.label.unlink(), "no such file"),
    "image_loop": (lambda case: loop(case.image), "cannot be followed"),
    "label_loop": (lambda case: loop(case.label), "cannot be followed"),
    "image_out": (lambda case: way_out(case.image), "leads out of the task's folder"),
    "label_out": (lambda case: way_out(case.label), "leads out of the task's folder"),
}
# Only where each channel has a file.
CHANNEL_KINDS: dict[str, tuple[Files, str]] = {
    "no_channel": (lambda case: case.images[1].unlink(), r"no such file, expected channel 1"),
    "channel_out": (lambda case: way_out(case.images[1]), "leads out of the task's folder"),
    "channel_shape": (
        lambda case: save(case.images[1], clean_pair(1)[0][:, :, 1:]),
        r"a channel of shape \(12, 16, 5\)",
    ),
    "channel_place": (
        lambda case: save(case.images[1], clean_pair(1)[0], np.diag([0.8, 1.2, 5, 1])),
        "voxel edges away from where that of",
    ),
    "channel_nan": (
        lambda case: save(case.images[1], np.full((12, 16, 6), np.nan)),
        "1152 NaN or infinite voxels in channel 1",
    ),
}


def named_task(root: Path, names: list[str]) -> Path:
    """A clean Decathlon folder of two channels whose cases have these names."""
    folder = clean_task(root, cases=len(names), channels=2)
    training = []
    for index, name in enumerate(names):
        pair = {}
        for part, sub in (("image", "imagesTr"), ("label", "labelsTr")):
            (folder / sub / f"case_{index}.nii.gz").rename(folder / sub / f"{name}.nii.gz")
            pair[part] = f"./{sub}/{name}.nii.gz"
        training.append(pair)
    edit_json(folder, training=training)
    return folder


def spoiled(folder: Path, kinds: dict[str, tuple[Files, str]]) -> Path:
    for case in read_task(folder.parent, folder.name).cases:
        if case.name in kinds:
            kinds[case.name][0](case)
        elif case.name == "good_int64":
            label_as(lambda label: label.astype(np.int64))(case)
    return folder


def told(task: Task) -> dict[str, list[str]]:
    """What is wrong with the cases of a task, by name, in lines of the house's wording."""
    found: dict[str, list[str]] = {}
    for broken in task.broken:
        found.setdefault(broken.name, []).append(check_refusal(broken.reason))
    for case in task.cases:
        try:
            read_volume(case, channels=len(task.channels), labels={0, 1, 2})
        except InputError as error:
            found.setdefault(case.name, []).append(check_refusal(str(error)))
    return found


def check_told(folder: Path, kinds: dict[str, str]) -> None:
    task = read_task(folder.parent, folder.name)
    found = told(task)
    assert set(found) == set(kinds)
    for name, words in kinds.items():
        (reason,) = found[name]
        assert re.search(words, reason), f"{name}: {reason}"
    assert {case.name for case in task.cases} >= set(GOOD)
    # An inspection refuses exactly the same, and tells it.
    inspected = inspect(folder, workers=2).cases
    assert {case.name for case in inspected if not case.usable} == set(found)
    assert [case.name for case in inspected if case.usable] == sorted(GOOD)


def test_every_kind_in_one_decathlon_folder(tmp_path: Path) -> None:
    folder = spoiled(named_task(tmp_path, [*GOOD, *KINDS]), KINDS)
    source = folder / "dataset.json"
    training = json.loads(source.read_text())["training"]
    pair = training[0]
    entries: list[tuple[str, object, str]] = [
        ("good_first", pair, "case 'good_first' a second time"),
        ("passwd", {**pair, "image": "../../passwd.nii"}, "leads out of the task's folder"),
        ("hosts", {**pair, "image": "/etc/hosts.nii"}, "leads out of the task's folder"),
        ("absent", {**pair, "image": "imagesTr/absent.nii"}, "no such file"),
    ]
    count = len(training) + len(entries)
    entries += [
        (f"training[{count}]", {"image": pair["image"]}, "expected {"),
        (f"training[{count + 1}]", {**pair, "image": "dataset.json"}, "expected a NIfTI file"),
    ]
    edit_json(folder, training=[*training, *(entry for _, entry, _ in entries)])
    kinds = {name: words for name, (_, words) in KINDS.items()}
    check_told(folder, kinds | {name: words for name, _, words in entries})


def test_every_kind_in_one_folder_of_nnunet(tmp_path: Path) -> None:
    kinds = {**KINDS, **CHANNEL_KINDS}
    folder = spoiled(as_nnunet(named_task(tmp_path, [*GOOD, *kinds])), kinds)
    check_told(folder, {name: words for name, (_, words) in kinds.items()})


@pytest.mark.parametrize("is_nnunet", [False, True])
def test_good_cases_are_read_beside_broken_ones(tmp_path: Path, is_nnunet: bool) -> None:
    plain = named_task(tmp_path, [*GOOD, *KINDS])
    before = {
        case.name: read_volume(case, channels=2, labels={0, 1, 2})
        for case in read_task(plain.parent, plain.name).cases
    }
    folder = spoiled(as_nnunet(plain) if is_nnunet else plain, KINDS)
    for case in read_task(folder.parent, folder.name).cases:
        if case.name in GOOD:
            after = read_volume(case, channels=2, labels={0, 1, 2})
            np.testing.assert_array_equal(after.image, before[case.name].image)
            np.testing.assert_array_equal(after.label, before[case.name].label)
