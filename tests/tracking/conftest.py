"""Stores of runs, each in a temporary folder of its own."""

from collections.abc import Callable

import pytest

from tests.places import Place, with_store
from tracking.logger import RunLogger


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A store without runs, which ``MLFLOW_TRACKING_URI`` names."""
    made = with_store(Place(tmp_path_factory.mktemp("place")), tmp_path_factory)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    return made


@pytest.fixture
def new_logger(place: Place) -> Callable[[], RunLogger]:
    """Makes a logger as a process of its own would have it."""
    return lambda: RunLogger("trials", "bce seed 0")
