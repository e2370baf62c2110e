"""Stores of runs, each in a temporary folder of its own."""

import pytest

from tests.places import Place, with_store


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A store without runs, which ``MLFLOW_TRACKING_URI`` names."""
    made = with_store(Place(tmp_path_factory.mktemp("place")), tmp_path_factory)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    return made
