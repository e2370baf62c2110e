"""The command that inspects: what it says, what it writes, and how it ends."""

import csv
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.datamodules.inspected import AFFINE, clean_pair, clean_task, image_of, label_of, save
from tests.datamodules.nnunet_raw import as_nnunet
from tests.datamodules.tiny import edit_json
from tests.places import ROOT, Place, real_task

FLIPPED = np.diag([1.0, -1.0, 1.0, 1.0])  # the second axis
ODD = "[red]odd[/red] \x1b[31m"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return clean_task(tmp_path / "data")


def inspect(place: Place, folder: Path, *more: str) -> int:
    return place.run(
        *("inspect", "--root", str(folder.parent), "--task", folder.name),
        *("--output", str(folder.parent.parent / "out"), "--workers", "1", *more),
    )


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "cases.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_clean_task_ends_with_0_and_is_told(
    tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(Place(tmp_path), task) == 0
    printed = capsys.readouterr().out
    for index in range(6):
        assert f"case_{index}" in printed
    assert "6: 6 can be used for training, 0 of them with remarks" in printed
    command = f"--data.root {task.parent} --data.task {task.name} --data.size '[16,16]'"
    assert f"python main.py fit {command}" in printed
    assert "Suspicious" not in printed
    assert "Cannot be used" not in printed
    assert "overlap" not in printed
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["cases.csv", "sheet.png"]
    assert [row["case"] for row in table(out)] == [f"case_{index}" for index in range(6)]
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert min(sheet.size) > 300


