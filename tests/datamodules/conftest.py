"""Tasks that several test files share."""

from pathlib import Path

import pytest

from datamodules.datamodule import DecathlonDataModule
from datamodules.decathlon import Task, read_task
from tests.datamodules.serving import task_tar
from tests.datamodules.tiny import NAME, write_task


@pytest.fixture
def task(tmp_path: Path) -> Task:
    write_task(tmp_path / "data", cases=5)
    return read_task(tmp_path / "data", NAME)


@pytest.fixture(scope="session")
def hippocampus(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DecathlonDataModule:
    cache = tmp_path_factory.mktemp("cache")
    return DecathlonDataModule(root=str(real_data), cache_dir=str(cache))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tar of a small task."""
    return task_tar(tmp_path_factory.mktemp("packed"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for tasks that is not there yet."""
    return tmp_path / "new" / "data"
