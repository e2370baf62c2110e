"""Programs that some tests need beside Python, and what they do with them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium or google-chrome on the path"
)
# The one that torch looks for.
_COMPILER = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
needs_compiler = pytest.mark.skipif(
    shutil.which(_COMPILER) is None, reason=f"torch.compile needs a C++ compiler: no {_COMPILER}"
)


def opened_page(page: Path) -> subprocess.CompletedProcess[str]:
    """A page after its scripts have run: as HTML, and what the browser says on standard error."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=30000", page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
