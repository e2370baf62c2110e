"""Areas and volumes of labels are those of the volumes themselves."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.case_areas import class_areas, foreground_ml, largest_slice
from datamodules.slicing import StoreSettings
from datamodules.store import SliceStore, open_store
from datamodules.task import Task
from errors import InputError
from tests.datamodules.tiny import refusal, volume


@pytest.fixture
def store(task: Task, tmp_path: Path) -> SliceStore:
    return open_store(task, StoreSettings((16, 16), 0.2), tmp_path / "cache")


def test_areas_are_counted_by_class(store: SliceStore) -> None:
    areas, pixels = class_areas(store.records.values(), [[1, 2], [2]], ignored=None, padding=False)
    labels = np.stack([volume(index)[1] for index in range(5)])
    for channel, values in enumerate(([1, 2], [2])):
        expected = np.isin(labels, values).sum(axis=(1, 2)).ravel()
        np.testing.assert_array_equal(areas[:, channel], expected)
    assert set(pixels.tolist()) == {120}


def test_ignored_pixels_and_padding(store: SliceStore) -> None:
    records = store.records.values()
    labels = np.stack([volume(index)[1] for index in range(5)])
    ignored = (labels == 2).sum(axis=(1, 2)).ravel()
    _, pixels = class_areas(records, [[1]], ignored=2, padding=False)
    np.testing.assert_array_equal(pixels, 120 - ignored)
    _, pixels = class_areas(records, [[1]], ignored=2, padding=True)
    np.testing.assert_array_equal(pixels, 256 - ignored)


def test_the_largest_slice(store: SliceStore) -> None:
    for index, record in enumerate(store.records.values()):
        areas = (volume(index)[1] == 1).sum(axis=(0, 1))
        assert largest_slice(record, [1]) == int(areas.argmax())


@pytest.mark.parametrize("spacing", [None, (0.5, 0.5)])
def test_volumes_are_in_millilitres(
    task: Task, tmp_path: Path, spacing: tuple[float, float] | None
) -> None:
    settings = StoreSettings((24, 24), 0.2, spacing_mm=spacing)
    store = open_store(task, settings, tmp_path / "cache")
    for index, found in enumerate(foreground_ml(store.records, [1, 2]).values()):
        truth = (volume(index)[1] > 0).sum() / 1000
        assert found == pytest.approx(truth, rel=1e-9 if spacing is None else 0.1)


def test_a_volume_without_size_is_refused(store: SliceStore) -> None:
    records = dict(store.records)
    records["tiny_02"] = replace(records["tiny_02"], pixel_ml=math.nan)
    with pytest.raises(InputError) as caught:
        foreground_ml(records, [1])
    assert "tiny_02" in refusal(caught)
    assert "--data.stratify" in refusal(caught)
