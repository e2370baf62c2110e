"""The phantom: a made-up task in the Decathlon's format, hippocampus-like and synthetic."""

import gzip
import json
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from datamodules.dataset_json import DATASET_FILE, LARGEST_LABEL
from datamodules.phantom_volume import make_volume
from datamodules.wrong_input import wrong_input

VERSION = 1
_DESCRIPTION = (
    "SYNTHETIC: made up by SegStress, no patient was scanned. Bent, tapered tubes divided along "
    "their length, in the size of hippocampus volumes."
)


def write_phantom(
    root: Path,
    *,
    cases: int,
    classes: int = 2,
    seed: int = 0,
    name: str = "Task00_Phantom",
    force: bool = False,
) -> Path:
    """Write a made-up task: ``<root>/<name>`` with ``dataset.json``, ``imagesTr`` and ``labelsTr``.

    A volume depends on seed, classes and its own number alone, so a larger phantom holds the
    volumes of a smaller one. A phantom of the same settings that is there already is kept.

    Args:
        root: Folder that holds the folders of tasks; made if it is not there.
        cases: Number of volumes.
        classes: Number of parts, each a label, into which the structure is divided.
        seed: Seed of all that is random.
        name: Name of the task's folder.
        force: Whether to replace a phantom that is there. Anything else is never replaced.

    Returns:
        The task's folder.

    Raises:
        InputError: If a setting is out of range, another folder is in the way, or the disk is full.
    """
    settings = {"version": VERSION, "cases": cases, "classes": classes, "seed": seed}
    _check_settings(settings, name)
    folder = root / name
    try:
        if not force and _is_whole(folder, settings):
            return folder
        _check_place(folder, force=force)
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as scratch:
            made = Path(scratch, "made")
            _write_task(made, settings)
            if folder.exists():
                folder.rename(Path(scratch, "replaced"))
            made.rename(folder)
    except OSError as error:
        raise wrong_input(
            at=folder,
            found=f"a place that cannot be written ({error.strerror or error})",
            expected="a folder with some free space",
            do="free some, or set --root to another folder",
        ) from error
    return folder


def _check_settings(settings: dict[str, int], name: str) -> None:
    for option, least, most in (
        ("cases", 1, None),
        ("classes", 1, LARGEST_LABEL),
        ("seed", 0, None),
    ):
        number = settings[option]
        if number < least or (most is not None and number > most):
            raise wrong_input(
                at=f"--{option}",
                found=number,
                expected=f"{least} or more" if most is None else f"{least} to {most}",
                do="set a number in this range",
            )
    if not name or name.startswith(".") or Path(name).name != name:
        raise wrong_input(
            at="--name",
            found=repr(name),
            expected="a plain name of a folder such as Task00_Phantom",
            do="set --root to the folder that shall hold it",
        )


def _phantom_settings(folder: Path) -> object:
    """What a folder says about the phantom in it; None where it holds something else."""
    try:
        content = json.loads((folder / DATASET_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content.get("phantom") if isinstance(content, dict) else None


def _is_whole(folder: Path, settings: dict[str, int]) -> bool:
    files = [folder / pair[key] for pair in _pairs(settings["cases"]) for key in ("image", "label")]
    return _phantom_settings(folder) == settings and all(file.is_file() for file in files)


def _check_place(folder: Path, *, force: bool) -> None:
    """Refuse to write where something is that the user might miss."""
    found = _phantom_settings(folder)
    if found is not None and not force:
        raise wrong_input(
            at=folder,
            found=f"another phantom ({json.dumps(found)[1:-1]})",
            expected="none, or one of the same settings and with all its files",
            do="give another --name, or --force to replace it",
        )
    is_empty = folder.is_dir() and next(folder.iterdir(), None) is None
    if found is None and (folder.exists() or folder.is_symlink()) and not is_empty:
        raise wrong_input(
            at=folder,
            found="something that is no phantom",
            expected="nothing, or a phantom",
            do="give another --name or --root",
        )


def _pairs(cases: int) -> list[dict[str, str]]:
    names = [f"phantom_{number:03d}.nii.gz" for number in range(1, cases + 1)]
    return [{"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names]


def _write_task(folder: Path, settings: dict[str, int]) -> None:
    pairs = _pairs(settings["cases"])
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    console = Console(stderr=True)
    for index, pair in track(
        list(enumerate(pairs)),
        description="Making synthetic volumes",
        console=console,
        disable=not console.is_terminal,
    ):
        rng = np.random.default_rng([settings["seed"], index])
        image, label = make_volume(rng, settings["classes"])
        _write_nifti(folder / pair["image"], image)
        _write_nifti(folder / pair["label"], label)
    parts = {str(part): f"part {part}" for part in range(1, settings["classes"] + 1)}
    content = {
        "name": "Phantom",
        "description": _DESCRIPTION,
        "reference": "made up",
        "licence": "none needed",
        "release": f"{VERSION}.0",
        "tensorImageSize": "3D",
        "modality": {"0": "synthetic"},
        "labels": {"0": "background", **parts},
        "numTraining": len(pairs),
        "numTest": 0,
        "training": pairs,
        "test": [],
        "phantom": settings,
    }
    text = json.dumps(content, indent=1)
    (folder / DATASET_FILE).write_text(text, encoding="utf-8")


def _write_nifti(path: Path, voxels: NDArray[np.generic]) -> None:
    """Write voxels of 1 mm; without a time in the gz header the same voxels give the same file."""
    content = nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes()  # type: ignore[no-untyped-call]
    path.write_bytes(gzip.compress(content, compresslevel=4, mtime=0))
