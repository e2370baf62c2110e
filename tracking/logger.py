"""One run in MLflow: metrics that survive a kill, curves, pictures and files."""

import io
import json
import logging
import tempfile
import time
import uuid
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from PIL import Image

from tracking.environment import git_revision, versions
from tracking.interrupts import interrupts_held
from tracking.store import ensure_experiment, open_client, runs_dir

_log = logging.getLogger(__name__)
_BATCH = 1000  # the most metrics that MLflow takes in one call
_THUMBNAIL = 512  # pixels; the grid of pictures loads these

Measurement = tuple[str, int, int, float]


class RunLogger(Logger):
    """Writes a run: what Lightning and the callbacks log, into MLflow.

    Metrics are kept until :meth:`send`, which is called after the checkpoint that holds them
    (see ``callbacks.run_state``). Sent again with their first timestamps they change nothing, so
    a run that was killed and resumed holds every value once.

    Args:
        experiment: Name of the experiment; the task's name where none is given.
        run_name: Name of a new run; the loss and the seed where none is given.
    """

    def __init__(self, experiment: str | None = None, run_name: str | None = None) -> None:
        super().__init__()
        self.experiment_name = experiment
        self.run_name = run_name
        self.unsent: list[Measurement] = []
        self._client: MlflowClient | None = None
        self._run_id: str | None = None
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._evaluates = False

    @property
    def name(self) -> str | None:
        """Name of the experiment."""
        return self.experiment_name

    @property
    def version(self) -> str | None:
        """Id of the run; None before it is opened and on ranks other than zero."""
        return self._run_id

    @property
    def save_dir(self) -> str:
        """Where checkpoints and reports are kept."""
        return str(runs_dir())

    def describe(self, params: Mapping[str, object], tags: Mapping[str, str]) -> None:
        """Say what the run is, before it is opened.

        Args:
            params: Few and short; they label the run wherever it is shown.
            tags: Longer facts, such as fingerprints.
        """
        self._params |= {key: str(value) for key, value in params.items()}
        self._tags |= tags

    def adopt(self, run_id: str, *, evaluate: bool) -> None:
        """Go on with the run that made a checkpoint.

        Args:
            run_id: The run.
            evaluate: True where the run is only evaluated: its status stays as it is, and values
                that it already holds are not written twice.
        """
        self._run_id = run_id
        self._evaluates = evaluate

    @rank_zero_only
    @interrupts_held()
    def open(self) -> None:
        """Open the run, or create it; does nothing if it is open."""
        if self._client is not None:
            return
        client = open_client()
        if self._run_id is not None and not _has_run(client, self._run_id):
            _log.warning(
                "Run %s made the checkpoint but is not in this store: a new run is opened.",
                self._run_id,
            )
            self._tags["segstress.checkpoint_from"] = self._run_id
            self._run_id, self._evaluates = None, False
        if self._run_id is None:
            self._create(client)
        elif not self._evaluates:
            client.update_run(self._run_id, status="RUNNING")
            self._describe_resumed(client, self._run_id)
        self._client = client

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep metrics for the next :meth:`send`, with the present time.

        Args:
            metrics: Value by key.
            step: A whole number; SegStress counts epochs.
        """
        now = int(time.time() * 1000)
        self.unsent += [(key, step or 0, now, float(value)) for key, value in metrics.items()]

    @rank_zero_only
    def log_curve(self, key: str, columns: Mapping[str, Sequence[float]]) -> None:
        """Keep a curve: several metrics at the same steps 0, 1, 2, ...

        Args:
            key: Prefix of the metrics, such as ``test/topn_at_max``.
            columns: Values by name; one of them is the axis.
        """
        for name, values in columns.items():
            for step, value in enumerate(values):
                self.log_metrics({f"{key}/{name}": value}, step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: object, **__: object) -> None:
        """Nothing: params are few and come by :meth:`describe`; the whole YAML is an artifact."""

    @rank_zero_only
    @interrupts_held()
    def send(self) -> None:
        """Write the metrics that are kept."""
        if not self.unsent:
            return
        client, run_id = self._opened()
        metrics = [Metric(key, value, now, step) for key, step, now, value in self.unsent]
        if self._evaluates:
            metrics = _without_known(client, run_id, metrics)
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        self.unsent = []

    @rank_zero_only
    @interrupts_held()
    def log_file(self, path: Path, folder: str) -> None:
        """Store a file with the run.

        Args:
            path: The file.
            folder: Folder among the run's artifacts; a file of the same name is replaced.
        """
        client, run_id = self._opened()
        client.log_artifact(run_id, str(path), folder)

    @rank_zero_only
    @interrupts_held()
    def log_text(self, text: str, file: str) -> None:
        """Store a text with the run, under a path among its artifacts."""
        client, run_id = self._opened()
        client.log_text(run_id, text, file)

    @rank_zero_only
    @interrupts_held()
    def log_picture(self, png: bytes, key: str, step: int = 0) -> None:
        """Store a picture, as a file and for the grid that lays runs side by side.

        Args:
            png: The picture.
            key: Its key, such as ``saliency/hippocampus_003``: the same in every run.
            step: The epoch. The same key and step again replaces the picture.
        """
        client, run_id = self._opened()
        folder, _, name = key.rpartition("/")
        thumbnail = Image.open(io.BytesIO(png)).convert("RGB")
        thumbnail.thumbnail((_THUMBNAIL, _THUMBNAIL))
        stem = grid_file_stem(key, step)
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch, f"{name}.png")
            plain.write_bytes(png)
            client.log_artifact(run_id, str(plain), folder)
            full = Path(scratch, f"{stem}.png")
            full.write_bytes(png)
            client.log_artifact(run_id, str(full), "images")
            small = Path(scratch, f"{stem}+compressed.webp")
            thumbnail.save(small)
            client.log_artifact(run_id, str(small), "images")
        client.set_tag(run_id, "mlflow.loggedImages", "True")

    @rank_zero_only
    @interrupts_held()
    def finalize(self, status: str) -> None:
        """Send what is left and close the run.

        A training that failed sends nothing: what its last checkpoint holds is sent when it goes
        on from there, and the rest is measured again then.

        Args:
            status: Lightning's word: ``success`` or ``failed``.
        """
        if self._client is None:
            return
        if status == "success" or self._evaluates:
            self.send()
        if not self._evaluates:
            ended = "FINISHED" if status == "success" else "FAILED"
            self._client.set_terminated(str(self._run_id), ended)

    def _opened(self) -> tuple[MlflowClient, str]:
        self.open()
        if self._client is None or self._run_id is None:
            msg = "a run is written on rank zero only"
            raise RuntimeError(msg)
        return self._client, self._run_id

    def _create(self, client: MlflowClient) -> None:
        if self.experiment_name is None:
            msg = "RunLogger has no experiment; give it a name"
            raise ValueError(msg)
        experiment = ensure_experiment(client, self.experiment_name)
        tags = {"segstress.revision": git_revision(), **self._tags}
        run = client.create_run(experiment, run_name=self.run_name, tags=tags)
        self._run_id = str(run.info.run_id)
        params = [Param(key, value) for key, value in self._params.items()]
        client.log_batch(self._run_id, params=params)
        client.log_text(self._run_id, json.dumps(versions(), indent=1), "environment.json")

    def _describe_resumed(self, client: MlflowClient, run_id: str) -> None:
        held = client.get_run(run_id).data.params
        for key, value in self._params.items():
            if key in held and held[key] != value:
                _log.warning(
                    "Run %s began with %s=%s and goes on with %s; its param stays as it was.",
                    run_id,
                    key,
                    held[key],
                    value,
                )
        new = [Param(key, value) for key, value in self._params.items() if key not in held]
        tags = [RunTag(key, value) for key, value in self._tags.items()]
        client.log_batch(run_id, params=new, tags=tags)


def grid_file_stem(key: str, step: int) -> str:
    """The name by which MLflow's grid of pictures knows a file: key, step, time, unique id.

    MLflow's own call draws the id at random and would show a picture twice after a resume; here
    it follows from key and step.

    Args:
        key: Key of the picture.
        step: Its step.

    Returns:
        The file's name without its ending.
    """
    unique = uuid.uuid5(uuid.NAMESPACE_URL, f"{key}@{step}")
    return f"{key.replace('/', '~')}+step+{step}+timestamp+{step}+{unique}"


def _has_run(client: MlflowClient, run_id: str) -> bool:
    experiments = [found.experiment_id for found in client.search_experiments()]
    query = f"attributes.run_id = '{run_id}'"
    return bool(client.search_runs(experiments, query, max_results=1))


def _without_known(client: MlflowClient, run_id: str, metrics: list[Metric]) -> list[Metric]:
    """Leave out what the run holds at the same step: a curve drawn twice is a sawtooth."""
    known = {
        (key, stored.step): stored.value
        for key in {metric.key for metric in metrics}
        for stored in client.get_metric_history(run_id, key)
    }
    changed = sorted(
        {
            metric.key
            for metric in metrics
            if (metric.key, metric.step) in known
            and abs(known[metric.key, metric.step] - metric.value) > 1e-9  # noqa: PLR2004
        }
    )
    if changed:
        _log.warning(
            "The run holds other values of %d metrics (%s, ...), which MLflow cannot replace: "
            "its charts keep the first ones, counts.parquet has the new ones.",
            len(changed),
            changed[0],
        )
    return [metric for metric in metrics if (metric.key, metric.step) not in known]
