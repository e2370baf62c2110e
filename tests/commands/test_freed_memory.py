"""Freed memory is kept where the allocator can be told to and nobody told it otherwise."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only the GNU C library has the setting"
)
_ROUNDS = """
import resource
import numpy as np
from commands.freed_memory import keep_freed_memory

kept = keep_freed_memory()
for round in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(2**20) for _ in range(24)]
    del blocks
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def rounds(**environment: str) -> tuple[bool, int]:
    """Whether memory is kept, and page faults of the third round of 200 MB taken and freed."""
    chosen = {name: value for name, value in os.environ.items() if "MALLOC_" not in name}
    ended = subprocess.run(
        [sys.executable, "-c", _ROUNDS],
        env={**chosen, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = ended.stdout.split()
    return kept == "True", int(faults)


def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    kept, faults = rounds()
    assert kept
    assert faults < 1000


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_a_setting_of_the_environment_stands(name: str) -> None:
    kept, faults = rounds(**{name: "131072"})
    assert not kept
    assert faults > 10_000
