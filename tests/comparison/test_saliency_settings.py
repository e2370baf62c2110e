"""Settings are read of every method, and what differs is told in words."""

from dataclasses import replace

import numpy as np
import pytest

from comparison.saliency_settings import Settings, differing, map_settings, spread_settings
from robustness.spread_table import SpreadFile
from tests.comparison.made import made_spread
from tests.robustness.maps import made_maps


def test_settings_of_maps_are_those_of_all_slices_with_their_units() -> None:
    first = made_maps(0, methods=("gradient", "lime"))
    second = replace(made_maps(0), settings=np.array(['{"method": "gradient", "seed": 3}']))
    found = map_settings([first, second])
    assert found["gradient"] == {
        "method": "gradient",
        "seed": 3,
        "unit": "d(sum of p) / d(intensity)",
    }
    assert found["lime"]["seed"] == 0
    assert found["lime"]["unit"] == "sum of p"


def test_settings_of_a_spread_are_those_of_the_methods_in_it() -> None:
    frame = made_spread(0, methods=("gradient", "lime"))
    listed = '[{"method": "gradient", "a": 1}, {"method": "occlusion"}]'
    assert spread_settings(SpreadFile(frame, {"methods": listed})) == {
        "gradient": {"method": "gradient", "a": 1},
        "lime": {},
    }
    assert spread_settings(SpreadFile(frame, {})) == {"gradient": {}, "lime": {}}


@pytest.mark.parametrize(
    ("found", "asked", "words"),
    [
        ({}, {}, ""),
        ({"method": "a", "b": [1, 2]}, {"b": [1, 2], "method": "a"}, ""),
        ({}, {"method": "a"}, "with unknown settings and not those of X"),
        (
            {"method": "a", "of_grid": 2, "layer": ""},
            {"method": "a", "of_grid": 3, "layer": "up.0"},
            'with layer "" instead of up.0 and of grid 2 instead of 3 as in X',
        ),
        ({"a": None}, {}, "with a null instead of unknown as in X"),
    ],
)
def test_what_differs_is_told(found: Settings, asked: Settings, words: str) -> None:
    assert differing(found, asked, "X") == words
