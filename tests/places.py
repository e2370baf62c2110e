"""A task that trains in seconds, made on the fly, and what tests of whole commands share."""

import hashlib
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import nibabel
import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient

import main
from tracking.logger import RunLogger
from tracking.reading import StoredRun, list_runs
from tracking.store import open_client

# Lightning's handlers keep what stood for stderr when it was first imported, which pytest has
# closed since; without them its lines still reach pytest's own log.
for _name in ("lightning", "lightning.fabric", lightning.__name__):
    logging.getLogger(_name).handlers.clear()

ROOT = Path(__file__).resolve().parent.parent
TASK = "Task90_Blob"
NewLogger = Callable[[], RunLogger]
SHAPE = (16, 24, 5)

# One attack without random values and one with, of few points.
ATTACKS: list[dict[str, Any]] = [
    {
        "class_path": "robustness.pixel_attacks.LevelAttack",
        "init_args": {"name": "top5_beyond_range", "levels": [0, 0.4, 1.0]},
    },
    {
        "class_path": "robustness.pixel_attacks.CountAttack",
        "init_args": {"name": "topn_random", "counts": [2, 8], "repeats": 2},
    },
]
SETTINGS: dict[str, Any] = {
    "data": {"task": TASK, "size": [32, 32], "batch_size": 8, "eval_batch_size": 8},
    "model": {"channels": [4, 8, 8]},
    "trainer": {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False},
    "robustness": {"attacks": ATTACKS, "batch_size": 16, "pictures": 0},
    "saliency": {"cases": 0},
}


class PromptLogger(RunLogger):
    """Waits after each write until the store has it, so that a test can look there at once."""

    def open(self) -> None:
        super().open()
        self.flush()

    def send(self) -> None:
        super().send()
        self.flush()

    def log_file(self, path: Path, folder: str) -> None:
        super().log_file(path, folder)
        self.flush()

    def log_text(self, text: str, file: str) -> None:
        super().log_text(text, file)
        self.flush()

    def log_picture(self, png: bytes, key: str, step: int = 0) -> None:
        super().log_picture(png, key, step)
        self.flush()


@dataclass(frozen=True)
class Place:
    """Data, cache and store of one test, apart from those of all others."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "tiny.yaml"

    @property
    def task(self) -> Path:
        return self.folder / "data" / TASK

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.store}/mlflow.db"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)

    def checkpoint(self, run_id: str, name: str = "last") -> Path:
        return self.store / "checkpoints" / run_id / f"{name}.ckpt"

    def run(self, *arguments: str) -> int:
        """Call ``main`` in this process, on one thread so that results repeat bit for bit."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with self.environment():
                return main.main(list(arguments))
        finally:
            torch.set_num_threads(threads)

    def refused(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        """The one line that wrong input ends with; nothing stored is lost."""
        capsys.readouterr()
        with self.unharmed():
            assert self.run(*arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert error.startswith("error: ")
        return error

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``main.py`` in a process of its own."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), *arguments],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": self.uri},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def environment(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            yield

    @contextmanager
    def unharmed(self) -> Iterator[None]:
        """Whatever is done inside, the store holds afterwards what it held before."""
        files, rows = self._contents()
        yield
        files_after, rows_after = self._contents()
        assert files.items() <= files_after.items()
        assert rows <= rows_after

    def _contents(self) -> tuple[dict[str, str], set[str]]:
        """Every file of the store, and each row of its database as text."""
        files = {
            str(path.relative_to(self.store)): _sha256(path)
            for path in self.store.rglob("*")
            if path.is_file() and not path.name.startswith("mlflow.")
        }
        with sqlite3.connect(self.store / "mlflow.db") as database:
            return files, set(database.iterdump())

    def run_ids(self) -> list[str]:
        """All runs of all experiments, the newest first."""
        if not (self.store / "mlflow.db").exists():
            return []
        experiments = [found.experiment_id for found in self.client.search_experiments()]
        return [str(run.info.run_id) for run in self.client.search_runs(experiments)]

    def runs_by_loss(self) -> dict[str, StoredRun]:
        """The runs of the tiny task; one a loss, the oldest where there are several."""
        with self.environment():
            return {run.params["loss"]: run for run in list_runs(TASK)}

    def stored(self, run_id: str) -> "Stored":
        client = self.client
        run = client.get_run(run_id)
        return Stored(
            status=run.info.status,
            params=dict(run.data.params),
            tags={
                key: value for key, value in run.data.tags.items() if key.startswith("segstress.")
            },
            metrics={
                key: [
                    (kept.step, float(kept.value).hex())
                    for kept in sorted(
                        client.get_metric_history(run_id, key), key=lambda kept: kept.step
                    )
                ]
                for key in run.data.metrics
            },
            artifacts={path: _sha256(self.artifact(run_id, path)) for path in self.paths(run_id)},
        )

    def paths(self, run_id: str) -> list[str]:
        """All files of a run, as paths among its artifacts."""
        folder = self.artifact(run_id, "")
        files = (path for path in folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(folder)) for path in files)

    def artifact(self, run_id: str, path: str) -> Path:
        uri = self.client.get_run(run_id).info.artifact_uri
        return Path(str(uri).removeprefix("file://")) / path

    def config_of(self, run_id: str, command: str) -> dict[str, Any]:
        text = self.artifact(run_id, f"config/{command}.yaml").read_text(encoding="utf-8")
        config: dict[str, Any] = yaml.safe_load(text)
        return config


@dataclass(frozen=True)
class Stored:
    """Everything a store holds of a run; values as hexadecimal text, so that NaN equals NaN."""

    status: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, list[tuple[int, str]]]
    artifacts: dict[str, str]


