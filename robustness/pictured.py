"""Slices that are pictured, with raw maps, kept so that pictures can be drawn again."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np


@dataclass(frozen=True)
class PicturedSlice:
    """One slice and what a network makes of it.

    Attributes:
        case: Name of the volume.
        slice_index: Index of the slice in it.
        image: Shape ``(C, H, W)``, float32, scaled.
        mask: Truth, bool, shape ``(K, H, W)``.
        valid: False in padding, bool, shape ``(H, W)``.
        probs: Probabilities of the clean slice, shape ``(K, H, W)``, float32.
    """

    case: str
    slice_index: int
    image: np.ndarray
    mask: np.ndarray
    valid: np.ndarray
    probs: np.ndarray


@dataclass(frozen=True)
class SliceMaps(PicturedSlice):
    """Attribution maps of one slice, by several methods.

    Attributes:
        explained: What the maps explain, in words, such as ``sum of p``.
        methods: Names of the M methods, text, shape ``(M,)``.
        units: Unit of each method's map, text, shape ``(M,)``.
        signed: False where a method's map is never below 0, bool, shape ``(M,)``.
        settings: Name and settings of each method and the seed, as JSON, text, shape ``(M,)``.
        checkpoint_sha256: Of the network's weights.
        maps: Shape ``(M, C, H, W)``, float32.
    """

    explained: str
    methods: np.ndarray
    units: np.ndarray
    signed: np.ndarray
    settings: np.ndarray
    checkpoint_sha256: str
    maps: np.ndarray


_Kind = TypeVar("_Kind", bound=PicturedSlice)


def save_slices(path: Path, slices: Sequence[PicturedSlice]) -> None:
    """Write pictured slices as one compressed ``.npz`` without pickled objects.

    Args:
        path: The file to write.
        slices: Any number of one kind.
    """
    arrays = {
        f"{index}/{name}": np.asarray(value)
        for index, one in enumerate(slices)
        for name, value in asdict(one).items()
    }
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_slices(path: Path, kind: type[_Kind]) -> list[_Kind]:
    """Read pictured slices back.

    Args:
        path: A file written by :func:`save_slices`.
        kind: What it holds.

    Returns:
        The slices, in order.

    Raises:
        ValueError: If the file does not hold slices of this kind.
    """
    fields: dict[int, dict[str, Any]] = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            for key in stored.files:
                index, name = key.split("/", 1)
                value = stored[key]
                fields.setdefault(int(index), {})[name] = value if value.ndim else value.item()
        return [kind(**fields[index]) for index in sorted(fields)]
    except (ValueError, TypeError, AttributeError, OSError, EOFError, BadZipFile) as error:
        msg = f"{path}: not a readable file of {kind.__name__} ({error})"
        raise ValueError(msg) from error