@pytest.mark.parametrize("cases", [1, 6])
def test_what_is_suggested_works(
    tmp_path: Path, cases: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line that the command ends with is a whole fit, of few cases as well."""
    place = Place(tmp_path)
    inspect(place, clean_task(tmp_path / "data", cases=cases))
    command = suggested(capsys.readouterr().out)
    small = ["--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu", "--data.cache_dir"]
    assert place.run(*command, *small, str(tmp_path / "cache")) == 0


def test_a_case_that_cannot_be_used_ends_with_1(
    tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_of(task, 2).write_bytes(b"no volume")
    label_of(task, 4).unlink()
    assert inspect(Place(tmp_path), task) == 1
    printed = capsys.readouterr().out
    assert "Cannot be used for training" in printed
    assert "case_2: case_2.nii.gz: BadGzipFile" in printed
    assert f"case_4: {label_of(task, 4)}: found no such file, expected" in printed
    assert "6: 4 can be used for training" in printed
    assert "take them off the list; with --data.on_error skip it goes on" in printed
    assert "--data.split overlap" in printed
    assert "4 different images can be used, fewer than the 5 that folds need" in printed
    usable = {row["case"]: row["usable"] for row in table(tmp_path / "out")}
    assert usable == {f"case_{index}": "no" if index in {2, 4} else "yes" for index in range(6)}


def suggested(printed: str) -> list[str]:
    (line,) = [line for line in printed.splitlines() if "main.py fit" in line]
    return shlex.split(line.partition("python main.py ")[2])


@pytest.mark.parametrize("name", ["Task09_Spleen", "Dataset009_Spleen"])
def test_a_known_task_is_trained_with_its_configuration(
    tmp_path: Path, task: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_json(task, modality={"0": "CT"})
    known = task.rename(task.with_name(name))
    assert inspect(Place(tmp_path), known) == 0
    command = suggested(capsys.readouterr().out)
    assert command[:3] == ["fit", "--config", "conf/task/spleen.yaml"]
    # The window stands in the file, and so does a size, for larger slices than these.
    place = ["--data.root", str(task.parent), "--data.task", name]
    assert command[3:] == [*place, "--data.size", "[16,16]"]
    assert (ROOT / command[2]).is_file()


def test_axes_that_differ_are_turned_alike(
    tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The size that is suggested holds the slices once they are turned."""
    image, label = clean_pair(0)
    for path, voxels in ((image_of(task, 0), image), (label_of(task, 0), label)):
        save(path, voxels.transpose(2, 1, 0)[:, ::-1], AFFINE[:, [2, 1, 0, 3]] @ FLIPPED)
    place = Place(tmp_path)
    assert inspect(place, task) == 0
    printed = capsys.readouterr().out
    assert "RAS in 5, SPR in 1" in printed
    command = suggested(printed)
    assert command[-2:] == ["--data.orientation", "canonical"]
    assert "--data.orientation canonical turns all volumes alike." in printed
    small = ["--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu", "--data.cache_dir"]
    assert place.run(*command, *small, str(tmp_path / "cache")) == 0


def test_a_folder_of_nnunet_is_shown_and_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = as_nnunet(clean_task(tmp_path / "data", cases=6, channels=2))
    place = Place(tmp_path)
    assert inspect(place, folder) == 0
    printed = capsys.readouterr().out
    assert "6: 6 can be used for training, 0 of them with remarks" in printed
    small = ["--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu", "--data.cache_dir"]
    assert place.run(*suggested(printed), *small, str(tmp_path / "cache")) == 0
    (folder / "imagesTr/case_2_0001.nii.gz").unlink()
    assert inspect(place, folder) == 1
    assert "no such file, expected channel 1 (channel 1) of case case_2" in capsys.readouterr().out


def test_what_is_only_suspicious_ends_with_0(
    tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(image_of(task, 5), clean_pair(1)[0])
    assert inspect(Place(tmp_path), task) == 0
    printed = capsys.readouterr().out
    assert "Suspicious" in printed
    assert "case_1: the same image as case_5" in printed


def test_nothing_usable_is_said(
    tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert inspect(Place(tmp_path), task) == 0
    for index in range(6):
        image_of(task, index).write_bytes(b"")
    assert inspect(Place(tmp_path), task) == 1
    assert "There is nothing to train with." in capsys.readouterr().out
    for index in range(6):
        image_of(task, index).unlink()
    assert inspect(Place(tmp_path), task) == 1
    assert "There is nothing to train with." in capsys.readouterr().out
    # No sheet of the earlier call stands beside this table.
    assert [path.name for path in out.iterdir()] == ["cases.csv"]


def test_many_cases_are_cut_short_and_all_shows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = clean_task(tmp_path / "data", cases=13)
    inspect(Place(tmp_path), folder, "--pictures", "2")
    printed = capsys.readouterr().out
    assert "case_12" in printed
    assert "case_6" in printed
    assert "... and 3 more: cases.csv has them, and --all shows them" in printed
    last = sorted(f"case_{index}" for index in range(13))[-1]
    assert last not in printed
    assert len(table(tmp_path / "out")) == 13
    inspect(Place(tmp_path), folder, "--pictures", "0", "--all")
    printed = capsys.readouterr().out
    assert last in printed
    assert "--all shows" not in printed
    assert not (tmp_path / "out" / "sheet.png").exists()


@pytest.mark.parametrize(("width", "tables"), [(90, 2), (250, 1)])
def test_a_narrow_terminal_has_two_tables(
    tmp_path: Path, task: Path, width: int, tables: int
) -> None:
    options = ["--root", str(task.parent), "--task", task.name, "--output", str(tmp_path)]
    reader, terminal = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "inspect", *options, "--pictures", "0"],
        env={**os.environ, "COLUMNS": str(width), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    printed = b""
    # Linux says that the other end is closed by an error.
    with suppress(OSError):
        while chunk := os.read(reader, 4096):
            printed += chunk
    os.close(reader)
    _, error = started.communicate(timeout=100)
    assert (started.returncode, error) == (0, b"")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed.decode())
    lines = plain.splitlines()[: 15 * tables]
    assert sum(line.startswith("case ") for line in lines) == tables
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith("case_3")]
    assert len(rows) == tables
    assert "12 x 16 x 6" in rows[0]
    assert "Front part 0.0768 ml" in rows[-1]


def test_names_from_files_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = clean_task(tmp_path / "data")
    image = folder / "imagesTr" / f"{ODD.replace('/', '')}.nii.gz"
    image_of(folder, 0).rename(image)
    training = json.loads((folder / "dataset.json").read_text())["training"]
    training[0]["image"] = f"imagesTr/{image.name}"
    labels = {"0": "background", "1": "[bold]one", "2": ODD}
    edit_json(folder, training=training, labels=labels)
    assert inspect(Place(tmp_path), folder) == 0
    printed = capsys.readouterr().out
    assert r"[red]odd[red] \x1b[31m" in printed
    assert r"[red]odd[/red] \x1b[31m" in printed
    assert "[bold]one" in printed
    assert "\x1b" not in printed


def test_files_go_beside_the_store_without_output(tmp_path: Path) -> None:
    folder = clean_task(tmp_path / "data", cases=2)
    odd = folder.rename(folder.with_name("..odd task"))
    place = Place(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert place.run("inspect", "--data.root", str(odd.parent), "--data.task", odd.name) == 0
    assert sorted({*tmp_path.iterdir()} - {*before}) == [place.store]
    (written,) = (place.store / "inspected").iterdir()
    assert written.name.startswith("odd_task_")
    assert len(table(written)) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "0"], "--workers: found 0"),
        (["--pictures", "-1"], "--pictures: found -1"),
        (["--pictures", "257"], "--pictures: found 257"),
        (["--task", "Task99"], "unknown task 'Task99'"),
        (["--task", ".."], "found no plain name"),
        (["--root", "nowhere"], "--data.root nowhere: found no such folder"),
        (["--output", "dataset.json"], "--output dataset.json: cannot be written"),
        (["here"], "unrecognized arguments: here"),
    ],
)
def test_wrong_options_are_one_line_and_end_with_2(
    tmp_path: Path,
    task: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(task)
    assert inspect(Place(tmp_path), task, *options) == 2
    caught = capsys.readouterr()
    assert caught.err.startswith("error: ")
    assert caught.err.count("\n") == 1
    assert said in caught.err
    assert caught.out == ""


def test_a_full_disk_leaves_the_files_that_were_there(
    tmp_path: Path, task: Path, tmpfs: list[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [
        *(*tmpfs, "size=64k", str(disk), "sh", "-c"),
        'echo old > "$1/cases.csv"; dd if=/dev/zero of="$1/full" 2> /dev/null; shift; "$@"; '
        'echo "status $?"; cat "$0/cases.csv"; ls -A "$0"',
        str(disk),
        str(disk),
        *(sys.executable, str(ROOT / "main.py"), "inspect", "--root", str(task.parent)),
        *("--task", task.name, "--output", str(disk), "--workers", "1"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines() == ["status 2", "old", "cases.csv", "full"]
    assert ended.stderr.startswith("error: --output ")
    assert ended.stderr.count("\n") == 1


def test_processes_that_are_killed_change_nothing(tmp_path: Path) -> None:
    folder = clean_task(tmp_path / "data", cases=16)
    place = Place(tmp_path)
    assert inspect(place, folder) == 0
    out = tmp_path / "out"
    before = (out / "cases.csv").read_bytes()
    (out / "cases.csv").unlink()
    arguments = ["--root", str(folder.parent), "--task", folder.name, "--output", str(out)]
    started = place.start("inspect", *arguments, "--workers", "2")
    killed = 0
    while started.poll() is None and not killed:
        for child in workers_of(started.pid):
            os.kill(child, signal.SIGKILL)
            killed += 1
        time.sleep(0.005)
    _, error = started.communicate(timeout=200)
    assert killed
    assert started.returncode == 0, error
    assert error == ""
    assert (out / "cases.csv").read_bytes() == before


def workers_of(process: int) -> list[int]:
    """Processes that it started by spawn, but for the tracker of resources."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def test_help_says_how_it_ends_and_needs_no_heavy_import() -> None:
    code = (
        "import sys\n"
        "from commands.inspect import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "    assert not {'torch', 'nibabel', 'numpy', 'mlflow', 'rich'} & set(sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for option in ("--root", "--task", "--output", "--pictures", "--all", "--workers"):
        assert option in run.stdout
    assert "Exit status: 0 if all cases can be used" in " ".join(run.stdout.split())


TASKS = ["Task01_BrainTumour", "Task02_Heart", "Task04_Hippocampus", "Task09_Spleen"]


@pytest.mark.real
@pytest.mark.parametrize("name", TASKS)
def test_real_volumes_have_the_numbers_that_they_have(
    tmp_path: Path, real_data: Path, name: str
) -> None:
    folder = real_task(real_data, name)
    arguments = ["--root", str(real_data), "--task", name, "--output", str(tmp_path)]
    assert Place(tmp_path).run("inspect", *arguments) == 0
    rows = table(tmp_path)
    listed = json.loads((folder / "dataset.json").read_text())["training"]
    assert len(rows) == len(listed)
    pairs = {Path(pair["image"]).name.removesuffix(".nii.gz"): pair for pair in listed}
    for row in rows[:: max(1, len(rows) // 5)]:
        image = nibabel.load(folder / pairs[row["case"]]["image"])
        label = np.asarray(nibabel.load(folder / pairs[row["case"]]["label"]).dataobj)  # type: ignore[attr-defined]
        voxels = np.asarray(image.dataobj)  # type: ignore[attr-defined]
        suffix = "_0" if voxels.ndim == 4 else ""
        first = voxels[..., 0] if voxels.ndim == 4 else voxels
        assert row["shape"] == " x ".join(map(str, voxels.shape))
        expected = np.percentile(first.astype(float), (0, 1, 50, 99, 100))
        names = ("minimum", "p1", "median", "p99", "maximum")
        assert [float(row[key + suffix]) for key in names] == pytest.approx(expected, rel=1e-6)
        assert float(row["foreground_share"]) == pytest.approx((label > 0).mean())
        assert int(row["foreground_slices"]) == (label > 0).any(axis=(0, 1)).sum()
        zooms = np.array(image.header.get_zooms()[:3])  # type: ignore[attr-defined]
        ml = [float(row[key]) for key in row if key.startswith("ml_")]
        assert sum(ml) == pytest.approx((label > 0).sum() * zooms.prod() / 1000, rel=1e-5)
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