def real_task(root: Path, name: str) -> Path:
    """The folder of a task of real volumes; skips the test where somebody has others only."""
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"SEGSTRESS_DATA has no {name}")
    return folder


def make_place(folder: Path, *, cases: int = 16) -> Place:
    """Write the task and a YAML that trains on it in seconds; the store is opened by nobody yet."""
    place = Place(folder)
    write_task(place.task, cases=cases)
    settings = {**SETTINGS, "data": {**SETTINGS["data"]}}
    settings["data"]["root"] = str(place.task.parent)
    settings["data"]["cache_dir"] = str(folder / "cache")
    place.config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return place


def with_store(place: Place, factory: pytest.TempPathFactory) -> Place:
    """Give a place a store without runs: a copy of one, since its creation takes seconds."""
    blank = Place(factory.getbasetemp() / "blank")
    if not blank.store.exists():
        with blank.environment():
            open_client()
    place.store.mkdir(parents=True)
    shutil.copy(blank.store / "mlflow.db", place.store)
    return place


def trained(factory: pytest.TempPathFactory) -> tuple[Place, str]:
    """The run that all test modules read, and none writes to: fold 1, ``bce+focal``, two epochs."""
    place = Place(factory.getbasetemp() / "trained")
    if not place.folder.exists():
        with_store(make_place(place.folder), factory)
        flags = ["--data.fold", "1", "--model.loss", "bce+focal"]
        if place.run("fit", "--config", str(place.config), *flags) != 0:
            msg = "the run that the tests share could not be trained"
            raise RuntimeError(msg)
    return place, place.run_ids()[0]


def write_task(folder: Path, *, cases: int, seed: int = 0) -> None:
    """Write volumes of ``SHAPE``, each with a bright ball that two labels share."""
    generator = np.random.default_rng(seed)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    grid = np.indices(SHAPE)
    entries = []
    for index in range(cases):
        center = np.array([8.0, 12.0, 2.0]) + generator.uniform(-2, 2, 3)
        offset = (grid - center[:, None, None, None]) * np.array([1, 1, 2])[:, None, None, None]
        halves = np.where(grid[1] < center[1], 1, 2)
        label = np.where((offset**2).sum(0) < 16, halves, 0).astype(np.uint8)
        image = 100 * (label > 0) + generator.normal(0, 15, SHAPE)
        file = f"blob_{index:03d}.nii.gz"
        save_volume(folder / "imagesTr" / file, image.astype(np.float32))
        save_volume(folder / "labelsTr" / file, label)
        entries.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    content = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "front", "2": "back"},
        "training": entries,
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def save_volume(path: Path, voxels: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)  # type: ignore[no-untyped-call]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
