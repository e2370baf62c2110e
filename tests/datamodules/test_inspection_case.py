"""The numbers of a case, counted again by hand."""

import math
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest

from datamodules.inspection_case import CaseJob, inspect_case
from datamodules.inspection_facts import CaseFacts, printable
from datamodules.inspection_picture import OTHER_MARK
from datamodules.task import Case
from tests.datamodules.inspected import AFFINE, save

LABELS = ((1, "one"), (4, "four"))


def oblique() -> np.ndarray:
    turn = 0.3
    affine = np.eye(4)
    affine[:3, :3] = [
        [0.5 * np.cos(turn), -2 * np.sin(turn), 0],
        [0.5 * np.sin(turn), 2 * np.cos(turn), 0],
        [0, 0, 3.5],
    ]
    return affine


def measured(
    folder: Path,
    image: np.ndarray,
    label: np.ndarray,
    *,
    affine: np.ndarray = AFFINE,
    picture: bool = False,
) -> CaseFacts:
    save(folder / "image.nii.gz", image, affine)
    save(folder / "label.nii.gz", label, affine)
    case = Case("image", (folder / "image.nii.gz",), folder / "label.nii.gz")
    channels = image.shape[3] if image.ndim == 4 else 1
    return inspect_case(CaseJob(case, channels, LABELS, picture))


def percentile(values: list[float], share: float) -> float:
    """Linear between the two nearest of the sorted values."""
    values = sorted(values)
    place = share * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_the_numbers_are_those_of_a_count_by_hand(tmp_path: Path, dtype: type) -> None:
    rng = np.random.default_rng(3)
    image: np.ndarray = rng.gamma(2, 20, (7, 9, 5, 2)).astype(dtype)
    label = rng.choice([0, 0, 0, 1, 4], (7, 9, 5)).astype(np.int64)
    label[..., 3] = 0
    found = measured(tmp_path, image, label, affine=oblique())
    assert found.image is not None
    assert found.label is not None
    for index, channel in enumerate(found.image.channels):
        values = [float(value) for value in image[..., index].flat]
        by_hand = [min(values), *(percentile(values, s) for s in (0.01, 0.5, 0.99)), max(values)]
        facts = [channel.minimum, channel.p1, channel.median, channel.p99, channel.maximum]
        assert facts == pytest.approx(by_hand, rel=1e-12)
        assert channel.broken == 0
    assert found.image.shape == (7, 9, 5, 2)
    assert found.image.spacing_mm == pytest.approx((0.5, 2, 3.5), rel=1e-6)
    assert found.image.voxel_ml == pytest.approx(0.5 * 2 * 3.5 / 1000, rel=1e-6)
    assert found.image.orientation == "".join(nibabel.aff2axcodes(oblique()))  # type: ignore[no-untyped-call]
    assert found.image.dtype == np.dtype(dtype).name
    assert found.label.dtype == "int64"
    assert found.label.voxels == Counter(label.ravel().tolist())
    areas = tuple(int((label[:, :, k] != 0).sum()) for k in range(5))
    assert found.label.frame_areas == areas
    assert found.label.foreground_slices == 4
    assert found.label.foreground == sum(areas)
    assert found.label.total == label.size


def test_broken_voxels_are_counted_and_left_out_of_the_rest(tmp_path: Path) -> None:
    image = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    image[0, 0, 0], image[2, 3, 4], image[1, 1, 1] = np.nan, np.inf, -np.inf
    found = measured(tmp_path, image, np.zeros((3, 4, 5), np.uint8))
    assert found.image is not None
    (channel,) = found.image.channels
    left = sorted(image[np.isfinite(image)].tolist())
    assert (channel.broken, channel.minimum, channel.maximum) == (3, left[0], left[-1])
    assert channel.median == pytest.approx(percentile(left, 0.5))


def test_a_scale_factor_is_applied_and_the_stored_type_told(tmp_path: Path) -> None:
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nibabel.Nifti1Image(stored, AFFINE)  # type: ignore[no-untyped-call]
    image.header.set_slope_inter(0.5, -100)  # type: ignore[no-untyped-call]
    content = image.to_bytes()
    path = tmp_path / "image.nii"
    path.write_bytes(content)
    slope_and_inter = nibabel.load(path).dataobj  # type: ignore[attr-defined]
    expected = np.asanyarray(slope_and_inter)
    case = Case("image", (path,), path)
    found = inspect_case(CaseJob(case, 1, LABELS, picture=False))
    assert found.image is not None
    assert found.image.dtype == "int16"
    assert found.image.channels[0].maximum == pytest.approx(float(expected.max()))


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ((0, 2, 2), "start of axis 1"),
        ((4, 2, 2), "end of axis 1"),
        ((2, 0, 2), "start of axis 2"),
        ((2, 5, 2), "end of axis 2"),
        ((2, 2, 0), "start of axis 3"),
        ((2, 2, 6), "end of axis 3"),
        ((1, 1, 1), ""),
        ((3, 4, 5), ""),
    ],
)
def test_a_touched_border_is_named(tmp_path: Path, at: tuple[int, int, int], words: str) -> None:
    label = np.zeros((5, 6, 7), np.uint8)
    label[at] = 1
    found = measured(tmp_path, np.arange(210.0).reshape(5, 6, 7), label)
    assert found.label is not None
    assert " ".join(found.label.touched) == words


def test_a_picture_is_the_first_slice_with_the_most_foreground(tmp_path: Path) -> None:
    image = np.random.default_rng(0).uniform(0, 100, (6, 8, 5)).astype(np.float32)
    label = np.zeros((6, 8, 5), np.uint8)
    label[1, 1, 1], label[2:4, 2, 3], label[2, 3:5, 4] = 1, 4, 9
    found = measured(tmp_path, image, label, picture=True)
    assert found.picture is not None
    assert (found.picture.slice_index, found.picture.depth) == (3, 5)
    expected = np.zeros((6, 8))
    expected[2:4, 2] = 2  # the second label of the task
    np.testing.assert_array_equal(found.picture.marks, expected)
    assert not found.picture.is_ct
    low, high = np.percentile(image, (1, 99))
    gray = 255 * np.clip((image[..., 3] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(found.picture.gray, gray, atol=0.51)
    label[2:4, 2, 3] = 0
    other = measured(tmp_path, image, label, picture=True).picture
    assert other is not None
    assert other.slice_index == 4
    assert set(np.unique(other.marks)) == {0, OTHER_MARK}


def test_ct_is_shown_in_a_window(tmp_path: Path) -> None:
    image = np.linspace(-1000, 1000, 210).reshape(5, 6, 7).astype(np.float32)
    found = measured(tmp_path, image, np.zeros((5, 6, 7), np.uint8), picture=True)
    assert found.picture is not None
    assert found.picture.is_ct
    assert found.picture.slice_index == 3  # the middle one
    gray = 255 * np.clip((image[..., 3] + 160) / 400, 0, 1)
    np.testing.assert_allclose(found.picture.gray, gray, atol=0.51)


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_a_picture_without_intensities_is_black(tmp_path: Path, value: float) -> None:
    image = np.full((4, 4, 4), value)
    found = measured(tmp_path, image, np.ones((4, 4, 4), np.uint8), picture=True)
    assert found.picture is not None
    assert not found.picture.gray.any()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hippocampus_003", "hippocampus_003"),
        ("Größe 体", "Größe 体"),
        ("\x1b[31mred\n", r"\x1b[31mred\n"),
        ("a\u202eb", r"a\u202eb"),
        ("half \ud800", r"half \ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode()
