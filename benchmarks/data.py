"""The slices that benchmarks run on: real hippocampus where there is any, else the phantom."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from datamodules.batch import Batch
from datamodules.datamodule import DecathlonDataModule
from datamodules.phantom import write_phantom

REAL = "Task04_Hippocampus"
_MADE = "Task00_Phantom"


@dataclass(frozen=True)
class Slices:
    """A prepared task.

    Attributes:
        data: Its DataModule, set up.
        name: What the slices are, for the heading of a table.
        options: What ``main.py`` needs to find it.
    """

    data: DecathlonDataModule
    name: str
    options: list[str]

    def batch(self, split: str, *, cases: int | None = None, slices: int | None = None) -> Batch:
        """The first slices of a split as one batch.

        Args:
            split: ``train``, ``val`` or ``test``.
            cases: Of how many cases, the first by name; None takes all.
            slices: How many of theirs; None takes all.
        """
        found = [self.data.case_slices(name) for name in self.data.split_cases(split)[:cases]]
        parts = [one.__getitems__(range(len(one))) for one in found]
        image, mask, valid, slice_index = (
            torch.cat(tensors)[:slices]
            for tensors in zip(
                *((one["image"], one["mask"], one["valid"], one["slice_index"]) for one in parts),
                strict=True,
            )
        )
        names = [name for one in parts for name in one["case"]][:slices]
        return Batch(image=image, mask=mask, valid=valid, case=names, slice_index=slice_index)


@contextmanager
def slices() -> Iterator[Slices]:
    """The real task in the folder ``SEGSTRESS_DATA``, or a phantom of 24 cases; prepared anew."""
    with TemporaryDirectory(prefix="segstress-bench-") as scratch:
        root = os.environ.get("SEGSTRESS_DATA")
        name, task = "real hippocampus slices", REAL
        if root is None:
            name, task, root = "slices of the phantom", _MADE, scratch
            write_phantom(Path(scratch), cases=24, name=_MADE)
        cache = str(Path(scratch) / "cache")
        data = DecathlonDataModule(root=root, task=task, cache_dir=cache)
        data.prepare_data()
        data.setup("fit")
        options = ["--data.root", root, "--data.task", task, "--data.cache_dir", cache]
        yield Slices(data, name, options)
