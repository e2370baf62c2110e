"""Hands trials to SLURM, for clusters without Ray: an array of jobs, one for each trial."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from errors import InputError
from sweeps.grid import Resources
from sweeps.trial import Job, Progress, run_with_retries
from tracking.store import project_dir


def submit_to_slurm(
    jobs: Sequence[Job], resources: Resources, *, folder: Path, minutes: int, cluster: str | None
) -> list[str]:
    """Submit trials and return at once; each machine must see this folder and the store.

    Args:
        jobs: The trials.
        resources: Of each.
        folder: Where SLURM's scripts and outputs go.
        minutes: Time limit of each.
        cluster: ``local`` runs the jobs as processes here; None finds SLURM.

    Returns:
        Ids of the jobs.

    Raises:
        InputError: If there is no SLURM here.
    """
    # It would otherwise set up the logging of the whole process, and close what others write to.
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    import submitit  # noqa: PLC0415

    executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    if cluster is None and executor.cluster != "slurm":
        msg = (
            "--engine slurm: found no sbatch on this machine, expected a login node of a SLURM "
            "cluster; use --engine ray"
        )
        raise InputError(msg)
    # A job is a pickle of this project's classes, and begins in any folder.
    clone = str(project_dir())
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([clone, known] if known else [clone])
    # Some clusters give jobs none of the environment that they were submitted from.
    executor.update_parameters(slurm_setup=[f"export PYTHONPATH={shlex.quote(clone)}"])
    executor.update_parameters(
        name="segstress",
        timeout_min=minutes,
        cpus_per_task=resources.cpus,
        gpus_per_node=-(-resources.gpus // 1) or None,
    )
    submitted = executor.map_array(run_quietly, jobs)
    return [str(job.job_id) for job in submitted]


def run_quietly(job: Job) -> str:
    """Run a trial where nobody looks; its output and the store say how far it is.

    Args:
        job: The trial.

    Returns:
        How it ended.
    """

    def say_nothing(_: Progress) -> None:
        return

    return run_with_retries(job, say_nothing).state
