"""Checkpoints lie in the folder of their run, are never half-written, and run no code."""

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.checkpoint import AtomicCheckpointIO, run_checkpoints
from callbacks.run_state import CHECKPOINT_KEY, RunState
from tests.callbacks.toy import ToyModule, train_loader, trainer, val_loader
from tests.places import NewLogger, Place
from tracking.logger import RunLogger


class Scores(Callback):
    """Gives ``val/dice`` the value that is set for each epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("val/dice", self.values[trainer.current_epoch], logger=False)


class Scored(ToyModule):
    """Leaves ``val/dice`` to a callback."""

    def validation_step(self, batch: dict[str, object], batch_idx: int) -> None:
        pass


class InterruptionError(RuntimeError):
    """What stands for a crash."""


class InterruptAt(Callback):
    """Raises when an epoch begins."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise InterruptionError


def fit(
    logger: RunLogger, scores: list[float], *callbacks: Callback, checkpoint: Path | None = None
) -> Scored:
    module = Scored()
    runner = trainer(
        Scores(scores),
        *callbacks,
        RunState({"model": {"loss": "bce"}}),
        *run_checkpoints(),
        logger=logger,
        epochs=len(scores),
        enable_checkpointing=True,
        plugins=[AtomicCheckpointIO()],
    )
    runner.fit(module, train_loader(), val_loader(), ckpt_path=checkpoint, weights_only=True)
    return module


def test_the_last_and_the_best_epoch_are_kept_in_the_folder_of_the_run(
    place: Place, new_logger: NewLogger
) -> None:
    logger = new_logger()
    module = fit(logger, [0.5, 0.9, 0.7])
    folder = place.store / "checkpoints" / str(logger.version)
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    last = torch.load(folder / "last.ckpt", weights_only=True)
    best = torch.load(folder / "best.ckpt", weights_only=True)
    assert (last["epoch"], best["epoch"]) == (2, 1)
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(last["state_dict"][name], tensor, rtol=0, atol=0)
    assert last[CHECKPOINT_KEY]["run_id"] == logger.version
    assert last[CHECKPOINT_KEY]["settings"] == {"model": {"loss": "bce"}}


def test_two_runs_share_no_folder(place: Place, new_logger: NewLogger) -> None:
    first, second = new_logger(), new_logger()
    fit(first, [0.5])
    before = (place.checkpoint(str(first.version))).read_bytes()
    fit(second, [0.9])
    assert place.checkpoint(str(first.version)).read_bytes() == before
    assert place.checkpoint(str(second.version)).is_file()


def test_the_best_stays_the_best_when_it_comes_first(place: Place, new_logger: NewLogger) -> None:
    logger = new_logger()
    fit(logger, [0.9, 0.5])
    best = torch.load(place.checkpoint(str(logger.version), "best"), weights_only=True)
    assert best["epoch"] == 0


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_the_best_stays_the_best_when_the_run_goes_on(
    epoch: int, place: Place, new_logger: NewLogger
) -> None:
    logger, scores = new_logger(), [0.5, 0.9, 0.7, 0.8]
    with pytest.raises(InterruptionError):
        fit(logger, scores, InterruptAt(epoch))
    run_id = str(logger.version)
    resumed = new_logger()
    resumed.adopt(run_id, evaluate=False)
    fit(resumed, scores, checkpoint=place.checkpoint(run_id))
    last, best = (
        torch.load(place.checkpoint(run_id, name), weights_only=True) for name in ("last", "best")
    )
    assert (last["epoch"], best["epoch"]) == (3, 1)


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    written = {"state_dict": {"weight": torch.arange(5.0)}, "epoch": 3, "names": ["a", None]}
    path = tmp_path / "deep" / "er" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(written, path)
    found = AtomicCheckpointIO().load_checkpoint(path)
    torch.testing.assert_close(found.pop("state_dict"), written.pop("state_dict"))
    assert found == written
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2, "cannot": lambda: None}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def _write_forever(path: Path) -> None:
    number = 0
    while True:
        tensor = torch.full((4_000_000,), float(number))
        AtomicCheckpointIO().save_checkpoint({"epoch": number, "weight": tensor}, path)
        number += 1


# Python 3.12 warns of a fork where threads run; this child only writes files.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_killed_while_it_writes_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    for _ in range(3):
        writer = multiprocessing.get_context("fork").Process(target=_write_forever, args=(path,))
        writer.start()
        assert writer.pid is not None
        deadline = time.monotonic() + 60
        while not (path.exists() and _growing(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.0005)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        found = AtomicCheckpointIO().load_checkpoint(path)
        assert found["weight"].shape == (4_000_000,)
        assert bool((found["weight"] == found["epoch"]).all())
    # At least one of the kills did hit a write.
    assert list(tmp_path.glob("*.partial"))


def _growing(folder: Path) -> bool:
    sizes = []
    for partial in folder.glob("*.partial"):
        try:
            sizes.append(partial.stat().st_size)
        except FileNotFoundError:
            continue
    return any(0 < size < 16_000_000 for size in sizes)


class _Malice:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("trusting", [None, False])
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, trusting: bool | None) -> None:
    target, path = tmp_path / "harm", tmp_path / "last.ckpt"
    torch.save({"epoch": 1, "state_dict": {}, "extra": _Malice(target)}, path)
    with pytest.raises(pickle.UnpicklingError):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=trusting)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists()  # it does run where it is trusted
