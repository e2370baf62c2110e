"""What a checkpoint brings, what a user says, and into which run it is written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.run_state import CHECKPOINT_KEY
from datamodules.datamodule import DecathlonDataModule
from robustness.counts import read_counts
from tests.places import ATTACKS, TASK, Place, make_place, with_store

FLAGS = ["--data.fold", "1", "--model.loss", "bce+focal", "--seed_everything", "3"]


class InterruptOnce(Callback):
    """Raises when an epoch begins, unless it has done so before; a file remembers it."""

    def __init__(self, epoch: int, memory: str) -> None:
        self.epoch = epoch
        self.memory = Path(memory)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch and not self.memory.exists():
            self.memory.touch()
            msg = "interrupted by a test"
            raise RuntimeError(msg)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, str]:
    """A run of its own, since the tests here write into it."""
    place = with_store(make_place(tmp_path_factory.mktemp("fitted")), tmp_path_factory)
    assert place.run("fit", "--config", str(place.config), *FLAGS) == 0
    (run_id,) = place.run_ids()
    return place, run_id


@pytest.fixture
def place(fitted: tuple[Place, str]) -> Place:
    return fitted[0]


@pytest.fixture
def run_id(fitted: tuple[Place, str]) -> str:
    return fitted[1]


@pytest.fixture
def last(fitted: tuple[Place, str]) -> Path:
    return fitted[0].checkpoint(fitted[1])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands run from any folder and leave nothing there."""
    monkeypatch.chdir(tmp_path)
    yield
    assert [path.name for path in tmp_path.iterdir() if path.name == "lightning_logs"] == []


def test_a_run_says_what_it_is(place: Place, run_id: str) -> None:
    stored = place.stored(run_id)
    assert stored.status == "FINISHED"
    expected = {"task": TASK, "loss": "bce+focal", "seed": "3", "fold": "1", "epochs": "2"}
    assert expected.items() <= stored.params.items()
    assert stored.params["network"]
    assert all(len(value) <= 100 for value in stored.params.values())
    run = place.client.get_run(run_id)
    assert place.client.get_experiment(run.info.experiment_id).name == TASK
    data = DecathlonDataModule(
        root=str(place.task.parent),
        task=TASK,
        fold=1,
        size=(32, 32),
        cache_dir=str(place.folder / "cache"),
    )
    prints = data.fingerprints("train")
    assert stored.tags["segstress.data"] == prints["data"]
    assert stored.tags["segstress.split"] == prints["split"]
    assert stored.tags["segstress.revision"]


def test_a_training_logs_every_epoch_once(place: Place, run_id: str) -> None:
    stored = place.stored(run_id).metrics
    for key in (
        "train/loss",
        "train/loss/bce/foreground",
        "train/loss/focal/foreground",
        "val/loss",
        "val/dice",
        "val/dice/foreground",
        "val/iou",
    ):
        assert [step for step, _ in stored[key]] == [0, 1], key
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_.-/")
    assert all(set(key) <= allowed for key in stored)


def test_the_artifacts_of_a_run_are_there(place: Place, run_id: str, last: Path) -> None:
    assert place.run("validate", "--ckpt_path", str(last), "--robustness.pictures", "1") == 0
    paths = place.paths(run_id)
    assert "robustness/val/counts.parquet" in paths
    assert "robustness/val/saliency.npz" in paths
    assert "environment.json" in paths
    assert [path for path in paths if path.startswith("saliency/")]
    assert [path for path in paths if path.startswith("attacks/")]
    config = place.config_of(run_id, "fit")
    assert config["model"]["loss"] == "bce+focal"
    assert config["data"]["fold"] == 1
    names = [attack["init_args"]["name"] for attack in config["robustness"]["attacks"]]
    assert names == [attack["init_args"]["name"] for attack in ATTACKS]


