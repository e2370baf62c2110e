"""Tests of the batches that the dataset hands over."""

import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.datamodule import DecathlonDataModule
from datamodules.decathlon import Task
from datamodules.slices import SliceDataset
from datamodules.slicing import StoreSettings
from datamodules.store import SliceStore, open_store
from tests.datamodules.tiny import volume

CASES = ("tiny_01", "tiny_03")


@pytest.fixture
def store(task: Task, tmp_path: Path) -> SliceStore:
    return open_store(task, StoreSettings(size=(16, 24), max_pixel=0.2), tmp_path / "cache")


def test_a_batch_holds_what_the_volumes_hold(store: SliceStore) -> None:
    dataset = SliceDataset(store, CASES, [[1], [2]])
    assert len(dataset) == 8
    batch = dataset.__getitems__([6, 0, 3])
    assert batch["case"] == ["tiny_03", "tiny_01", "tiny_01"]
    assert batch["slice_index"].tolist() == [2, 0, 3]
    for position, (seed, frame) in enumerate([(3, 2), (1, 0), (1, 3)]):
        image, label = volume(seed)
        expected = 0.2 * (image[:, :, frame].astype(float) - image.min())
        expected /= float(image.max()) - float(image.min())
        np.testing.assert_allclose(
            batch["image"][position, 0, :10, :12].numpy(), expected, atol=1e-7
        )
        for channel, value in enumerate([1, 2]):
            mask = batch["mask"][position, channel, :10, :12].numpy()
            np.testing.assert_array_equal(mask, label[:, :, frame] == value)
    padding = ~batch["valid"].expand(3, 2, 16, 24)
    assert not batch["mask"][padding].any()
    assert not batch["image"][padding[:, :1]].any()
    assert batch["valid"].sum().item() == 3 * 10 * 12
    assert batch["valid"][:, :, :10, :12].all()


def test_types_and_layout(store: SliceStore) -> None:
    batch = SliceDataset(store, CASES, [[1, 2]]).__getitems__([0, 5])
    assert batch["image"].shape == (2, 1, 16, 24)
    assert batch["mask"].shape == (2, 1, 16, 24)
    assert batch["valid"].shape == (2, 1, 16, 24)
    assert batch["image"].dtype == batch["mask"].dtype == torch.float32
    assert batch["valid"].dtype == torch.bool
    assert batch["slice_index"].dtype == torch.int64
    tensors = (batch["image"], batch["mask"], batch["valid"], batch["slice_index"])
    assert all(tensor.is_contiguous() for tensor in tensors)
    assert set(batch["mask"].flatten().tolist()) == {0.0, 1.0}


def test_merged_labels_are_any_of_them(store: SliceStore) -> None:
    indices = list(range(8))
    merged = SliceDataset(store, CASES, [[1, 2]]).__getitems__(indices)["mask"]
    apart = SliceDataset(store, CASES, [[1], [2]]).__getitems__(indices)["mask"]
    assert torch.equal(merged, apart.sum(1, keepdim=True))
    only = SliceDataset(store, CASES, [[2]]).__getitems__(indices)["mask"]
    assert torch.equal(only, apart[:, 1:])


def test_batches_do_not_share_memory_with_the_store(store: SliceStore) -> None:
    dataset = SliceDataset(store, CASES, [[1, 2]])
    first = dataset.__getitems__([1])
    before = first["image"].clone()
    first["image"].zero_()
    assert torch.equal(dataset.__getitems__([1])["image"], before)


def test_one_slice_is_a_batch_of_one(store: SliceStore) -> None:
    dataset = SliceDataset(store, CASES, [[1, 2]])
    assert torch.equal(dataset[5]["image"], dataset.__getitems__([5])["image"])


def test_a_dataset_can_be_sent_to_a_worker(store: SliceStore) -> None:
    dataset = SliceDataset(store, CASES, [[1, 2]])
    batch = dataset.__getitems__([2])
    received = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(received.__getitems__([2])["image"], batch["image"])


@pytest.mark.real
def test_29_percent_of_the_real_slices_are_empty(hippocampus: DecathlonDataModule) -> None:
    slices, empty = 0, 0
    for split in ("train", "val", "test"):
        dataset = SliceDataset(hippocampus.store, hippocampus.split_cases(split), [[1, 2]])
        mask = dataset.__getitems__(range(len(dataset)))["mask"]
        slices += len(mask)
        empty += int((mask.sum((1, 2, 3)) == 0).sum())
    assert 7000 < slices < 7300
    assert round(empty / slices, 2) == 0.29


@pytest.mark.real
def test_a_batch_of_32_real_slices_takes_less_than_a_millisecond(
    hippocampus: DecathlonDataModule,
) -> None:
    dataset = SliceDataset(hippocampus.store, hippocampus.split_cases("train"), [[1, 2]])
    order = np.random.default_rng(0).permutation(len(dataset))[:3200].reshape(100, 32).tolist()
    seconds = []
    for indices in order + order:
        start = time.perf_counter()
        dataset.__getitems__(indices)
        seconds.append(time.perf_counter() - start)
    assert np.median(seconds) < 1e-3
