"""What all tests share: real volumes, stores, small disks, and reproducible examples."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.places import NewLogger, Place, PromptLogger, with_store

# A slow or busy machine must not fail a test, and the same code must meet the same examples.
settings.register_profile(
    "reproducible",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder that holds the tasks' folders of real volumes, or skip the test."""
    value = os.environ.get("SEGSTRESS_DATA", "")
    if not value:
        pytest.skip("SEGSTRESS_DATA is not set: set it to a folder of Decathlon tasks")
    folder = Path(value).resolve()
    if not folder.is_dir():
        pytest.fail(f"SEGSTRESS_DATA: {folder} is not a folder; set it right, or not at all")
    return folder


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A store without runs, which ``MLFLOW_TRACKING_URI`` names."""
    made = with_store(Place(tmp_path_factory.mktemp("place")), tmp_path_factory)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    return made


@pytest.fixture
def new_logger(place: Place) -> NewLogger:
    """Makes a logger as a process of its own would have it."""
    return lambda: PromptLogger("trials", "bce seed 0")


@pytest.fixture
def tmpfs() -> list[str]:
    """Return a command: followed by mount options, a folder and another command, it runs that one
    with a small disk of its own mounted on the folder.
    """
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed: no small disk can be mounted")
    command = [
        *("unshare", "--map-root-user", "--mount", "sh", "-c"),
        'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"',
        "sh",
    ]
    tried = subprocess.run(
        [*command, "size=1m", "/mnt", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"mounting a small disk is not permitted: {tried.stderr.strip()}")
    return command
