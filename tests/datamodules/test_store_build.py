"""What headers claim decides nothing where the files do not hold it; and how it is told."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from datamodules.decathlon import read_task
from datamodules.slicing import StoreSettings
from datamodules.store import OnError, SliceStore, open_store
from errors import InputError
from tests.datamodules.tiny import NAME, edit_json, refusal, volume, write_nifti, write_task

SOUND = ["tiny_00", "tiny_02", "tiny_03"]


def open_tiny(
    root: Path, on_error: OnError = "stop", *, size: tuple[int, int] = (16, 16)
) -> SliceStore:
    settings = StoreSettings(size=size, max_pixel=0.2)
    return open_store(read_task(root, NAME), settings, root / "cache", on_error=on_error)


def claim(path: Path, *lengths: int) -> None:
    """Let a header declare other lengths than the file holds."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<4h", content, 40, 3, *lengths)
    path.write_bytes(gzip.compress(bytes(content)))


def unpacked(folder: Path, name: str) -> None:
    """Store a case's files without compression."""
    pairs = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["training"]
    for pair in pairs:
        if name in pair["image"]:
            for part, file in pair.items():
                packed = folder / file
                packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
                packed.unlink()
                pair[part] = file.removesuffix(".gz")
    edit_json(folder, training=pairs)


@pytest.mark.parametrize(
    ("lengths", "is_packed"),
    [
        ((32767, 32767, 4), True),
        ((32767, 32767, 4), False),
        ((20, 12, 4), False),
        # As much as a gz file of this length might hold, so that it has to be read.
        ((300, 10, 4), True),
        ((10, 12, 5), True),
    ],
)
def test_a_file_that_holds_less_than_it_claims_is_a_broken_case(
    lengths: tuple[int, int, int],
    is_packed: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_task(tmp_path)
    claim(folder / "imagesTr/tiny_04.nii.gz", *lengths)
    if not is_packed:
        unpacked(folder, "tiny_04")
    # What is wrong with this one is known only when all of it was read.
    write_nifti(folder / "imagesTr/tiny_01.nii.gz", np.full((10, 12, 4), 7, np.float32))
    with pytest.raises(InputError) as caught:
        open_tiny(tmp_path)
    assert "2 of 5 cases that cannot be used (tiny_01, tiny_04)" in refusal(caught)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("Broken: tiny_01: ")
    assert "nothing but 7" in first
    assert second.startswith("Broken: tiny_04: ")
    assert f"declares {lengths} voxels in " in second
    store = open_tiny(tmp_path, "skip")
    assert sorted(store.records) == SOUND
    assert [case.name for case in store.broken] == ["tiny_01", "tiny_04"]
    assert capsys.readouterr().err.count("Left out: ") == 2


def test_the_size_that_is_asked_for_is_that_of_cases_that_hold_what_they_claim(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_task(tmp_path)
    for name, shape in (("tiny_01", (20, 9, 4)), ("tiny_02", (9, 30, 4))):
        image, label = volume(7, shape)
        write_nifti(folder / f"imagesTr/{name}.nii.gz", image)
        write_nifti(folder / f"labelsTr/{name}.nii.gz", label)
    claim(folder / "imagesTr/tiny_03.nii.gz", 300, 10, 4)
    claim(folder / "imagesTr/tiny_04.nii.gz", 200, 100, 4)
    with pytest.raises(InputError) as caught:
        open_tiny(tmp_path, "skip")
    message = refusal(caught)
    assert "slices of 20 x 9 pixels (2 of 3 cases are too large)" in message
    assert "set --data.size [24,32]" in message
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["Broken", "tiny_03"],
        ["Broken", "tiny_04"],
    ]
    store = open_tiny(tmp_path, "skip", size=(24, 32))
    assert sorted(store.records) == ["tiny_00", "tiny_01", "tiny_02"]


def test_room_is_not_asked_for_what_a_file_does_not_hold(tmp_path: Path) -> None:
    """32767 slices of 4096 x 4096 pixels would be 2.7 TB."""
    folder = write_task(tmp_path, cases=2, shape=(10, 12, 1))
    claim(folder / "imagesTr/tiny_01.nii.gz", 1, 1, 32767)
    store = open_tiny(tmp_path, "skip", size=(4096, 4096))
    assert list(store.records) == ["tiny_00"]
    (broken,) = store.broken
    assert "declares (1, 1, 32767) voxels" in broken.reason


@pytest.mark.parametrize("others", [0, 1])
def test_a_path_cannot_write_to_the_terminal(
    others: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_task(tmp_path)
    (folder / "imagesTr/tiny_00.nii.gz").write_bytes(b"no NIfTI" if others else b"")
    pairs = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["training"]
    forged = {**pairs[1], "image": "imagesTr/\x1b[2Ja\nerror: all is lost\u202e.nii.gz"}
    edit_json(folder, training=[*pairs[1 - others :], forged])
    with pytest.raises(InputError) as caught:
        open_tiny(tmp_path)
    told = capsys.readouterr().err
    shown = told if others else str(caught.value)
    assert r"imagesTr/\x1b[2Ja\nerror: all is lost\u202e.nii.gz" in shown
    assert str(caught.value).isprintable()
    assert "".join(told.splitlines()).isprintable()
    assert all(line.startswith("Broken: ") for line in told.splitlines())
    assert len(told.splitlines()) == 2 * others
