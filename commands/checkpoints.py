"""What a checkpoint says of the run that made it, read before anything is built."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from callbacks.run_state import CHECKPOINT_KEY
from callbacks.trained_cases import TRAINED_KEY
from errors import InputError


@dataclass(frozen=True)
class CheckpointInfo:
    """The run behind a checkpoint.

    Attributes:
        run_id: Its id in the store; None if it was trained without one.
        settings: What it was made with, by section of the configuration.
        shapes: Shape of each tensor of its network, by name.
        trained_on: Names of the cases that it was trained on; empty where it does not say.
    """

    run_id: str | None
    settings: dict[str, Any]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()


def read_checkpoint(path: Path) -> CheckpointInfo:
    """Read the run behind a checkpoint, loading tensors and plain types only.

    Args:
        path: The checkpoint.

    Returns:
        The run.

    Raises:
        InputError: If the file is missing, broken, no checkpoint of this project, or holds
            anything that could run code.
    """
    if not path.is_file():
        msg = f"--ckpt_path: {path} is not a file; give a last.ckpt or best.ckpt of a run"
        raise InputError(msg)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many kinds on files that are none of its
        msg = (
            f"--ckpt_path: {path} is broken or holds more than tensors and plain values; "
            "expected a checkpoint that fit wrote; give another one"
        )
        raise InputError(msg) from error
    found = stored.get(CHECKPOINT_KEY) if isinstance(stored, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        msg = f"--ckpt_path: {path} was not written by fit of this project; give one that was"
        raise InputError(msg)
    shapes = {name: tuple(tensor.shape) for name, tensor in stored.get("state_dict", {}).items()}
    trained_on = tuple(map(str, stored.get(TRAINED_KEY) or ()))
    return CheckpointInfo(found.get("run_id"), found["settings"], shapes, trained_on)


@contextmanager
def settings_file(checkpoint: CheckpointInfo, *, fit: bool) -> Iterator[Path]:
    """A YAML of what a checkpoint was made with, to stand below what a user gives.

    Args:
        checkpoint: The checkpoint.
        fit: Whether training goes on, and so under the same trainer; an evaluation may run on
            another machine.

    Yields:
        The file, which is removed afterwards.
    """
    settings = dict(checkpoint.settings)
    if not fit:
        settings.pop("trainer", None)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "checkpoint.yaml")
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        yield file
