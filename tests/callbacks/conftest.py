"""A store of runs for each test, and one thread so that trainings repeat bit for bit."""

from collections.abc import Callable, Iterator

import pytest
import torch

from tests.places import Place, with_store
from tracking.logger import RunLogger


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A store without runs, which ``MLFLOW_TRACKING_URI`` names."""
    made = with_store(Place(tmp_path_factory.mktemp("place")), tmp_path_factory)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    return made


@pytest.fixture
def new_logger(place: Place) -> Callable[[], RunLogger]:
    """Makes a logger as a process of its own would have it."""
    return lambda: RunLogger("trials", "toy")
