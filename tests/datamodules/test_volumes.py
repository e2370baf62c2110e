"""Tests of reading and checking a volume."""

import gzip
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from datamodules.decathlon import Case, read_task
from datamodules.volumes import content_hash, read_header, read_volume
from errors import InputError
from tests.datamodules.tiny import case_in, refusal, volume, write_nifti, write_task

LABELS = (0, 1, 2)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return case_in(write_task(tmp_path, cases=1))


def test_a_volume_is_read(case: Case) -> None:
    image, label = volume(0)
    read = read_volume(case, channels=1, labels=LABELS)
    np.testing.assert_array_equal(read.image, image[np.newaxis])
    np.testing.assert_array_equal(read.label, label)
    assert read.label.dtype == np.uint8
    assert read_header(case, channels=1).shape == (10, 12, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_and_images_of_any_real_dtype(case: Case, dtype: type[np.generic]) -> None:
    image, label = volume(0)
    write_nifti(case.image, image.astype(dtype))
    write_nifti(case.label, label.astype(dtype))
    read = read_volume(case, channels=1, labels=LABELS)
    np.testing.assert_array_equal(read.image[0], image.astype(dtype))
    np.testing.assert_array_equal(read.label, label)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_trailing_axis_of_length_1_is_left_out(tmp_path: Path, ending: str) -> None:
    """Some programs write it, be it in images, label maps or both."""
    image, label = volume(0)
    files = (tmp_path / f"image{ending}", tmp_path / f"label{ending}")
    case = Case("case", files[:1], files[1])
    for image_has, label_has in ((False, True), (True, False), (True, True)):
        write_nifti(files[0], image[..., np.newaxis] if image_has else image)
        write_nifti(files[1], label[..., np.newaxis] if label_has else label)
        read = read_volume(case, channels=1, labels=LABELS)
        np.testing.assert_array_equal(read.image, image[np.newaxis])
        np.testing.assert_array_equal(read.label, label)
        assert content_hash(read.label) == content_hash(label)
    for other in (label[..., np.newaxis, np.newaxis], np.stack([label, label], -1)):
        write_nifti(files[1], other)
        with pytest.raises(InputError) as caught:
            read_volume(case, channels=1, labels=LABELS)
        assert f"found a label map of shape {other.shape}, " in refusal(caught)


def test_scaled_integers_are_read_as_what_they_stand_for(case: Case) -> None:
    stored = volume(0)[0].astype(np.int16)
    image = nibabel.Nifti1Image(stored, np.eye(4))  # type: ignore[no-untyped-call]
    image.header.set_slope_inter(0.5, -7)  # type: ignore[no-untyped-call]
    case.image.write_bytes(gzip.compress(image.to_bytes()))
    read = read_volume(case, channels=1, labels=LABELS)
    np.testing.assert_array_equal(read.image[0], nibabel.load(case.image).get_fdata())  # type: ignore[attr-defined]
    assert not np.array_equal(read.image[0], stored)


def test_nifti_2_and_plain_nii(case: Case) -> None:
    image, label = volume(0)
    plain = Case("plain", (case.image.with_name("a.nii"),), case.label.with_name("b.nii"))
    for array, path in ((image, plain.image), (label, plain.label)):
        second = nibabel.Nifti2Image(array, np.eye(4))  # type: ignore[no-untyped-call]
        path.write_bytes(second.to_bytes())
    np.testing.assert_array_equal(read_volume(plain, channels=1, labels=LABELS).image[0], image)
    assert read_header(plain, channels=1).shape == image.shape


def test_channels_come_first(tmp_path: Path) -> None:
    folder = write_task(tmp_path, cases=1, shape=(10, 12, 4, 3))
    read = read_volume(case_in(folder), channels=3, labels=LABELS)
    np.testing.assert_array_equal(read.image, np.moveaxis(volume(0, (10, 12, 4, 3))[0], 3, 0))
    assert read_header(case_in(folder), channels=3).shape == (10, 12, 4)


@pytest.mark.real
def test_four_real_channels(real_data: Path) -> None:
    task = read_task(real_data, "Task01_BrainTumour")
    read = read_volume(task.cases[0], channels=4, labels=(0, 1, 2, 3))
    assert read.image.shape == (4, 141, 174, 31)
    assert read.label.shape == (141, 174, 31)


@pytest.mark.real
def test_real_labels_stored_as_float32(real_data: Path) -> None:
    task = read_task(real_data, "Task04_Hippocampus")
    dtypes = {nibabel.load(case.label).get_data_dtype().name for case in task.cases}  # type: ignore[attr-defined]
    for case in task.cases[:20]:
        read = read_volume(case, channels=1, labels=LABELS)
        stored = nibabel.load(case.label).get_fdata()  # type: ignore[attr-defined]
        np.testing.assert_array_equal(read.label, stored)
    assert {"uint8", "float32"} >= dtypes


@pytest.mark.parametrize("channels", [2, 4])
def test_wrong_number_of_channels(tmp_path: Path, channels: int) -> None:
    case = case_in(write_task(tmp_path, cases=1, shape=(10, 12, 4, 3)))
    for read in (
        lambda: read_volume(case, channels=channels, labels=LABELS),
        lambda: read_header(case, channels=channels),
    ):
        with pytest.raises(InputError) as caught:
            read()
        message = refusal(caught)
        assert "(10, 12, 4, 3)" in message
        assert f"(X, Y, Z, {channels})" in message


@pytest.mark.parametrize("shape", [(10, 12), (10, 12, 4, 1, 2)])
def test_wrong_number_of_axes(case: Case, shape: tuple[int, ...]) -> None:
    write_nifti(case.image, np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    assert str(shape) in refusal(caught)


@given(keep=st.floats(0, 1, exclude_max=True), which=st.sampled_from(["image", "label"]))
def test_a_truncated_gz(tmp_path_factory: pytest.TempPathFactory, keep: float, which: str) -> None:
    case = case_in(write_task(tmp_path_factory.mktemp("task"), cases=1))
    path: Path = getattr(case, which)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    assert refusal(caught).startswith(f"{path}: found a file that cannot be read")


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_gz_with_one_wrong_bit_is_never_read_as_other_voxels(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    case = case_in(write_task(tmp_path_factory.mktemp("task"), cases=1))
    content = bytearray(case.image.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    case.image.write_bytes(content)
    try:
        read = read_volume(case, channels=1, labels=LABELS)
    except InputError as error:
        assert str(error).startswith(str(case.image))  # noqa: PT017
    else:
        np.testing.assert_array_equal(read.image[0], volume(0)[0])


@pytest.mark.parametrize(
    "content",
    [b"", b"no gz at all", gzip.compress(b"no NIfTI at all" * 99)],
    ids=["empty", "no gz", "no NIfTI"],
)
def test_other_files(case: Case, content: bytes) -> None:
    case.image.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    assert refusal(caught).startswith(f"{case.image}: found a file that cannot be read")
    with pytest.raises(InputError) as caught:
        read_header(case, channels=1)
    assert refusal(caught).startswith(str(case.image))


def test_a_file_cut_short_within_an_intact_gz(case: Case) -> None:
    case.image.write_bytes(gzip.compress(gzip.decompress(case.image.read_bytes())[:-8]))
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    assert "cannot be read" in refusal(caught)


def test_shapes_that_differ(case: Case) -> None:
    write_nifti(case.label, volume(0, (10, 12, 3))[1])
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    message = refusal(caught)
    assert message.startswith(str(case.label))
    assert "(10, 12, 3)" in message
    assert "(10, 12, 4)" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(case: Case, value: float) -> None:
    image = volume(0)[0]
    image[1, 2, :3] = value
    write_nifti(case.image, image)
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    assert f"{case.image}: found 3 NaN or infinite voxels," in refusal(caught)


def test_the_channel_that_is_wrong_is_named(tmp_path: Path) -> None:
    case = case_in(write_task(tmp_path, cases=1, shape=(10, 12, 4, 2)))
    image = volume(0, (10, 12, 4, 2))[0]
    image[..., 1] = 5
    write_nifti(case.image, image)
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=2, labels=LABELS)
    assert "found nothing but 5 in channel 1" in refusal(caught)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.full((10, 12, 4), 7, np.int16), "nothing but 7"),
        (np.array([-1.7e308, *[1.7e308] * 479]).reshape(10, 12, 4), "-1.7e+308 to 1.7e+308"),
        (np.zeros((10, 12, 4), np.complex64), "complex64"),
    ],
)
def test_intensities_that_cannot_be_scaled(
    case: Case, image: NDArray[np.generic], said: str
) -> None:
    write_nifti(case.image, image)
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    assert said in refusal(caught)


