"""What a wrong file or option does: one line that names it, status 2, and nothing is lost."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from tests.places import TASK, Place, save_volume, trained, write_task

IMAGE, LABEL = "imagesTr/blob_003.nii.gz", "labelsTr/blob_003.nii.gz"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, str]:
    return trained(tmp_path_factory)


@pytest.fixture(scope="module")
def place(run: tuple[Place, str]) -> Place:
    return run[0]


@pytest.fixture
def checkpoint(run: tuple[Place, str]) -> Path:
    return run[0].checkpoint(run[1])


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A whole task, to break something in."""
    folder = tmp_path / "data" / TASK
    write_task(folder, cases=8)
    return folder


def refused(place: Place, capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> str:
    """The one line on standard error that a command ends with."""
    capsys.readouterr()
    with place.unharmed():
        assert place.run(command, "--config", str(place.config), *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


# Wrong data

Break = Callable[[Path], object]


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj).copy()  # type: ignore[attr-defined]


def set_voxel(value: float) -> Break:
    def change(task: Path) -> None:
        image = voxels(task / IMAGE)
        image[2, 3, 1] = value
        save_volume(task / IMAGE, image)

    return change


def set_label(task: Path) -> None:
    label = voxels(task / LABEL)
    label[2, 3, 1] = 7
    save_volume(task / LABEL, label)


def truncate(file: str) -> Break:
    def change(task: Path) -> None:
        content = (task / file).read_bytes()
        (task / file).write_bytes(content[: len(content) // 2])

    return change


def empty(task: Path) -> None:
    shutil.rmtree(task)
    task.mkdir()


def edit_json(key: str, value: object) -> Break:
    def change(task: Path) -> None:
        content = json.loads((task / "dataset.json").read_text(encoding="utf-8"))
        content[key] = value
        (task / "dataset.json").write_text(json.dumps(content), encoding="utf-8")

    return change


WRONG_DATA: dict[str, tuple[Break, list[str]]] = {
    "no folder": (lambda task: shutil.rmtree(task.parent), ["--data.root", "no such folder"]),
    "empty folder": (shutil.rmtree, ["--data.root", "empty"]),
    "empty task": (empty, [TASK, "empty"]),
    "no json": (lambda task: (task / "dataset.json").unlink(), [TASK, "dataset.json"]),
    "broken json": (
        lambda task: (task / "dataset.json").write_text('{"training": [', encoding="utf-8"),
        ["dataset.json", "broken JSON"],
    ),
    "no cases": (edit_json("training", []), ["dataset.json", "no training cases"]),
    "absent image": (lambda task: (task / IMAGE).unlink(), ["blob_003.nii.gz", "imagesTr"]),
    "absent label": (lambda task: (task / LABEL).unlink(), ["blob_003.nii.gz", "labelsTr"]),
    "truncated image": (truncate(IMAGE), ["imagesTr/blob_003.nii.gz", "cannot be read"]),
    "truncated label": (truncate(LABEL), ["labelsTr/blob_003.nii.gz", "cannot be read"]),
    "no gz": (
        lambda task: (task / IMAGE).write_bytes(gzip.decompress((task / IMAGE).read_bytes())),
        ["imagesTr/blob_003.nii.gz", "cannot be read"],
    ),
    "shapes": (
        lambda task: save_volume(task / LABEL, voxels(task / LABEL)[:, :, :-1]),
        ["labelsTr/blob_003.nii.gz", "(16, 24, 4)", "(16, 24, 5)"],
    ),
    "nan": (set_voxel(float("nan")), ["imagesTr/blob_003.nii.gz", "NaN or infinite"]),
    "infinite": (set_voxel(float("inf")), ["imagesTr/blob_003.nii.gz", "NaN or infinite"]),
    "label": (set_label, ["labelsTr/blob_003.nii.gz", "7", "0, 1, 2"]),
}


@pytest.mark.parametrize("kind", WRONG_DATA)
def test_wrong_data_is_named(
    kind: str, task: Path, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = WRONG_DATA[kind]
    change(task)
    cache = tmp_path / "cache"
    options = ["--data.root", str(tmp_path / "data"), "--data.cache_dir", str(cache)]
    line = refused(place, capsys, "fit", *options)
    assert all(word in line for word in words), line
    # No half case: what was prepared has its record, and waits for the others to be mended.
    whole = {path.stem for path in cache.glob("*/*.json")}
    assert all(path.stem.rpartition("_")[0] in whole for path in cache.glob("*/*.npy"))
    assert not list(cache.glob("*/*.partial"))


# Wrong options

WRONG_OPTIONS: dict[str, tuple[list[str], list[str]]] = {
    "task": (["--data.task", "Task90_Blub"], ["--data.task", "Task90_Blub", "Task90_Blob"]),
    "loss": (["--model.loss", "bce+dise"], ["dise", "dice", "--model.loss"]),
    "loss syntax": (["--model.loss", "bce++dice"], ["bce++dice"]),
    "loss argument": (["--model.loss", "focal(gama=3)"], ["gama", "gamma"]),
    "loss module": (["--model.loss", "nowhere.at_all:Term"], ["nowhere.at_all"]),
    "attack class": (
        ["--robustness.attacks", "[{class_path: robustness.pixel_attacks.LevelAtack}]"],
        ["LevelAtack", "did you mean robustness.pixel_attacks.LevelAttack", "--robustness.attacks"],
    ),
    "attack name": (
        ["--robustness.attacks", "[{class_path: LevelAtack, init_args: {name: mine}}]"],
        ["LevelAtack", "--robustness.attacks"],
    ),
    "attack ranking": (
        [
            "--robustness.attacks",
            "[{class_path: robustness.pixel_attacks.LevelAttack, "
            "init_args: {name: mine, levels: [0, 1], ranking: gradiant}}]",
        ],
        ["mine", "ranking", "gradiant", "did you mean gradient?"],
    ),
    "attack setting": (
        [
            "--robustness.attacks",
            "[{class_path: robustness.pixel_attacks.LevelAttack, "
            "init_args: {name: mine, levels: [0, 1], pixel: 3}}]",
        ],
        ["--robustness.attacks: LevelAttack: pixel: unknown setting"],
    ),
    "attack value": (
        [
            "--robustness.attacks",
            "[{class_path: robustness.pixel_attacks.LevelAttack, "
            "init_args: {name: mine, levels: [few]}}]",
        ],
        ["--robustness.attacks: LevelAttack: levels: found few, expected a number"],
    ),
    "attack without levels": (
        [
            "--robustness.attacks",
            "[{class_path: robustness.pixel_attacks.LevelAttack, init_args: {name: mine}}]",
        ],
        ["--robustness.attacks: LevelAttack: levels: missing"],
    ),
    "attack twice": (
        [
            "--robustness.attacks+",
            "[{class_path: robustness.pixel_attacks.LevelAttack, "
            "init_args: {name: topn_random, levels: [0, 1]}}]",
        ],
        ["--robustness.attacks", "topn_random"],
    ),
    "picture attack": (
        ["--robustness.pictures", "1", "--robustness.picture_attack", "top5"],
        ["--robustness.picture_attack", "top5", "top5_beyond_range"],
    ),
    "class": (["--data.labels", "[frond]"], ["--data.labels", "frond", "front"]),
    "fold": (["--data.fold", "9"], ["fold", "9"]),
    "size": (["--data.size", "[30, 30]"], ["--data.size", "30"]),
    "small size": (["--data.size", "[16, 16]"], ["--data.size", "16 x 24"]),
    "batch": (["--data.batch_size", "0"], ["--data.batch_size", "0"]),
    "option": (["--model.los", "bce"], ["--model.los", "--model.loss"]),
    "group": (["--modell.loss", "bce"], ["--modell.loss"]),
    "type": (["--data.fold", "first"], ["--data.fold", "first", "whole number"]),
    "type of a limit": (
        ["--trainer.limit_val_batches", "few"],
        ["--trainer.limit_val_batches", "few"],
    ),
    "choice": (["--trainer.precision", "33-bit"], ["--trainer.precision", "33-bit"]),
    "norm": (["--model.norm", "layer"], ["--model.norm", "layer"]),
    "accelerator": (["--trainer.accelerator", "abacus"], ["abacus"]),
    "strategy": (["--trainer.strategy", "by_hand"], ["by_hand"]),
    "devices": (["--trainer.devices", "0"], ["devices", "0"]),
    "channels": (["--model.channels", "[]"], ["--model.channels"]),
    "split": (["--robustness.splits", "[train]"], ["--robustness.splits", "train"]),
    "class weights": (
        ["--model.class_weights", "rarest"],
        ["--model.class_weights", "rarest", "a list, each a number", "median_frequency"],
    ),
    "loss of a softmax": (["--model.loss", "ce"], ["'ce'", "--model.outputs", "softmax"]),
    "negative class weight": (["--model.class_weights", "[-1]"], ["--model.class_weights", "-1"]),
    "ignore label": (["--data.ignore_label", "frond"], ["--data.ignore_label", "frond", "front"]),
    "epochs": (["--trainer.max_epochs", "-1"], ["--trainer.max_epochs"]),
    "seed": (["--seed_everything", "-5"], ["seed", "-5"]),
    "no seed": (["--seed_everything", "true"], ["--seed_everything", "true"]),
}


@pytest.mark.parametrize("kind", WRONG_OPTIONS)
def test_a_wrong_option_is_named(
    kind: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, words = WRONG_OPTIONS[kind]
    line = refused(place, capsys, "fit", *arguments)
    assert all(word in line for word in words), line


def test_more_gpus_than_a_machine_has_are_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--trainer.accelerator", "gpu", "--trainer.devices", "999"]
    assert "gpu" in refused(place, capsys, "fit", *options).lower()


@pytest.mark.parametrize(
    ("objective", "options", "words"),
    [
        ("bcee", [], ["attack pgd", "bcee", "did you mean bce?"]),
        ("training_loss", ["--model.outputs", "softmax", "--model.loss", "ce"], ["training_loss"]),
    ],
)
def test_an_objective_that_there_is_not_is_refused_before_training(
    objective: str,
    options: list[str],
    words: list[str],
    place: Place,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {"name": "pgd", "epsilons": [0.01], "objective": objective}
    attack = {"class_path": "robustness.pgd.Pgd", "init_args": settings}
    config = tmp_path / "attacks.yaml"
    config.write_text(json.dumps({"robustness": {"attacks": [attack]}}), encoding="utf-8")
    before = place.run_ids()
    line = refused(place, capsys, "fit", "--config", str(config), *options)
    assert all(word in line for word in words), line
    assert place.run_ids() == before


def test_a_rule_for_weights_of_a_class_that_no_case_holds_is_refused(
    place: Place, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (task / "labelsTr").glob("*.nii.gz"):
        label = voxels(path)
        label[label == 2] = 1
        save_volume(path, label)
    options = ["--data.root", str(task.parent), "--data.merge_labels", "false"]
    line = refused(place, capsys, "fit", *options, "--model.class_weights", "inverse_frequency")
    assert "inverse_frequency, but class" in line
    assert "in no training slice" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {loss: [bce\n", ["wrong.yaml"]),
        ("just a text", ["wrong.yaml"]),
        ("modle: {loss: bce}", ["modle"]),
        ("model: {losss: bce}", ["losss"]),
        ("data: {fold: first}", ["data.fold", "first"]),
        ("\x00\x01", ["wrong.yaml"]),
        (None, ["wrong.yaml"]),
    ],
    ids=["broken", "no mapping", "group", "key", "type", "bytes", "missing"],
)
def test_a_wrong_yaml_is_named(
    text: str | None,
    words: list[str],
    place: Place,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "wrong.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    line = refused(place, capsys, "fit", "--config", str(file))
    assert all(word in line for word in words), line


# Wrong checkpoints


@pytest.mark.parametrize("command", ["validate", "test"])
def test_an_evaluation_needs_a_checkpoint(
    command: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(place, capsys, command)
    assert "--ckpt_path" in line
    assert "last.ckpt" in line


@pytest.mark.parametrize("command", ["fit", "test"])
@pytest.mark.parametrize("kind", ["missing", "folder", "truncated", "text", "foreign"])
def test_a_wrong_checkpoint_is_named(
    kind: str,
    command: str,
    place: Place,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "wrong.ckpt"
    content = checkpoint.read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "text":
        path.write_text("no checkpoint", encoding="utf-8")
    elif kind == "foreign":
        torch.save({"state_dict": {}, "epoch": 3}, path)
    line = refused(place, capsys, command, "--ckpt_path", str(path))
    assert "--ckpt_path" in line
    assert str(path) in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model.channels", "[4,8,16]"],
        ["--data.merge_labels", "false"],
        ["--model.norm", "instance"],
    ],
    ids=["channels", "classes", "norm"],
)
@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_network_that_the_checkpoint_does_not_fit_is_named(
    command: str,
    arguments: list[str],
    place: Place,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refused(place, capsys, command, "--ckpt_path", str(checkpoint), *arguments)
    assert "--ckpt_path" in line


def test_a_schedule_that_is_at_its_end_is_not_prolonged(
    place: Place, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--ckpt_path", str(checkpoint), "--trainer.max_epochs", "9"]
    line = refused(place, capsys, "fit", *arguments)
    assert "--ckpt_path" in line
    assert place.client.get_run(checkpoint.parent.name).info.status == "FINISHED"


# The store


def test_a_broken_store_is_named_and_kept(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Place(tmp_path)
    other.store.mkdir()
    (other.store / "mlflow.db").write_bytes(b"no database " * 99)
    assert other.run("fit", "--config", str(place.config)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mlflow.db" in line
    assert (other.store / "mlflow.db").read_bytes() == b"no database " * 99
