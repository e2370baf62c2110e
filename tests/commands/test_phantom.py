"""Tests of the command that writes the phantom."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commands.phantom import main
from errors import InputError

PROJECT = Path(__file__).resolve().parent.parent.parent


def test_it_writes_and_says_where_and_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(
        ["--root", str(tmp_path), "--cases", "2", "--classes", "1", "--seed", "7", "--name", "Mine"]
    )
    assert status == 0
    printed = capsys.readouterr().out
    assert str(tmp_path / "Mine") in printed
    assert "synthetic" in printed
    assert f"--data.root {tmp_path} --data.task Mine" in printed
    content = json.loads((tmp_path / "Mine" / "dataset.json").read_text())
    assert content["phantom"] == {"version": 1, "cases": 2, "classes": 1, "seed": 7}


def test_a_second_call_keeps_it_and_force_replaces_it(tmp_path: Path) -> None:
    options = ["--root", str(tmp_path), "--cases", "1"]
    assert main(options) == main(options) == 0
    with pytest.raises(InputError, match="--force"):
        main([*options, "--seed", "1"])
    assert main([*options, "--seed", "1", "--force"]) == 0
    content = json.loads((tmp_path / "Task00_Phantom" / "dataset.json").read_text())
    assert content["phantom"]["seed"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cases", "many"], "--cases"),
        (["--case"], "--case"),
        (["--unknown", "1"], "--unknown"),
        (["here"], "here"),
        (["--cases", "-3"], "--cases"),
    ],
)
def test_wrong_options_are_one_line(options: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        main(options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_help_says_something_and_needs_no_heavy_import() -> None:
    code = (
        "import sys\n"
        "from commands.phantom import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "    assert not {'torch', 'nibabel', 'scipy'} & set(sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    for option in ("--root", "--cases", "--classes", "--seed", "--name", "--force"):
        assert option in run.stdout
    assert "synthetic" in run.stdout
    assert "(default: 24)" in " ".join(run.stdout.split())
