"""Runs trials on Ray Tune: on the cores of this machine, or on a cluster.

``ray_environment.prepare_environment`` has to be called before this is imported.
"""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from errors import InputError
from sweeps.grid import Resources
from sweeps.leftovers import end_leftovers, own_folder
from sweeps.one_at_a_time import held
from sweeps.trial import Job, Progress, run_with_retries, wait_for_ends
from tracking.store import project_dir

_FIELDS = tuple(field.name for field in dataclasses.fields(Progress))


class Reporter(tune.Callback):
    """Hands on what trials report.

    Args:
        update: Called with the key and the progress of a trial.
    """

    def __init__(self, update: Callable[[str, Progress], None] | None = None) -> None:
        self._update = update

    def __reduce__(self) -> tuple[type["Reporter"], tuple[()]]:
        """Tune keeps notes of its settings; a terminal cannot be kept."""
        return Reporter, ()

    def on_trial_result(
        self,
        iteration: int,
        trials: list[TuneTrial],
        trial: TuneTrial,
        result: dict[Any, Any],
        **info: Any,  # noqa: ANN401
    ) -> None:
        """Called by Tune with each report."""
        if self._update is not None and "state" in result:
            self._update(result["key"], Progress(**{name: result[name] for name in _FIELDS}))


def run_on_ray(
    jobs: Sequence[Job],
    resources: Resources,
    update: Callable[[str, Progress], None],
    *,
    address: str | None,
    folder: Path,
) -> None:
    """Run trials, as many at once as there are cores and GPUs for.

    Args:
        jobs: The trials.
        resources: Of each.
        update: Called with the key and the progress of a trial whenever that changes.
        address: Of a cluster, whose machines see this folder and the store under the same names;
            None begins Ray on this machine alone, and ends it.
        folder: Where Tune keeps its notes.

    Raises:
        InputError: If no machine has the resources of a trial, or the cluster does not answer.
    """
    scratch = Path(tempfile.gettempdir()) / f"segstress-ray-{os.getuid()}"
    with held(scratch.with_suffix(".lock"), 0) as lock:
        if address is None and lock is None:
            msg = (
                "sweep: found another one that runs on this machine, expected its cores free; wait "
                "for it, or give the --address of a cluster"
            )
            raise InputError(msg)
        if address is None:
            end_leftovers(own_folder(scratch))
        _run(jobs, resources, Reporter(update), address=address, folder=folder, scratch=scratch)


def _run(
    jobs: Sequence[Job],
    resources: Resources,
    reporter: Reporter,
    *,
    address: str | None,
    folder: Path,
    scratch: Path,
) -> None:
    _connect(address, scratch)
    try:
        if address is None:
            _check_resources(ray.cluster_resources(), resources)  # type: ignore[no-untyped-call]
        by_key = {job.trial.key: job for job in jobs}
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(_run_reporting, jobs=by_key),
                {"cpu": resources.cpus, "gpu": resources.gpus},
            ),
            param_space={"key": tune.grid_search(list(by_key))},
            tune_config=tune.TuneConfig(
                trial_name_creator=lambda trial: str(trial.config["key"]),
                trial_dirname_creator=lambda trial: str(trial.config["key"]),
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                verbose=0,
                log_to_file=False,
                callbacks=[reporter],
                failure_config=tune.FailureConfig(max_failures=resources.retries),
            ),
        )
        tuner.fit()
    finally:
        ray.shutdown()
        if address is None:
            end_leftovers(scratch)
            shutil.rmtree(folder / "tune", ignore_errors=True)
        wait_for_ends(jobs)


def _connect(address: str | None, scratch: Path) -> None:
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "ERROR",
        "runtime_env": {"env_vars": {"PYTHONPATH": str(project_dir())}},
    }
    if address is None:
        options |= {
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(scratch),
        }
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        msg = f"--address {address}: Ray does not answer ({reason:.200}); check the address"
        raise InputError(msg) from error


def _check_resources(there: dict[str, float], wanted: Resources) -> None:
    for name, number in (("CPU", wanted.cpus), ("GPU", wanted.gpus)):
        if there.get(name, 0) < number:
            msg = (
                f"sweep: found {there.get(name, 0):g} {name}s on this machine, expected {number:g} "
                f"for a trial; lower trial.{name.lower()}s, or give the --address of a cluster"
            )
            raise InputError(msg)


def _run_reporting(config: dict[str, str], jobs: dict[str, Job]) -> None:
    """What Ray calls in a process of its own."""
    job = jobs[config["key"]]

    def report(progress: Progress) -> None:
        tune.report({"key": job.trial.key, **dataclasses.asdict(progress)})

    report(run_with_retries(job, report))
