"""Tasks that several test files share."""

from pathlib import Path

import pytest

from datamodules.datamodule import DecathlonDataModule
from datamodules.decathlon import Task, read_task
from tests.datamodules.tiny import NAME, write_task


@pytest.fixture
def task(tmp_path: Path) -> Task:
    write_task(tmp_path / "data", cases=5)
    return read_task(tmp_path / "data", NAME)


@pytest.fixture(scope="session")
def hippocampus(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DecathlonDataModule:
    cache = tmp_path_factory.mktemp("cache")
    return DecathlonDataModule(root=str(real_data), cache_dir=str(cache))
