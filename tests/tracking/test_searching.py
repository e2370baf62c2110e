"""A filter lets through what MLflow's own search does; what is none is told in one line."""

from pathlib import Path

import pytest

from errors import InputError
from tests.comparison.made import store_run
from tests.places import Place
from tracking.searching import matching_runs


def test_a_filter_lets_the_matching_runs_through(place: Place, tmp_path: Path) -> None:
    ids = {
        seed: store_run(tmp_path, None, {"loss": "bce", "seed": seed}) for seed in ("0", "1", "2")
    }
    assert matching_runs("Task90_Blob", "params.seed = '1'") == {ids["1"]}
    assert matching_runs("Task90_Blob", "params.seed != '1'") == {ids["0"], ids["2"]}
    assert matching_runs("Task90_Blob", "metrics.`val/dice` > 0.5") == set()


@pytest.mark.parametrize("query", ["seed", "params.seed = 1", "size = '1'", "params.seed = '1' or"])
def test_what_is_no_filter_is_one_line(place: Place, tmp_path: Path, query: str) -> None:
    store_run(tmp_path, None, {"loss": "bce", "seed": "0"})
    with pytest.raises(InputError, match="MLflow does not understand it") as raised:
        matching_runs("Task90_Blob", query)
    assert "\n" not in str(raised.value)
    assert query in str(raised.value)
