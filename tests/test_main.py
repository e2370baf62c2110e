"""The commands, and what a wrong file or option does to them: one line, status 2, nothing lost."""

import gzip
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import main
from tests.places import ROOT, TASK, Place, make_place, save_volume, trained, write_task

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


@pytest.fixture
def _nothing_is_lost(place: Place) -> Iterator[None]:
    """Whatever a test does, the store holds afterwards what it held before."""
    files, rows = contents(place)
    yield
    files_after, rows_after = contents(place)
    assert files.items() <= files_after.items()
    assert rows <= rows_after


def contents(place: Place) -> tuple[dict[str, str], set[str]]:
    """Every file of a store, and each row of its database as text."""
    files = {
        str(path.relative_to(place.store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.store.rglob("*")
        if path.is_file() and not path.name.startswith("mlflow.")
    }
    with sqlite3.connect(place.store / "mlflow.db") as database:
        return files, set(database.iterdump())


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


def refused(place: Place, capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> str:
    capsys.readouterr()
    assert place.run(command, "--config", str(place.config), *arguments) == 2
    return one_line(capsys)


# The commands


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_all_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(arguments) == 0
    listed = capsys.readouterr().out.splitlines()
    for name, command in main.COMMANDS.items():
        (line,) = [line for line in listed if line.split()[:1] == [name]]
        assert command.help in line


@pytest.mark.parametrize("name", sorted(main.COMMANDS))
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main([name, "--help"])
    assert ended.value.code in {0, None}
    assert len(capsys.readouterr().out.splitlines()) > 3


@pytest.mark.parametrize(
    ("name", "nearest"), [("validat", "validate"), ("compair", "compare"), ("xyz", None)]
)
def test_an_unknown_command_answers_with_the_nearest(
    name: str, nearest: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([name]) == 2
    line = one_line(capsys)
    assert name in line
    assert all(command in line for command in main.COMMANDS)
    assert ("did you mean" in line) == (nearest is not None)
    assert f"did you mean {nearest}?" in line or nearest is None


def test_the_options_that_others_rely_on_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("fit", "validate", "test"):
        with pytest.raises(SystemExit):
            main.main([command, "--help"])
        text = capsys.readouterr().out
        for option in ("model.loss", "data.root", "data.task", "data.fold", "data.split_seed"):
            assert f"--{option}" in text
        assert "--seed_everything" in text
        assert "--robustness.attacks" in text
        assert "--ckpt_path" in text


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


@pytest.mark.usefixtures("_nothing_is_lost")
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
    assert not [path for path in cache.glob("*") if path.is_dir()]  # no half store


# Wrong options

WRONG_OPTIONS: dict[str, tuple[list[str], list[str]]] = {
    "task": (["--data.task", "Task90_Blub"], ["--data.task", "Task90_Blub", "Task90_Blob"]),
    "loss": (["--model.loss", "bce+dise"], ["dise", "dice", "--model.loss"]),
    "loss syntax": (["--model.loss", "bce++dice"], ["bce++dice"]),
    "loss argument": (["--model.loss", "focal(gama=3)"], ["gama", "gamma"]),
    "loss module": (["--model.loss", "nowhere.at_all:Term"], ["nowhere.at_all"]),
    "attack class": (
        ["--robustness.attacks", "[{class_path: robustness.pixel_attacks.LevelAtack}]"],
        ["LevelAtack", "did you mean LevelAttack", "--robustness.attacks"],
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
        ["pixel"],
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
    "epochs": (["--trainer.max_epochs", "-1"], ["--trainer.max_epochs"]),
    "seed": (["--seed_everything", "-5"], ["seed", "-5"]),
}


@pytest.mark.usefixtures("_nothing_is_lost")
@pytest.mark.parametrize("kind", WRONG_OPTIONS)
def test_a_wrong_option_is_named(
    kind: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, words = WRONG_OPTIONS[kind]
    line = refused(place, capsys, "fit", *arguments)
    assert all(word in line for word in words), line


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.usefixtures("_nothing_is_lost")
def test_a_machine_without_a_gpu_says_so(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert "gpu" in refused(place, capsys, "fit", "--trainer.accelerator", "gpu").lower()


@pytest.mark.usefixtures("_nothing_is_lost")
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


@pytest.mark.usefixtures("_nothing_is_lost")
@pytest.mark.parametrize("command", ["validate", "test"])
def test_an_evaluation_needs_a_checkpoint(
    command: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(place, capsys, command)
    assert "--ckpt_path" in line
    assert "last.ckpt" in line


@pytest.mark.usefixtures("_nothing_is_lost")
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


@pytest.mark.usefixtures("_nothing_is_lost")
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


@pytest.mark.usefixtures("_nothing_is_lost")
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
    assert "mlflow.db" in one_line(capsys)
    assert (other.store / "mlflow.db").read_bytes() == b"no database " * 99


# In processes of their own, as a user meets it


def in_a_process(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = place.start(*arguments)
    out, error = process.communicate(timeout=240)
    return subprocess.CompletedProcess(arguments, process.returncode, out, error)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The line that a wrong input ends with, after what was said before it was found."""
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line == done.stderr.splitlines()[-1]
    return line


@pytest.mark.slow
@pytest.mark.usefixtures("_nothing_is_lost")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--data.task", "Task90_Blub"], ["--data.task", "Task90_Blob"]),
        (["fit", "--model.loss", "bce+dise"], ["dise", "dice"]),
        (["test", "--ckpt_path", "nowhere.ckpt"], ["--ckpt_path", "nowhere.ckpt"]),
    ],
    ids=["task", "loss", "checkpoint"],
)
def test_a_process_says_one_line_and_ends_with_status_2(
    arguments: list[str], words: list[str], place: Place
) -> None:
    done = in_a_process(place, *arguments, "--config", str(place.config))
    assert done.returncode == 2
    line = last_line(done)
    assert all(word in line for word in words)


@pytest.mark.slow
@pytest.mark.usefixtures("_nothing_is_lost")
def test_wrong_data_in_a_process_is_one_line(task: Path, place: Place, tmp_path: Path) -> None:
    truncate(LABEL)(task)
    options = ["--data.root", str(task.parent), "--data.cache_dir", str(tmp_path / "cache")]
    done = in_a_process(place, "fit", "--config", str(place.config), *options)
    assert done.returncode == 2
    assert LABEL in last_line(done)


def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("_nothing_is_lost")
@pytest.mark.parametrize("pages", [40, 101], ids=["too small", "full while it is written"])
def test_a_full_disk_is_named_and_leaves_no_half_store(
    pages: int, place: Place, tmp_path: Path
) -> None:
    if not may_mount():
        pytest.skip("this user may not mount a small disk in a namespace (unshare -rm)")
    disk = tmp_path / "disk"
    disk.mkdir()
    # The slices take 100 pages of 4 KiB, and their headers more.
    script = (
        f"mount -t tmpfs -o size={pages * 4}k tmpfs {disk} && "
        '"$@"; status=$?; find . -path "*/disk/*" -printf "left %P\\n"; exit $status'
    )
    command = [sys.executable, str(ROOT / "main.py"), "fit", "--config", str(place.config)]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command, "--data.cache_dir", str(disk)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": place.uri},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 2, done.stderr
    line = last_line(done)
    assert str(disk) in line
    assert "MB" in line
    assert "--data.cache_dir" in line
    left = [line for line in done.stdout.splitlines() if line.startswith("left ")]
    assert all(line.endswith(".lock") for line in left), left


@pytest.mark.slow
def test_ctrl_c_ends_a_training_without_a_traceback(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = make_place(tmp_path_factory.mktemp("interrupted"))
    process = place.start("fit", "--config", str(place.config), "--trainer.max_epochs", "500")
    while process.poll() is None and not list(place.store.glob("checkpoints/*/last.ckpt")):
        pass
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=240)
    assert process.returncode not in {0, 2}
    assert "Traceback" not in out + error
    (run_id,) = place.run_ids()
    assert place.client.get_run(run_id).info.status in {"FAILED", "KILLED"}
