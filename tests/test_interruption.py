"""A training that is killed and resumed ends exactly as one that was not."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.places import Place, Stored, make_place

pytestmark = pytest.mark.slow

# Steps of one slice make an epoch last long enough to be killed in.
FLAGS = [
    *("--trainer.max_epochs", "3"),
    *("--data.batch_size", "1"),
    *("--robustness.pictures", "1"),
    *("--model.loss", "bce+batch_dice"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("data"), cases=48)


@pytest.fixture(scope="module")
def undisturbed(data: Place, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, str]:
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    finish(place.start("fit", "--config", str(data.config), *FLAGS))
    (run_id,) = place.run_ids()
    return place, run_id


def finish(process: subprocess.Popen[str]) -> None:
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, out + error


def wait_for(process: subprocess.Popen[str], folder: Path, pattern: str) -> Path:
    """Wait until a file is there; the process must still run then."""
    while not (found := list(folder.glob(pattern))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    return found[0]


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


def comparable(stored: Stored) -> tuple[object, ...]:
    """All of a run but the YAML of its command, which names the checkpoint after a resume."""
    artifacts = {path: sha for path, sha in stored.artifacts.items() if path != "config/fit.yaml"}
    return stored.status, stored.params, stored.tags, stored.metrics, artifacts


def same_weights(first: Path, second: Path) -> bool:
    one, other = (torch.load(path, weights_only=True) for path in (first, second))
    return one["epoch"] == other["epoch"] and all(
        torch.equal(one["state_dict"][name], tensor) for name, tensor in other["state_dict"].items()
    )


@pytest.mark.parametrize(
    ("pattern", "seconds", "epoch"),
    [
        pytest.param("checkpoints/*/last.ckpt", 0.0, 0, id="as the second epoch begins"),
        pytest.param("checkpoints/*/last.ckpt", 0.4, 0, id="in the second epoch"),
        pytest.param("artifacts/*/artifacts/robustness/val/*.parquet", 0.0, 1, id="in the attacks"),
    ],
)
def test_a_killed_training_ends_like_one_that_was_not(
    pattern: str,
    seconds: float,
    epoch: int,
    data: Place,
    undisturbed: tuple[Place, str],
    tmp_path: Path,
) -> None:
    place = Place(tmp_path)
    process = place.start("fit", "--config", str(data.config), *FLAGS)
    wait_for(process, place.store, pattern)
    time.sleep(seconds)
    kill(process)
    (run_id,) = place.run_ids()
    last = place.checkpoint(run_id)
    assert torch.load(last, weights_only=True)["epoch"] == epoch  # the moment was well chosen
    assert place.client.get_run(run_id).info.status == "RUNNING"

    finish(place.start("fit", "--ckpt_path", str(last)))
    assert place.run_ids() == [run_id]
    whole, whole_id = undisturbed
    assert comparable(place.stored(run_id)) == comparable(whole.stored(whole_id))
    assert place.stored(run_id).status == "FINISHED"
    for name in ("last", "best"):
        assert same_weights(place.checkpoint(run_id, name), whole.checkpoint(whole_id, name))


def test_a_training_killed_twice_ends_the_same(
    data: Place, undisturbed: tuple[Place, str], tmp_path: Path
) -> None:
    place = Place(tmp_path)
    process = place.start("fit", "--config", str(data.config), *FLAGS)
    last = wait_for(process, place.store, "checkpoints/*/last.ckpt")
    kill(process)
    first = last.stat().st_mtime_ns
    process = place.start("fit", "--ckpt_path", str(last))
    while last.stat().st_mtime_ns == first:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    kill(process)
    finish(place.start("fit", "--ckpt_path", str(last)))
    (run_id,) = place.run_ids()
    whole, whole_id = undisturbed
    assert comparable(place.stored(run_id)) == comparable(whole.stored(whole_id))
    assert same_weights(last, whole.checkpoint(whole_id))


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_asked_to_stop_goes_on_later(
    stop: signal.Signals, data: Place, undisturbed: tuple[Place, str], tmp_path: Path
) -> None:
    place = Place(tmp_path)
    process = place.start("fit", "--config", str(data.config), *FLAGS)
    last = wait_for(process, place.store, "checkpoints/*/last.ckpt")
    process.send_signal(stop)
    out, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Traceback" not in out + error
    (run_id,) = place.run_ids()
    assert place.client.get_run(run_id).info.status in {"FAILED", "KILLED"}
    finish(place.start("fit", "--ckpt_path", str(last)))
    whole, whole_id = undisturbed
    assert comparable(place.stored(run_id)) == comparable(whole.stored(whole_id))
