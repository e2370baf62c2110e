"""What a run was made with: the revision of the code and the versions of what it stands on."""

import platform
import subprocess
from importlib.metadata import version

from tracking.store import project_dir

_PACKAGES = ("lightning", "mlflow", "monai", "nibabel", "numpy", "torch", "torchmetrics")


def git_revision() -> str:
    """The commit of the project's clone, with ``-dirty`` where files differ from it.

    Returns:
        The commit's hash; ``unknown`` outside a git checkout or without git.
    """
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def versions() -> dict[str, str]:
    """Versions of Python, the machine's system and the packages that decide results."""
    found = {package: version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), "system": platform.platform(), **found}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(project_dir()), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
