"""Cases that cannot be used, remembered beside the slices so that they are read once."""

import json
from pathlib import Path

from datamodules.task import BrokenCase, Case
from datamodules.whole_file import write_whole


def failure_file(key: str) -> str:
    """Name of the file that says why a case cannot be used.

    Args:
        key: From ``manifest.case_key``.
    """
    return f"{key}.broken"


def remember_failure(folder: Path, key: str, case: Case, broken: BrokenCase) -> None:
    """Note what is wrong with a case.

    Args:
        folder: The store.
        key: From ``manifest.case_key``.
        case: Its files.
        broken: What is wrong with them.

    Raises:
        OSError: If it cannot be written, or a file of the case cannot be looked at.
    """
    content = {"reason": broken.reason, "changed": _changed(case)}
    write_whole(folder / failure_file(key), json.dumps(content).encode())


def recall_failure(folder: Path, key: str, case: Case) -> BrokenCase | None:
    """What was wrong with a case when it was read last.

    Args:
        folder: The store.
        key: From ``manifest.case_key``.
        case: Its files.

    Returns:
        None where nothing is known, or a file was touched since, its permissions included.
    """
    try:
        content = json.loads((folder / failure_file(key)).read_text(encoding="utf-8"))
        if content["changed"] == _changed(case):
            return BrokenCase(case.name, str(content["reason"]))
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        pass
    return None


def _changed(case: Case) -> list[int]:
    """When each file was last touched in any way."""
    return [path.stat().st_ctime_ns for path in (*case.images, case.label)]