def test_labels_that_are_not_declared(case: Case) -> None:
    label = volume(0)[1].astype(np.float32)
    label[0, 0, :2] = 7
    label[0, 1, :3] = 1.5
    label[0, 2, 0] = np.nan
    write_nifti(case.label, label)
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    message = refusal(caught)
    assert message.startswith(str(case.label))
    assert "1.5 (3 voxels), 7 (2 voxels), nan (1 voxel)" in message
    assert message.endswith("expected 0, 1, 2; mend the label map")


def test_a_label_that_could_be_declared_may_be_added(case: Case) -> None:
    label = volume(0)[1]
    label[0, 0, 0] = 7
    write_nifti(case.label, label)
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    assert refusal(caught).endswith(
        "7 (1 voxel), expected 0, 1, 2; mend the label map or add them to labels"
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint64, np.float32])
@given(data=st.data())
def test_labels_are_accepted_where_all_are_declared(
    tmp_path_factory: pytest.TempPathFactory, dtype: type[np.generic], data: st.DataObject
) -> None:
    case = case_in(write_task(tmp_path_factory.mktemp("task"), cases=1))
    least, most = (0, 300) if dtype is np.uint64 else (0, 255) if dtype is np.uint8 else (-128, 127)
    values = st.integers(least, most)
    declared = data.draw(st.sets(st.integers(0, 255), min_size=1, max_size=6)) | {0}
    used = data.draw(st.lists(st.sampled_from(sorted(declared)) | values, min_size=1, max_size=5))
    used = [min(most, value) for value in used]
    label = np.resize(np.array(used), (10, 12, 4)).astype(dtype)
    write_nifti(case.label, label)
    if set(used) <= declared:
        read = read_volume(case, channels=1, labels=declared)
        np.testing.assert_array_equal(read.label, label)
        assert read.label.dtype == np.uint8
    else:
        with pytest.raises(InputError) as caught:
            read_volume(case, channels=1, labels=declared)
        for value in set(used) - declared:
            assert f"{value} ({np.count_nonzero(label == value)} voxels)" in refusal(caught)


