"""What a slice store says about itself in manifest.json: key, settings, facts of each case."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules.decathlon import Task
from datamodules.intensities import WHOLE_RANGE, IntensityRange

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class StoreSettings:
    """How volumes become slices.

    Attributes:
        size: Height and width of a slice, in pixels.
        max_pixel: Value of the brightest pixels.
        intensities: Which intensities become 0 and ``max_pixel``.
    """

    size: tuple[int, int]
    max_pixel: float
    intensities: IntensityRange = WHOLE_RANGE

    def facts(self) -> dict[str, Any]:
        """Plain values; what is not set is left out, and changes no fingerprint."""
        chosen = {name: value for name, value in asdict(self.intensities).items() if value}
        return {"size": self.size, "max_pixel": self.max_pixel, **chosen}


@dataclass(frozen=True)
class CaseRecord:
    """What the manifest holds of one case.

    Attributes:
        case: Name of the case.
        image_file: Name of the file of its image slices, ``(D, C, H, W)`` float32.
        label_file: Name of the file of its label slices, ``(D, H, W)`` uint8.
        file_bytes: Sizes of the two files.
        slices: Number of slices D.
        shape: Height and width of a slice before it was padded, in pixels.
        areas: Pixels of each label in each slice, by label.
        image_sha256: Hash of shape and raw voxels of the image.
        label_sha256: Hash of shape and voxels of the label map.
    """

    case: str
    image_file: str
    label_file: str
    file_bytes: tuple[int, int]
    slices: int
    shape: tuple[int, int]
    areas: dict[int, tuple[int, ...]]
    image_sha256: str
    label_sha256: str


def store_key(task: Task, settings: StoreSettings) -> str:
    """Name the store of a task: a hash of all that its content depends on, without reading a voxel.

    Raises:
        OSError: If a file of the task cannot be looked at.
    """
    files = []
    for case in task.cases:
        for path in (case.image, case.label):
            stat = path.stat()
            name = str(path.relative_to(task.folder))
            files.append([case.name, name, stat.st_size, stat.st_mtime_ns])
    facts = {
        "schema_version": SCHEMA_VERSION,
        "folder": str(task.folder.resolve()),
        "settings": settings.facts(),
        "labels": [value for value, _ in task.labels],
        "channels": len(task.channels),
        "files": files,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def dump_manifest(key: str, settings: StoreSettings, records: list[CaseRecord]) -> str:
    """Write a manifest as JSON text."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "key": key,
        "settings": settings.facts(),
        "cases": [asdict(record) for record in records],
    }
    return json.dumps(content, indent=1)


def load_manifest(folder: Path, key: str) -> tuple[CaseRecord, ...]:
    """Read the manifest of a store and check it against the key and the files that lie there.

    Args:
        folder: The store.
        key: Its name by `store_key`.

    Raises:
        ValueError: If the manifest is broken, of another version or key, or a file is not of the
            size that it names.
        OSError: If it or a file of the store is not there.
    """
    content = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    try:
        if content["schema_version"] != SCHEMA_VERSION or content["key"] != key:
            message = "another schema version or key"
            raise ValueError(message)
        records = tuple(_record(entry) for entry in content["cases"])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        message = f"fields of the manifest: {error}"
        raise ValueError(message) from error
    for record in records:
        files = (record.image_file, record.label_file)
        if tuple((folder / name).stat().st_size for name in files) != record.file_bytes:
            message = f"files of {record.case} are not of the sizes in the manifest"
            raise ValueError(message)
    return records


def _record(entry: dict[str, Any]) -> CaseRecord:
    return CaseRecord(
        case=str(entry["case"]),
        image_file=str(entry["image_file"]),
        label_file=str(entry["label_file"]),
        file_bytes=(int(entry["file_bytes"][0]), int(entry["file_bytes"][1])),
        slices=int(entry["slices"]),
        shape=(int(entry["shape"][0]), int(entry["shape"][1])),
        areas={int(value): tuple(map(int, areas)) for value, areas in entry["areas"].items()},
        image_sha256=str(entry["image_sha256"]),
        label_sha256=str(entry["label_sha256"]),
    )
