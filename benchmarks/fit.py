"""``fit`` as a user starts it against a bare loop over tensors in memory, in turn by epoch."""

import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

import main
from benchmarks.bare import train_step, training_network
from benchmarks.data import Slices, slices
from benchmarks.timing import Ratio, ratio_of, write_results

_FOUND = "SEGSTRESS_BENCH_FIT"


class InTurn(Callback):
    """Times each epoch of a training, and a bare loop over as many batches after it.

    The first epoch warms up and does not count.
    """

    def __init__(self) -> None:
        self.found: list[tuple[float, float]] = []
        self._start = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count the time."""
        gc.collect()
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the time of the epoch, and that of the loop."""
        fit = time.perf_counter() - self._start
        batches = int(trainer.num_training_batches)
        loader: Any = trainer.train_dataloader
        held = [(batch["image"], batch["mask"]) for batch in islice(loader, batches)]
        start = time.perf_counter()
        bare_epoch(iter(held))
        bare = time.perf_counter() - start
        if trainer.current_epoch:
            self.found.append((fit, bare))
        Path(os.environ[_FOUND]).write_text(json.dumps(self.found), encoding="utf-8")


def bare_epoch(batches: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Train on batches with nothing else: forward, loss, backward, step."""
    network = training_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for image, mask in batches:
        train_step(network, optimizer, image, mask)


def measure(given: Slices, *, batches: int = 60, rounds: int = 5) -> list[Ratio]:
    """Train with ``main.py fit`` and ``bce``, logging and progress as always.

    Args:
        given: Where the slices come from.
        batches: Batches of 32 slices in each epoch.
        rounds: Epochs that count.
    """
    with TemporaryDirectory(prefix="segstress-bench-") as scratch:
        found = Path(scratch) / "found.json"
        os.environ[_FOUND] = str(found)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        status = main.main(
            [
                *("fit", *given.options, "--model.loss", "bce", "--trainer.accelerator", "cpu"),
                *("--trainer.max_epochs", str(rounds + 1)),
                *("--trainer.limit_train_batches", str(batches)),
                *("--trainer.limit_val_batches", "0"),
                *("--trainer.callbacks+", "benchmarks.fit.InTurn"),
            ]
        )
        if status:
            sys.exit(status)
        pairs = json.loads(found.read_text(encoding="utf-8"))
    fit, bare = ([pair[side] for pair in pairs] for side in (0, 1))
    name = f"bare loop / fit, {batches} batches of 32 slices, bce, float32"
    return [ratio_of(name, bare, fit, goal="at least 0.95", calls=batches)]


if __name__ == "__main__":
    with slices() as prepared:
        print(write_results(f"Training on {prepared.name}", measure(prepared)))
