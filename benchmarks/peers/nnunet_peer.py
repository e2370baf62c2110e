"""nnU-Net's 2D trainer as a thing that trains for some seconds and predicts: its own defaults."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from shutil import copyfile
from typing import Any

import nibabel
import numpy as np
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import (  # type: ignore[import-not-found]
    extract_fingerprints,
    plan_experiments,
    preprocess,
)
from nnunetv2.inference.predict_from_raw_data import (  # type: ignore[import-not-found]
    nnUNetPredictor,
)
from nnunetv2.run.run_training import get_trainer_from_args  # type: ignore[import-not-found]
from numpy.typing import NDArray

from datamodules.datamodule import DecathlonDataModule
from datamodules.task import Case

_NUMBER = 1
_NAME = f"Dataset{_NUMBER:03d}_Peer"
_PLANS = "nnUNetPlans"
_CONFIGURATION = "2d"
_TRAINER = "nnUNetTrainer"
_CPU = torch.device("cpu")
# Seconds of training that tell how long a step takes; what they trained is taken back.
_TRIED = 5.0


class NnUNet:
    """The network that nnU-Net plans for the training cases, and its training.

    Args:
        folder: From :func:`planned`.
        seconds: How long the training will be: the learning rate falls to 0 over that time, as it
            does over the 1000 epochs of the default.
        batch_size: Slices in a batch; None for as many as it plans.
    """

    def __init__(self, folder: Path, seconds: float, batch_size: int | None = None) -> None:
        plans = json.loads((_preprocessed(folder) / f"{_PLANS}.json").read_text(encoding="utf-8"))
        name = _PLANS
        if batch_size is not None:
            name = f"{_PLANS}_{batch_size}"
            plans["configurations"][_CONFIGURATION]["batch_size"] = batch_size
            written = json.dumps(plans)
            (_preprocessed(folder) / f"{name}.json").write_text(written, encoding="utf-8")
        self._trainer = get_trainer_from_args(
            str(_NUMBER), _CONFIGURATION, 0, _TRAINER, name, device=_CPU
        )
        self._trainer.initialize()
        self._trainer.on_train_start()
        self._steps = 0
        self._set_length(seconds)

    @property
    def weights(self) -> int:
        """How many weights its network has."""
        return sum(weight.numel() for weight in self._trainer.network.parameters())

    @property
    def batch(self) -> str:
        """How many slices are in a batch, and of which size."""
        plan = self._trainer.configuration_manager
        return f"{plan.batch_size} of {' x '.join(map(str, plan.patch_size))} pixels"

    @property
    def steps(self) -> int:
        """How many steps have been taken."""
        return self._steps

    def train(self, seconds: float) -> tuple[int, float]:
        """Train for some seconds, up to the end of a step.

        Args:
            seconds: How long.

        Returns:
            Slices that were trained on, and the seconds that took.
        """
        trainer = self._trainer
        trainer.network.train()
        slices, start, spent = 0, time.perf_counter(), 0.0
        while spent < seconds:
            trainer.lr_scheduler.step(min(self._steps, trainer.num_epochs - 1))
            slices += self._step()
            self._steps += 1
            spent = time.perf_counter() - start
        return slices, spent

    def predict(self, images: Sequence[Path]) -> list[NDArray[np.bool_]]:
        """Masks of volumes, shape ``(X, Y, Z)``, with its own mirroring and sliding window."""
        trainer = self._trainer
        trainer.set_deep_supervision_enabled(False)
        predictor = nnUNetPredictor(device=_CPU, allow_tqdm=False)
        predictor.manual_initialization(
            trainer.network,
            trainer.plans_manager,
            trainer.configuration_manager,
            [trainer.network.state_dict()],
            trainer.dataset_json,
            _TRAINER,
            trainer.inference_allowed_mirroring_axes,
        )
        found = predictor.predict_from_files_sequential([[str(path)] for path in images], None)
        # It reads the axes of a volume the other way round.
        return [np.asarray(one).transpose() > 0 for one in found]

    def close(self) -> None:
        """End the processes that augment."""
        for loader in (self._trainer.dataloader_train, self._trainer.dataloader_val):
            if hasattr(loader, "_finish"):
                loader._finish()

    def _set_length(self, seconds: float) -> None:
        trainer = self._trainer
        before = deepcopy(trainer.network.state_dict())
        trainer.network.train()
        self._step()
        slices, spent = self.train(_TRIED)
        steps = slices / trainer.batch_size / spent * seconds
        trainer.network.load_state_dict(before)
        self._steps = 0
        trainer.num_epochs = max(1, round(steps))
        trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()

    def _step(self) -> int:
        batch: dict[str, Any] = next(self._trainer.dataloader_train)
        self._trainer.train_step(batch)
        return len(batch["data"])


@contextmanager
def planned(data: DecathlonDataModule, folder: Path) -> Iterator[Path]:
    """The training and validation cases, planned and preprocessed; nnU-Net's variables are set.

    Args:
        data: Whose split and classes are taken; all labels that it marks are merged.
        folder: An empty one.

    Yields:
        The folder.
    """
    places = {f"nnUNet_{part}": str(folder / part) for part in ("raw", "preprocessed", "results")}
    _write_cases(data, folder / "raw" / _NAME)
    split = json.dumps([{part: list(data.split_cases(part)) for part in ("train", "val")}])
    before = {name: os.environ.get(name) for name in places}
    os.environ.update(places)
    try:
        workers = os.cpu_count() or 1
        extract_fingerprints([_NUMBER], num_processes=workers)
        plan_experiments([_NUMBER])
        preprocess([_NUMBER], _PLANS, (_CONFIGURATION,), (workers,))
        (_preprocessed(folder) / "splits_final.json").write_text(split, encoding="utf-8")
        yield folder
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def volume_dice(data: DecathlonDataModule, case: Case, predicted: NDArray[np.bool_]) -> float:
    """Dice of a predicted volume ``(X, Y, Z)`` and the merged truth of its case."""
    truth = _merged(data, case.label)[0]
    both = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / both if both else 1.0


def _write_cases(data: DecathlonDataModule, folder: Path) -> None:
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    names = {*data.split_cases("train"), *data.split_cases("val")}
    for case in data.task.cases:
        if case.name in names:
            copyfile(case.image, folder / "imagesTr" / f"{case.name}_0000.nii.gz")
            truth, affine = _merged(data, case.label)
            label = nibabel.Nifti1Image(truth.astype(np.uint8), affine)  # type: ignore[no-untyped-call]
            label.to_filename(folder / "labelsTr" / f"{case.name}.nii.gz")
    content = {
        "channel_names": {"0": data.task.channels[0]},
        "labels": {"background": 0, "foreground": 1},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def _merged(data: DecathlonDataModule, label: Path) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """The voxels of all labels that the DataModule marks, and where they lie."""
    volume = nibabel.Nifti1Image.from_filename(label)
    return np.isin(np.asanyarray(volume.dataobj), data.classes.values), volume.affine


def _preprocessed(folder: Path) -> Path:
    return folder / "preprocessed" / _NAME
