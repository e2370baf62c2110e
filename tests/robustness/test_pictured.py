"""Attribution maps of slices come back from their file as they were."""

from dataclasses import fields
from pathlib import Path

import numpy as np

from robustness.pictured import SliceMaps, load_slices, save_slices
from tests.robustness.maps import made_maps


def test_maps_come_back_as_they_were(tmp_path: Path) -> None:
    slices = [made_maps(seed, methods=("gradient", "grad_cam")) for seed in range(3)]
    save_slices(tmp_path / "maps.npz", slices)
    loaded = load_slices(tmp_path / "maps.npz", SliceMaps)
    assert len(loaded) == 3
    for found, expected in zip(loaded, slices, strict=True):
        for field in fields(SliceMaps):
            one, other = getattr(found, field.name), getattr(expected, field.name)
            assert type(one) is type(other)
            if isinstance(other, np.ndarray):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)
            else:
                assert one == other