def test_clean_counts_are_the_logged_dice(place: Place, run_id: str) -> None:
    counts = read_counts(place.artifact(run_id, "robustness/val/counts.parquet"))
    frame = counts.frame[counts.frame["attack"] == "clean"]
    dice = (2 * frame["tp"] / (2 * frame["tp"] + frame["fp"] + frame["fn"])).mean()
    logged = place.client.get_run(run_id).data.metrics["val/dice"]
    assert logged == pytest.approx(dice, abs=1e-12)


def test_an_evaluation_uses_what_the_run_was_made_with(
    place: Place, run_id: str, last: Path
) -> None:
    assert place.run("test", "--ckpt_path", str(last)) == 0
    assert place.run_ids() == [run_id]
    made, used = place.config_of(run_id, "fit"), place.config_of(run_id, "test")
    assert used["data"] == made["data"]
    assert used["model"] == made["model"]
    assert used["robustness"] == made["robustness"]
    assert used["seed_everything"] == 3
    stored = place.stored(run_id)
    assert stored.status == "FINISHED"
    assert len(stored.metrics["test/dice"]) == 1
    assert "test/loss/focal/foreground" in stored.metrics
    assert [step for step, _ in stored.metrics["test/dice"]] == [1]  # of the last epoch
    counts = read_counts(place.artifact(run_id, "robustness/test/counts.parquet"))
    data = DecathlonDataModule(**_data_of(made))
    assert sorted(set(counts.frame["case"])) == list(data.split_cases("test"))
    assert counts.metadata["split"] == data.fingerprints("test")["split"]


def test_evaluating_again_changes_nothing(place: Place, run_id: str, last: Path) -> None:
    for command in ("validate", "test"):
        assert place.run(command, "--ckpt_path", str(last)) == 0
        before = place.stored(run_id)
        assert place.run(command, "--ckpt_path", str(last)) == 0
        assert place.stored(run_id) == before
    assert place.run_ids() == [run_id]


def test_validate_finds_what_fit_found(place: Place, run_id: str, last: Path) -> None:
    before = place.stored(run_id)
    counts = read_counts(place.artifact(run_id, "robustness/val/counts.parquet"))
    assert place.run("validate", "--ckpt_path", str(last)) == 0
    after = place.stored(run_id)
    assert after.metrics.items() >= before.metrics.items()
    again = read_counts(place.artifact(run_id, "robustness/val/counts.parquet"))
    pd.testing.assert_frame_equal(again.frame, counts.frame)
    assert again.metadata == counts.metadata


def test_the_batch_size_changes_no_count(place: Place, run_id: str, last: Path) -> None:
    found = []
    for size in ("7", "16"):
        assert place.run("test", "--ckpt_path", str(last), "--data.eval_batch_size", size) == 0
        path = place.artifact(run_id, "robustness/test/counts.parquet")
        found.append(read_counts(path))
        assert place.config_of(run_id, "test")["data"]["eval_batch_size"] == int(size)
    pd.testing.assert_frame_equal(found[0].frame, found[1].frame)
    assert found[0].metadata == found[1].metadata


