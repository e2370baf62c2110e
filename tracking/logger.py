"""One run in MLflow: metrics that survive a kill, curves, pictures and files."""

import json
import logging
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from errors import InputError
from tracking.delivery import Delivery, finish, patience
from tracking.environment import git_revision, versions
from tracking.interrupts import interrupts_held
from tracking.spool import Entry, Spool
from tracking.store import ensure_experiment, open_client, runs_dir, tracking_uri

_log = logging.getLogger(__name__)
_LONGEST_WAIT_AFTER_FAILURE_S = 10.0  # somebody has asked the run to end, or waits for its error
_REASON_LENGTH = 200

Measurement = tuple[str, int, int, float]


class RunLogger(Logger):
    """Writes a run: what Lightning and the callbacks log, into MLflow.

    Whatever is written goes into the run's spool on disk and from there, in a thread of its own,
    to the store (see ``tracking.delivery``): a store that is away or slow neither ends nor delays
    a training.

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
        self._delivery: Delivery | None = None
        self._sent: dict[str, list[Measurement]] = {}
        self._run_id: str | None = None
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._evaluates = False
        self._published: set[str] = set()  # keys that the dashboards know, or will
        self._pictured: set[str] = set()

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
        """Open the run, or create it; does nothing if it is open.

        What an earlier process left in the run's spool is delivered first. A new run needs a
        store that answers, since its id comes from there; one that has a spool here does not.

        Raises:
            InputError: If the store cannot be opened, or does not take a new run.
        """
        if self._delivery is not None:
            return
        patience()
        uri = tracking_uri()
        client, entries = self._find_or_create(uri)
        spool = Spool(str(self._run_id))
        spool.claim(uri)
        connect = partial(open_client, uri) if client is None else partial(_given, client)
        self._delivery = Delivery(spool, connect)
        for entry in entries:
            self._delivery.append(entry)
        self._delivery.wake()

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
    def send(self) -> None:
        """Hand over the metrics that are kept."""
        if not self.unsent:
            return
        sent = self.unsent
        facts = {"values": sent, "evaluates": self._evaluates}
        name = self._append(Entry("metrics", facts))
        self.unsent = []
        self._sent = {**self._waiting(), name: sent}
        self._publish({key for key, *_ in sent})

    def undelivered(self) -> list[Measurement]:
        """The metrics that the store does not have yet: what a checkpoint keeps.

        A run can then go on from the checkpoint alone, wherever that is taken.
        """
        return [one for sent in self._waiting().values() for one in sent] + self.unsent

    @rank_zero_only
    def log_file(self, path: Path, folder: str) -> None:
        """Store a file with the run.

        Args:
            path: The file; it may be removed afterwards.
            folder: Folder among the run's artifacts; a file of the same name is replaced.
        """
        self._append(Entry("file", {"path": f"{folder}/{path.name}"}, path.read_bytes()))

    @rank_zero_only
    def log_text(self, text: str, file: str) -> None:
        """Store a text with the run, under a path among its artifacts."""
        self._append(Entry("file", {"path": file}, text.encode()))

    @rank_zero_only
    def log_picture(self, png: bytes, key: str, step: int = 0) -> None:
        """Store a picture, as a file and for the grid that lays runs side by side.

        Args:
            png: The picture.
            key: Its key, such as ``saliency/hippocampus_003``: the same in every run.
            step: The epoch. The same key and step again replaces the picture.
        """
        self._append(Entry("picture", {"key": key, "step": step}, png))
        self._pictured.add(key)

    @rank_zero_only
    def flush(self) -> bool:
        """Wait until the store has everything that was handed over.

        Returns:
            Whether it has; False where it is away for longer than a run waits at its end.
        """
        return self._delivery is None or self._delivery.wait(patience())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Hand over what is left, close the run and wait for the store.

        A training that failed sends nothing: what its last checkpoint holds is sent when it goes
        on from there, and the rest is measured again then.

        Args:
            status: Lightning's word: ``success`` or ``failed``.
        """
        if self._delivery is None:
            return
        succeeded = status == "success"
        if succeeded or self._evaluates:
            self.send()
        self._publish(self._pictured)
        if not self._evaluates:
            self._append(_status("FINISHED" if succeeded else "FAILED"))
        longest_s = patience()
        if not succeeded:
            longest_s = min(longest_s, _LONGEST_WAIT_AFTER_FAILURE_S)
        finish(self._delivery, longest_s)

    def _publish(self, keys: set[str]) -> None:
        """Have the experiment's dashboards show keys that are new in this run."""
        if not keys <= self._published:
            self._published |= keys
            self._append(Entry("dashboards"))

    def _waiting(self) -> dict[str, list[Measurement]]:
        names = set(() if self._delivery is None else self._delivery.spool.names())
        return {name: sent for name, sent in self._sent.items() if name in names}

    def _append(self, entry: Entry) -> str:
        self.open()
        if self._delivery is None:
            msg = "a run is written on rank zero only"
            raise RuntimeError(msg)
        return self._delivery.append(entry)

    def _find_or_create(self, uri: str) -> tuple[MlflowClient | None, list[Entry]]:
        """The store, None where it is away, and what it is to be told about the run."""
        try:
            client = open_client(uri)
        except InputError:
            if self._run_id is None or Spool(self._run_id).address is None:
                raise
            _log.warning("The tracking store does not answer yet: run %s goes on.", self._run_id)
            return None, self._resumed()
        try:
            if self._run_id is not None and not _has_run(client, self._run_id):
                _log.warning(
                    "Run %s made the checkpoint but is not in this store: a new run is opened.",
                    self._run_id,
                )
                self._tags["segstress.checkpoint_from"] = self._run_id
                self._run_id, self._evaluates = None, False
            return client, self._created(client) if self._run_id is None else self._resumed()
        except MlflowException as error:
            reason = " ".join(str(error).split())[:_REASON_LENGTH]
            msg = f"tracking store {uri}: no run can be opened ({reason}); try again when it can"
            raise InputError(msg) from error

    def _created(self, client: MlflowClient) -> list[Entry]:
        if self.experiment_name is None:
            msg = "RunLogger has no experiment; give it a name"
            raise ValueError(msg)
        experiment = ensure_experiment(client, self.experiment_name)
        tags = {"segstress.revision": git_revision(), **self._tags}
        run = client.create_run(experiment, run_name=self.run_name, tags=tags)
        self._run_id = str(run.info.run_id)
        made_with = json.dumps(versions(), indent=1).encode()
        return [
            Entry("describe", {"params": self._params, "tags": {}}),
            Entry("file", {"path": "environment.json"}, made_with),
        ]

    def _resumed(self) -> list[Entry]:
        if self._evaluates:
            return []
        return [
            _status("RUNNING"),
            Entry("describe", {"params": self._params, "tags": self._tags}),
        ]


def _status(status: str) -> Entry:
    return Entry("status", {"status": status, "time": int(time.time() * 1000)})


def _given(client: MlflowClient) -> MlflowClient:
    return client


def _has_run(client: MlflowClient, run_id: str) -> bool:
    experiments = [found.experiment_id for found in client.search_experiments()]
    query = f"attributes.run_id = '{run_id}'"
    return bool(client.search_runs(experiments, query, max_results=1))
