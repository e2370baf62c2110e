"""Several processes give the very same counts as one, and write everything once."""

import math
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from robustness.counts import CountsFile, read_counts
from tests.places import Place, Stored, make_place, with_store

pytestmark = pytest.mark.slow

TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
ONE = ["--trainer.accelerator", "cpu", "--trainer.devices", "1"]
# Terms over a batch as a whole see that of their own process: bce and dice do not.
SETTINGS = ["--robustness.pictures", "1", "--model.loss", "bce+dice", "--saliency.cases", "2"]
# More than one, so that processes share them.
METHODS = """
saliency:
  methods:
    - class_path: robustness.attribution_gradients.Gradient
    - class_path: robustness.attribution_gradients.SmoothGrad
    - class_path: robustness.attribution_layers.GradCam
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Path]:
    """A run of one process, and its checkpoint."""
    place = with_store(make_place(tmp_path_factory.mktemp("fitted")), tmp_path_factory)
    settings = place.config.read_text(encoding="utf-8").replace("saliency:\n  cases: 0\n", "")
    place.config.write_text(settings + METHODS, encoding="utf-8")
    assert place.run("fit", "--config", str(place.config), *SETTINGS) == 0
    (run_id,) = place.run_ids()
    return place, place.checkpoint(run_id)


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """The text that a command wrote; it must not hang, whatever its processes wait for."""
    try:
        out, error = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        pytest.fail("the command hangs")
    assert process.returncode == status, out + error
    return out + error


def evaluated(
    command: str, checkpoint: Path, flags: list[str], factory: pytest.TempPathFactory
) -> tuple[Place, str]:
    """Evaluate into a store of its own, which gives a new run."""
    place = with_store(Place(factory.mktemp("evaluated")), factory)
    finish(place.start(command, "--ckpt_path", str(checkpoint), *flags))
    (run_id,) = place.run_ids()
    return place, run_id


def counts_of(place: Place, run_id: str, split: str) -> CountsFile:
    return read_counts(place.artifact(run_id, f"robustness/{split}/counts.parquet"))


def same_metrics(first: Stored, second: Stored) -> None:
    """Equal keys and steps; equal values, but for losses, which are sums of floating point."""
    assert first.metrics.keys() == second.metrics.keys()
    for key, history in first.metrics.items():
        others = second.metrics[key]
        if "/loss" in key:
            assert [step for step, _ in history] == [step for step, _ in others]
            for (_, one), (_, other) in zip(history, others, strict=True):
                assert math.isclose(float.fromhex(one), float.fromhex(other), rel_tol=1e-5), key
        else:
            assert history == others, key


@pytest.mark.parametrize("command", ["validate", "test"])
def test_two_processes_count_what_one_counts(
    command: str, fitted: tuple[Place, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    split = {"validate": "val", "test": "test"}[command]
    _, checkpoint = fitted
    one, one_id = evaluated(command, checkpoint, ONE, tmp_path_factory)
    two, two_id = evaluated(command, checkpoint, TWO, tmp_path_factory)
    expected, found = counts_of(one, one_id, split), counts_of(two, two_id, split)
    pd.testing.assert_frame_equal(found.frame, expected.frame)
    assert found.metadata == expected.metadata
    same_metrics(two.stored(two_id), one.stored(one_id))
    assert f"{split}/dice" in one.stored(one_id).metrics
    assert two.paths(two_id) == one.paths(one_id)
    for name in ("saliency.npz", "maps.npz", "spread.parquet", "trust.csv"):
        file = f"robustness/{split}/{name}"
        assert two.stored(two_id).artifacts[file] == one.stored(one_id).artifacts[file], name


def test_two_processes_predict_what_one_predicts(
    fitted: tuple[Place, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    _, checkpoint = fitted
    written = []
    for flags in (ONE, TWO):
        folder = tmp_path_factory.mktemp("predicted")
        output = ["--prediction.output", str(folder), "--prediction.probabilities", "true"]
        evaluated("predict", checkpoint, [*flags, *output], tmp_path_factory)
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    one, two = written
    assert two.keys() == one.keys()
    assert {name for name in one if two[name] != one[name]} <= {"predictions.json"}  # has its run


def test_a_training_in_two_processes_writes_everything_once(
    fitted: tuple[Place, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data, checkpoint = fitted
    place = with_store(Place(tmp_path_factory.mktemp("two")), tmp_path_factory)
    finish(place.start("fit", "--config", str(data.config), *SETTINGS, *TWO))
    (run_id,) = place.run_ids()
    stored = place.stored(run_id)
    reference = data.stored(checkpoint.parent.name)
    assert stored.status == "FINISHED"
    assert stored.artifacts.keys() == reference.artifacts.keys()
    steps = {key: [step for step, _ in history] for key, history in stored.metrics.items()}
    assert steps == {
        key: [step for step, _ in history] for key, history in reference.metrics.items()
    }
    folder = place.checkpoint(run_id).parent
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert len(list(folder.parent.iterdir())) == 1

    # One process finds in the same weights what the two have found.
    alone, alone_id = evaluated("validate", place.checkpoint(run_id), ONE, tmp_path_factory)
    found, expected = counts_of(place, run_id, "val"), counts_of(alone, alone_id, "val")
    pd.testing.assert_frame_equal(found.frame, expected.frame)
    assert found.metadata == expected.metadata


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--data.task", "Task90_Blub"], "Task90_Blub"),
        (["--data.size", "[16,16]", "--data.cache_dir", "new"], "--data.size"),
        (["--trainer.max_epochs", "-1"], "--trainer.max_epochs"),
    ],
    ids=["options", "volumes", "schedule"],
)
def test_wrong_input_ends_all_processes(
    flags: list[str],
    word: str,
    fitted: tuple[Place, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = with_store(Place(tmp_path_factory.mktemp("wrong")), tmp_path_factory)
    process = place.start("fit", "--config", str(fitted[0].config), *TWO, *flags)
    said = finish(process, status=2)
    assert word in said
    assert "Traceback" not in said