def test_options_and_yaml_win_over_the_checkpoint(
    place: Place, run_id: str, last: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("robustness: {seed: 9}\ndata: {eval_batch_size: 3}\n", encoding="utf-8")
    arguments = ["--ckpt_path", str(last), "--config", str(file), "--model.loss", "dice"]
    assert place.run("test", *arguments, "--data.eval_batch_size", "5") == 0
    used = place.config_of(run_id, "test")
    assert used["model"]["loss"] == "dice"
    assert used["robustness"]["seed"] == 9
    assert used["data"]["eval_batch_size"] == 5  # the option wins over the YAML
    assert used["data"]["fold"] == 1  # the checkpoint over the default
    assert place.run_ids() == [run_id]


def test_a_checkpoint_of_another_store_gives_a_new_run(
    place: Place, run_id: str, last: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = with_store(Place(tmp_path_factory.mktemp("other")), tmp_path_factory)
    assert other.run("test", "--ckpt_path", str(last)) == 0
    (new,) = other.run_ids()
    assert new != run_id
    stored = other.stored(new)
    assert stored.status == "FINISHED"
    assert stored.tags["segstress.checkpoint_from"] == run_id
    assert stored.params["loss"] == "bce+focal"
    assert "robustness/test/counts.parquet" in stored.artifacts


def test_an_interrupted_run_goes_on_under_its_own_flags(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    whole = with_store(make_place(tmp_path_factory.mktemp("whole")), tmp_path_factory)
    assert whole.run("fit", "--config", str(whole.config), *FLAGS) == 0
    place = with_store(make_place(tmp_path_factory.mktemp("cut")), tmp_path_factory)
    memory = str(place.folder / "interrupted")
    callbacks = (
        "[{class_path: tests.commands.test_learning.InterruptOnce, "
        f"init_args: {{epoch: 1, memory: {memory}}}}}]"
    )
    arguments = ["--config", str(place.config), *FLAGS, "--trainer.callbacks", callbacks]
    with pytest.raises(RuntimeError, match="interrupted by a test"):
        place.run("fit", *arguments)
    (run_id,) = place.run_ids()
    assert place.run("fit", "--ckpt_path", str(place.checkpoint(run_id))) == 0
    assert place.run_ids() == [run_id]
    (expected_id,) = whole.run_ids()
    stored, expected = place.stored(run_id), whole.stored(expected_id)
    assert stored.status == expected.status == "FINISHED"
    assert stored.metrics == expected.metrics
    assert stored.params == expected.params
    config = place.config_of(run_id, "fit")
    assert config["data"]["fold"] == 1
    assert config["model"]["loss"] == "bce+focal"
    assert config["seed_everything"] == 3
    assert config["trainer"]["max_epochs"] == 2
    weights, others = (
        torch.load(here.checkpoint(one), weights_only=True)["state_dict"]
        for here, one in ((place, run_id), (whole, expected_id))
    )
    assert all(torch.equal(weights[name], others[name]) for name in others)


def test_a_finished_run_resumed_stays_as_it_is(place: Place, run_id: str, last: Path) -> None:
    assert place.run("test", "--ckpt_path", str(last)) == 0
    before, weights = place.stored(run_id), last.read_bytes()
    assert place.run("fit", "--ckpt_path", str(last)) == 0
    after = place.stored(run_id)
    assert after.metrics == before.metrics
    assert after.status == "FINISHED"
    assert last.read_bytes() == weights
    changed = {path for path in before.artifacts if before.artifacts[path] != after.artifacts[path]}
    assert changed <= {"config/fit.yaml"}


@pytest.mark.parametrize("resumes", [False, True])
def test_test_after_fit_scores_the_last_weights_once(
    resumes: bool, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    place = with_store(make_place(tmp_path_factory.mktemp("both")), tmp_path_factory)
    assert place.run("fit", "--config", str(place.config), "--test_after_fit", "true") == 0
    (run_id,) = place.run_ids()
    last = str(place.checkpoint(run_id))
    if resumes:
        assert place.run("fit", "--ckpt_path", last, "--test_after_fit", "true") == 0
    stored = place.stored(run_id)
    assert stored.status == "FINISHED"
    assert [step for step, _ in stored.metrics["test/dice"]] == [1]
    assert [step for step, _ in stored.metrics["test/topn_random/dice"]] == [0, 1]
    assert place.run("test", "--ckpt_path", last) == 0
    again = place.stored(run_id)
    assert again.metrics == stored.metrics
    sha = again.artifacts["robustness/test/counts.parquet"]
    assert sha == stored.artifacts["robustness/test/counts.parquet"]


def test_the_same_seed_gives_the_same_counts_and_another_does_not(
    place: Place, run_id: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def counts(seed: str) -> pd.DataFrame:
        other = with_store(Place(tmp_path_factory.mktemp("seed")), tmp_path_factory)
        flags = [*FLAGS, "--seed_everything", seed]
        assert other.run("fit", "--config", str(place.config), *flags) == 0
        (new,) = other.run_ids()
        return read_counts(other.artifact(new, "robustness/val/counts.parquet")).frame

    first = read_counts(place.artifact(run_id, "robustness/val/counts.parquet")).frame
    pd.testing.assert_frame_equal(counts("3"), first)
    assert not counts("4").equals(first)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--trainer.check_val_every_n_epoch", "2", "--trainer.max_epochs", "3"],
        ["--trainer.limit_val_batches", "0"],
        ["--trainer.logger", "false"],
        ["--trainer.enable_checkpointing", "false"],
        ["--trainer.fast_dev_run", "true"],
        ["--trainer.num_sanity_val_steps", "2"],
        ["--robustness.attacks", "[]"],
        ["--data.merge_labels", "false"],
        ["--data.labels", "[Front]"],
        ["--model.channels", "[4]"],
        ["--data.num_workers", "1"],
    ],
    ids=lambda arguments: arguments[0].removeprefix("--"),
)
def test_settings_that_a_user_may_choose_do_train(
    arguments: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = with_store(make_place(tmp_path_factory.mktemp("chosen")), tmp_path_factory)
    assert place.run("fit", "--config", str(place.config), *arguments) == 0
    logs = not {"--trainer.logger", "--trainer.fast_dev_run"} & set(arguments)
    runs = place.run_ids()
    assert len(runs) == logs
    if logs:
        stored = place.stored(runs[0])
        assert stored.status == "FINISHED"
        assert "train/loss" in stored.metrics
        last = place.checkpoint(runs[0])
        assert last.exists() == ("--trainer.enable_checkpointing" not in arguments)
        if last.exists():
            held = torch.load(last, weights_only=True)
            assert held["epoch"] == int(stored.params["epochs"]) - 1
            assert held[CHECKPOINT_KEY]["run_id"] == runs[0]


def _data_of(config: dict[str, Any]) -> dict[str, Any]:
    return {**config["data"], "size": tuple(config["data"]["size"])}


def test_what_makes_another_loss_of_the_same_terms_is_in_its_name(
    fitted: tuple[Place, str], tmp_path: Path
) -> None:
    place = Place(fitted[0].folder)
    table = tmp_path / "weights.csv"
    table.write_text("case,weight\nblob_001,2\n", encoding="utf-8")
    options = [
        *("--config", str(place.config), "--trainer.max_epochs", "1", "--model.loss", "dice"),
        *("--robustness.attacks", "[]", "--model.outputs", "softmax"),
        *("--model.class_weights", "median_frequency", "--data.case_weights", str(table)),
    ]
    before = set(place.run_ids())
    assert place.run("fit", *options) == 0
    (run_id,) = set(place.run_ids()) - before
    label = "dice (outputs=softmax, class_weights=median_frequency, case_weights=weights.csv)"
    run = place.client.get_run(run_id)
    assert run.data.params["loss"] == label
    assert run.info.run_name == f"{label} seed 0"

    # The table weighs cases in training: an evaluation does without it.
    table.unlink()
    assert place.run("test", "--ckpt_path", str(place.checkpoint(run_id))) == 0
    assert place.client.get_run(run_id).data.params["loss"] == label


def test_a_network_is_evaluated_under_a_loss_of_other_parameters(
    fitted: tuple[Place, str],
) -> None:
    place = Place(fitted[0].folder)
    options = ["--config", str(place.config), "--trainer.max_epochs", "1"]
    before = set(place.run_ids())
    assert place.run("fit", *options, "--model.loss", "bce+0.01*t_loss") == 0
    (run_id,) = set(place.run_ids()) - before
    last = str(place.checkpoint(run_id))
    assert place.run("validate", "--ckpt_path", last, "--model.loss", "bce") == 0
    assert place.run("validate", "--ckpt_path", last, "--model.loss", "0.5*t_loss+bce") == 0
