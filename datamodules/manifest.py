"""What a slice store says about each of its cases, in a JSON file beside the case's slices."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules.safe_name import safe_name
from datamodules.slice_grid import SliceGrid
from datamodules.slicing import StoreSettings
from datamodules.task import Case, Task

SCHEMA_VERSION = 2
_KEY_LETTERS = 32


@dataclass(frozen=True)
class CaseRecord:
    """What the store holds of one case.

    Attributes:
        case: Name of the case.
        image_file: Name of the file of its image slices, ``(S, C, H, W)`` float32.
        label_file: Name of the file of its label slices, ``(S, H, W)`` uint8.
        file_bytes: Sizes of the two files.
        grid: Where its slices lie in its volume.
        pixel_ml: Volume that a pixel of a slice stands for, in ml; NaN without a usable affine.
        areas: Pixels of each label in each slice, by label.
        image_sha256: Hash of shape and raw voxels of the image.
        label_sha256: Hash of shape and voxels of the label map.
    """

    case: str
    image_file: str
    label_file: str
    file_bytes: tuple[int, int]
    grid: SliceGrid
    pixel_ml: float
    areas: dict[int, tuple[int, ...]]
    image_sha256: str
    label_sha256: str

    @property
    def slices(self) -> int:
        """Number of slices."""
        return self.grid.slices

    @property
    def largest_shape(self) -> tuple[int, int]:
        """Height and width of its largest slice without padding, in pixels."""
        height, width = self.grid.slice_shapes.max(axis=0).tolist()
        return height, width


def store_name(task: Task, settings: StoreSettings) -> str:
    """Name the store of a task: all that any of its slices depends on but the files of the case.

    Returns:
        The task's name and a hash, fit for a folder.
    """
    facts = {
        "schema_version": SCHEMA_VERSION,
        "folder": str(task.folder.resolve()),
        "settings": settings.facts(),
        "labels": [value for value, _ in task.labels],
        "channels": len(task.channels),
    }
    return f"{safe_name(task.folder.name)}-{_key(facts)}"


def case_key(task: Task, case: Case) -> str:
    """Name the slices of a case by the state of its files, without reading a voxel.

    Raises:
        OSError: If a file of the case cannot be looked at.
    """
    files = []
    for path in (*case.images, case.label):
        stat = path.stat()
        files.append([str(path.relative_to(task.folder)), stat.st_size, stat.st_mtime_ns])
    return _key([case.name, files])


def record_file(key: str) -> str:
    """Name of the file of a case's record; it is written last, and says that the case is whole."""
    return f"{key}.json"


def dump_record(record: CaseRecord) -> str:
    """Write a record as JSON text."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(record)})


def load_record(folder: Path, key: str) -> CaseRecord | None:
    """Read the record of a case and check it against the files that lie there.

    Args:
        folder: The store.
        key: From `case_key`.

    Returns:
        None where it is not there or not whole.
    """
    try:
        content = json.loads((folder / record_file(key)).read_text(encoding="utf-8"))
        record = _record(content)
        sizes = tuple(
            (folder / name).stat().st_size for name in (record.image_file, record.label_file)
        )
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return record if sizes == record.file_bytes else None


def _record(entry: dict[str, Any]) -> CaseRecord:
    if entry["schema_version"] != SCHEMA_VERSION:
        message = "another schema version"
        raise ValueError(message)
    parts: dict[str, Any] = {
        key: tuple(part) if isinstance(part, list) else part for key, part in entry["grid"].items()
    }
    image_bytes, label_bytes = entry["file_bytes"]
    return CaseRecord(
        case=str(entry["case"]),
        image_file=str(entry["image_file"]),
        label_file=str(entry["label_file"]),
        file_bytes=(int(image_bytes), int(label_bytes)),
        grid=SliceGrid(**parts),
        pixel_ml=float(entry["pixel_ml"]),
        areas={int(value): tuple(map(int, areas)) for value, areas in entry["areas"].items()},
        image_sha256=str(entry["image_sha256"]),
        label_sha256=str(entry["label_sha256"]),
    )


def _key(facts: object) -> str:
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LETTERS]