def test_int64_labels_are_read(case: Case) -> None:
    label = volume(0)[1]
    write_nifti(case.label, label.astype(np.int64))
    np.testing.assert_array_equal(read_volume(case, channels=1, labels=LABELS).label, label)


def test_labels_far_out_of_range_are_not_wrapped(case: Case) -> None:
    label = volume(0)[1].astype(np.int64)
    label[0, 0, 0], label[0, 0, 1] = 2**32 + 1, -255
    write_nifti(case.label, label)
    with pytest.raises(InputError) as caught:
        read_volume(case, channels=1, labels=LABELS)
    assert "declare: -255 (1 voxel), 4.29497e+09 (1 voxel)" in refusal(caught)


def test_a_volume_that_is_not_compressed_is_mapped_and_not_copied(case: Case) -> None:
    plain = Case("plain", (case.image.with_suffix(""),), case.label.with_suffix(""))
    image = np.random.default_rng(0).integers(0, 999, (200, 200, 100)).astype(np.int16)
    write_nifti(plain.image, image)
    write_nifti(plain.label, (image > 500).astype(np.uint8))
    tracemalloc.start()
    read = read_volume(plain, channels=1, labels=LABELS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(read.image[0], image)
    assert peak < 2_000_000


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_one_copy_of_the_voxels_is_held(case: Case, dtype: type[np.generic]) -> None:
    image = np.random.default_rng(0).integers(0, 999, (200, 200, 100)).astype(dtype)
    write_nifti(case.image, image)
    write_nifti(case.label, (image > 500).astype(np.uint8))
    tracemalloc.start()
    read_volume(case, channels=1, labels=LABELS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < image.nbytes + image.size + 2_000_000


def test_a_label_that_the_volume_lacks_is_no_error(case: Case) -> None:
    write_nifti(case.label, np.zeros((10, 12, 4), np.uint8))
    assert not read_volume(case, channels=1, labels=LABELS).label.any()


@given(
    arrays(np.int16, array_shapes(min_dims=3, max_dims=4, max_side=4)),
    st.sampled_from([np.int32, np.float32, np.float64]),
)
def test_the_hash_is_of_values_and_shape(array: NDArray[np.int16], dtype: type[np.generic]) -> None:
    digest = content_hash(array)
    assert content_hash(np.asfortranarray(array).astype(dtype)) == digest
    negative = np.negative(array.astype(np.float64))
    assert content_hash(np.negative(negative)) == digest
    other = array.copy()
    other.flat[-1] ^= 1
    assert content_hash(other) != digest
    assert content_hash(array[np.newaxis]) != digest
