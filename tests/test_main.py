"""The commands by name, and wrong input as a user meets it: in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import main
from tests.places import ROOT, TASK, Place, trained, write_task

LABEL = "labelsTr/blob_003.nii.gz"


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


def test_ctrl_c_while_a_command_begins_is_one_line(tmp_path: Path) -> None:
    # Whoever runs the tests in the background may have them ignore Ctrl-C.
    heeding = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    begin = heeding + "import main; sys.exit(main.main(sys.argv[1:]))"
    command = subprocess.Popen(
        [sys.executable, "-c", begin, "fit", "--data.root", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Importing the packages behind it takes seconds.
    time.sleep(1)
    command.send_signal(signal.SIGINT)
    _, error = command.communicate(timeout=60)
    assert (command.returncode, error) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("name", "nearest"), [("validat", "validate"), ("compair", "compare"), ("xyz", None)]
)
def test_an_unknown_command_answers_with_the_nearest(
    name: str, nearest: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
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


# In processes of their own


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return trained(tmp_path_factory)[0]


def in_a_process(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    with place.unharmed():
        process = place.start(*arguments)
        out, error = process.communicate(timeout=240)
    return subprocess.CompletedProcess(arguments, process.returncode, out, error)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a wrong input gives."""
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.slow
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
    command, *options = arguments
    done = in_a_process(place, command, "--config", str(place.config), *options)
    assert done.returncode == 2
    line = last_line(done)
    assert all(word in line for word in words)


@pytest.mark.slow
def test_a_truncated_volume_in_a_process_is_named(place: Place, tmp_path: Path) -> None:
    write_task(tmp_path / TASK, cases=8)
    label = tmp_path / TASK / LABEL
    label.write_bytes(label.read_bytes()[:100])
    options = ["--data.root", str(tmp_path), "--data.cache_dir", str(tmp_path / "cache")]
    done = in_a_process(place, "fit", "--config", str(place.config), *options)
    assert done.returncode == 2
    assert LABEL in last_line(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pages", "found"), [(40, " MB free in the cache folder"), (101, "a cache folder that is full")]
)
def test_a_full_disk_is_named_and_leaves_no_half_case(
    pages: int, found: str, place: Place, tmpfs: list[str], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    # The slices take 100 pages of 4 KiB, and their headers more.
    listing = '"$@"; status=$?; find . -path "*/disk/*" -printf "left %P\\n"; exit $status'
    command = [sys.executable, str(ROOT / "main.py"), "fit", "--config", str(place.config)]
    done = subprocess.run(
        [
            *(*tmpfs, f"size={pages * 4}k", str(disk)),
            *("sh", "-c", listing, "sh", *command, "--data.cache_dir", str(disk)),
        ],
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
    assert found in line
    assert "--data.cache_dir" in line
    left = [line.split() for line in done.stdout.splitlines()]
    paths = [Path(words[1]) for words in left if words[:1] == ["left"]]
    files = [path.name for path in paths if path.suffix not in {"", ".lock"}]
    # Cases that were whole before the disk was full stay: the next start goes on from them.
    whole = [name.removesuffix(".json") for name in files if name.endswith(".json")]
    ends = (".json", "_image.npy", "_label.npy")
    assert sorted(files) == sorted(f"{case}{end}" for case in whole for end in ends)
    assert (len(whole) > 0) == (pages > 100)
