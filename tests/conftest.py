"""What all tests share: the folder of real volumes and one reproducible hypothesis profile."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
    """Return the folder that holds the tasks' folders of real volumes; skip the test without it."""
    value = os.environ.get("SEGSTRESS_DATA", "")
    if not value:
        pytest.skip("SEGSTRESS_DATA is not set: set it to a folder of Decathlon tasks")
    folder = Path(value).resolve()
    if not folder.is_dir():
        pytest.skip(f"SEGSTRESS_DATA: {folder} is not a folder")
    return folder
