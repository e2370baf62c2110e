"""What predict finds: masks as NIfTI on the voxels of their images, and a table of scores."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from callbacks.case_volumes import CaseVolumes
from callbacks.evaluating import gather, weights_sha256
from callbacks.predicted_case import SCORES, label_names, write_case
from callbacks.progress import say
from callbacks.run_state import run_logger
from datamodules.datamodule import DecathlonDataModule
from datamodules.output_folder import writing_to
from datamodules.whole_file import write_whole
from errors import InputError
from tracking.environment import git_revision
from tracking.store import runs_dir

SCORES_FILE = "scores.csv"
FACTS_FILE = "predictions.json"


class PredictionWriter(Callback):
    """Writes what predict finds: a mask for each case of the test set, and how good it is.

    Args:
        output: Folder for the files; predictions/<run id> beside the store if left out.
        probabilities: Whether probabilities are written too, float32, several classes along a
            fourth axis.
        tolerance_mm: Distance in mm within which surfaces agree, for the normalised surface Dice.
    """

    def __init__(
        self, output: str | None = None, probabilities: bool = False, tolerance_mm: float = 1.0
    ) -> None:
        if not 0 <= tolerance_mm < math.inf:
            msg = (
                f"--prediction.tolerance_mm: found {tolerance_mm}, expected a finite number of 0 "
                "or more; give a distance in mm"
            )
            raise InputError(msg)
        self.output = None if output is None else Path(output).expanduser()
        self.probabilities = probabilities
        self.tolerance_mm = tolerance_mm
        self._volumes = CaseVolumes({})
        self._rows: list[dict[str, Any]] = []
        self._folder = Path()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the folder, before anything is computed.

        Raises:
            InputError: If it cannot be written to.
        """
        data = _data(trainer)
        self._volumes = CaseVolumes({name: one.slices for name, one in data.store.records.items()})
        self._rows = []
        self._folder = self.output or self._default_folder(trainer)
        with writing_to(self._folder, "--prediction.output"):
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".{os.getpid()}.partial"
            probe.touch()
            probe.unlink()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, Any],
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch, and write the cases that are complete now."""
        values = np.concatenate([_host(outputs["probs"]), _host(outputs["leads"])], axis=1)
        complete = self._volumes.add(outputs["case"], outputs["slice_index"].tolist(), values)
        self._finish(trainer, complete)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the cases that several processes share, and the scores of all."""
        parts = gather(self._volumes.rest())
        if trainer.is_global_zero:
            self._finish(trainer, self._volumes.take_in(parts))
        rows = [row for part in gather(self._rows) for row in part]
        if not trainer.is_global_zero:
            return
        data = _data(trainer)
        left = self._volumes.rest()
        if left:
            say(trainer, f"Note: {len(left)} cases are not whole and not written: {min(left)}, ...")
        table = pd.DataFrame(rows, columns=["case", "class", *SCORES])
        table["case"] = pd.Categorical(table["case"], data.split_cases("test"))
        table["class"] = pd.Categorical(table["class"], data.class_names)
        table = table.sort_values(["case", "class"], ignore_index=True)
        facts = {
            "run": _run_id(trainer),
            "checkpoint_sha256": weights_sha256(pl_module),
            "revision": git_revision(),
            "task": data.task.folder.name,
            "labels": label_names(data),
            "tolerance_mm": self.tolerance_mm,
            **data.fingerprints("test"),
        }
        with writing_to(self._folder, "--prediction.output"):
            text = table.to_csv(index=False, float_format="%.6f")
            write_whole(self._folder / SCORES_FILE, text.encode())
            write_whole(self._folder / FACTS_FILE, (json.dumps(facts, indent=1) + "\n").encode())
        if len(table):
            means = table[["dice", "hd95_mm", "nsd"]].mean()
            words = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
            say(trainer, f"Predicted {table['case'].nunique()} cases; means: {words}")
        say(trainer, f"Masks and {SCORES_FILE}: {self._folder}")

    def _finish(
        self, trainer: Trainer, complete: Iterator[tuple[str, NDArray[np.float32]]]
    ) -> None:
        data = _data(trainer)
        classes = len(data.class_names)
        for name, values in complete:
            with writing_to(self._folder, "--prediction.output"):
                self._rows += write_case(
                    self._folder,
                    data,
                    name,
                    values[:, :classes],
                    values[:, classes:],
                    probabilities=self.probabilities,
                    tolerance_mm=self.tolerance_mm,
                )

    def _default_folder(self, trainer: Trainer) -> Path:
        return runs_dir() / "predictions" / (_run_id(trainer) or "no_run")


def _data(trainer: Trainer) -> DecathlonDataModule:
    data: Any = getattr(trainer, "datamodule", None)
    if not isinstance(data, DecathlonDataModule):
        msg = "predict: found no Decathlon data, expected a task's folder; give --data.root"
        raise InputError(msg)
    return data


def _run_id(trainer: Trainer) -> str | None:
    logger = run_logger(trainer)
    return None if logger is None else logger.version


def _host(values: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values.detach().float().cpu().numpy()
    return found
