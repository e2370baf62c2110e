"""A sweep that is killed, its driver and then a worker, ends whole when it is called again."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from sweeps.leftovers import is_running
from sweeps.one_at_a_time import held
from tests.places import ROOT, Place, make_place, with_store

EPOCHS = 6


def begin(place: Place) -> subprocess.Popen[bytes]:
    with (place.folder / "sweep.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), "sweep", str(place.folder / "eight.yaml")],
            cwd=place.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": place.uri},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def processes(words: str) -> dict[int, str]:
    """Command lines of the processes that hold some words."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line and is_running(int(entry.name)) and int(entry.name) != os.getpid():
            found[int(entry.name)] = line
    return found


def checkpoints(place: Place) -> set[str]:
    return {path.parent.name for path in place.store.glob("checkpoints/*/last.ckpt")}


def wait_for_checkpoints(place: Place, count: int, sweep: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 400
    while len(checkpoints(place)) < count:
        assert sweep.poll() is None, (place.folder / "sweep.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_sweep_ends_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = with_store(make_place(tmp_path_factory.mktemp("killed"), cases=10), tmp_path_factory)
    (place.folder / "eight.yaml").write_text(
        f"""
options:
  config: [{place.config}]
  trainer.max_epochs: {EPOCHS}
  test_after_fit: true
grid: {{model.loss: [bce, bce+dice], seed_everything: [0, 1, 2, 3]}}
trial: {{cpus: 1, retries: 2}}
""",
        encoding="utf-8",
    )
    sweep = begin(place)
    wait_for_checkpoints(place, 1, sweep)
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    begun = checkpoints(place)
    # What it began ends with it; its trials go on from their checkpoints.
    deadline = time.monotonic() + 60
    while processes(str(place.config)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes(str(place.config))

    sweep = begin(place)
    wait_for_checkpoints(place, len(begun) + 2, sweep)
    workers = [pid for pid, line in processes("ray::").items() if "_run_reporting" in line]
    trials = [pid for pid, line in processes(str(place.config)).items() if "minder.py" not in line]
    assert workers or trials
    os.kill((workers or trials)[0], signal.SIGKILL)
    assert sweep.wait(1200) == 0, (place.folder / "sweep.log").read_text()

    runs = [place.client.get_run(run_id) for run_id in place.run_ids()]
    trained = [run for run in runs if "trial" in run.data.tags]
    assert len(trained) == 8
    assert {run.info.status for run in trained} == {"FINISHED"}
    assert len({run.data.tags["trial"] for run in trained}) == 8
    assert begun <= {run.info.run_id for run in trained}
    for run in trained:
        assert "test/dice" in run.data.metrics
        history = place.client.get_metric_history(run.info.run_id, "val/dice")
        assert Counter(one.step for one in history) == Counter(range(EPOCHS))
    # Interrupted ones were not begun anew.
    logs = [path.read_text() for path in place.store.glob("sweeps/*.log")]
    assert sum("--ckpt_path" in log for log in logs) >= len(begun)
    (parent,) = [run for run in runs if "sweep_key" in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert not processes(str(place.folder))
    assert not processes(f"segstress-ray-{os.getuid()}/")
    # Called again, there is nothing to do.
    assert begin(place).wait(300) == 0
    assert len(place.run_ids()) == len(runs)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_runs_once_an_interrupted_sweep_has_ended(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = with_store(make_place(tmp_path_factory.mktemp("stopped"), cases=8), tmp_path_factory)
    (place.folder / "eight.yaml").write_text(
        f"""
options: {{config: [{place.config}], trainer.max_epochs: 5000}}
grid: {{seed_everything: [0, 1]}}
trial: {{cpus: 1}}
""",
        encoding="utf-8",
    )
    sweep = begin(place)
    wait_for_checkpoints(place, 1, sweep)
    (stopped, *_) = [
        pid for pid, line in processes(str(place.config)).items() if "minder.py" not in line
    ]
    os.kill(stopped, signal.SIGSTOP)
    sweep.send_signal(signal.SIGINT)
    log = place.folder / "sweep.log"
    assert sweep.wait(120) == 130, log.read_text()
    assert not processes(str(place.config))
    assert "running" not in log.read_text().splitlines()[-1]
    assert "Traceback" not in log.read_text()
    for lock in place.store.glob("sweeps/*.lock"):
        with held(lock, 0) as free:
            assert free is not None
    (parent,) = [
        run for run in map(place.client.get_run, place.run_ids()) if "sweep_key" in run.data.tags
    ]
    assert parent.info.status == "FAILED"
    assert "trials/running" not in parent.data.metrics
