"""Tests of the command that downloads tasks: names, options, and what it prints."""

import shlex
import signal
import time
from pathlib import Path

import pytest
import yaml

import main as program
from commands.download import main
from datamodules.tasks import TASKS, TaskFacts
from errors import InputError
from tests.datamodules.serving import serving, status, stuck_after
from tests.datamodules.tiny import PROJECT, refusal, start_python, write_task

HIPPOCAMPUS = "Task04_Hippocampus"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with two tasks, so that they need no server."""
    for name in (HIPPOCAMPUS, "Task02_Heart"):
        write_task(tmp_path / "data", name=name)
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["hippocampus", "4", "04", HIPPOCAMPUS, "HIPPOCAMPUS"])
def test_a_task_that_is_there_is_said_to_be(
    name: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--root", str(root)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{root / HIPPOCAMPUS}: 5 of the 260 published labelled cases, MRI")
    assert "nothing to do" in first
    command = "python main.py fit --config conf/task/hippocampus.yaml"
    assert second.endswith(f" {command} --data.root {root} --data.task {HIPPOCAMPUS}")


@pytest.mark.parametrize("facts", TASKS, ids=lambda facts: facts.name)
def test_the_configuration_that_is_named_is_there_and_the_task_s(
    facts: TaskFacts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "my data"
    write_task(root, name=facts.folder, cases=1)
    assert main([facts.name, "--root", str(root)]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[1])
    assert words[-4:] == ["--data.root", str(root), "--data.task", facts.folder]
    file = PROJECT / words[words.index("--config") + 1]
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["data"]["task"] == facts.folder


def test_several_names_are_done_once_each_in_order(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hippocampus", "2", "heart", HIPPOCAMPUS, "--root", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[::2]] == [
        str(root / "Task02_Heart"),
        str(root / HIPPOCAMPUS),
    ]


def test_all_are_asked_for_at_the_mirror(tmp_path: Path) -> None:
    for facts in TASKS[:9]:
        write_task(tmp_path, name=facts.folder)
    with serving(b"", status(404)) as served, pytest.raises(InputError) as caught:
        main(["all", "--root", str(tmp_path), "--mirror", f"{served.address}/tars/"])
    assert served.paths == ["/tars/Task10_Colon.tar"]
    assert "404" in refusal(caught)


def test_a_wrong_file_at_the_mirror_is_named(tmp_path: Path) -> None:
    with serving(b"no tar") as served, pytest.raises(InputError) as caught:
        main(["4", "--root", str(tmp_path), "--mirror", served.address])
    message = refusal(caught)
    assert message.startswith(f"{served.address}/{HIPPOCAMPUS}.tar: found 6 bytes with md5 ")
    assert TASKS[3].md5 in message


def test_the_options_for_patience_arrive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(b"", status(503)) as served, pytest.raises(InputError):
        main(["4", "--root", str(tmp_path), "--mirror", served.address, "--retries", "1"])
    assert len(served.paths) == 2
    assert "(1 of 1)" in capsys.readouterr().err


WRONG: dict[str, tuple[list[str], list[str]]] = {
    "no name": ([], ["TASK", "--help"]),
    "unknown name": (["hipocampus"], ["'hipocampus'", "nearest: hippocampus"]),
    "unknown among known": (["heart", "liverr"], ["'liverr'", "nearest: liver"]),
    "unknown beside all": (["all", "hart"], ["'hart'", "nearest: heart"]),
    "number": (["11"], ["'11'", "hippocampus"]),
    "empty name": ([""], ["''"]),
    "option": (["heart", "--rot", "x"], ["--rot"]),
    "mirror": (["heart", "--mirror", "ftp://host"], ["--mirror", "ftp://host"]),
    "mirror that is a folder": (["heart", "--mirror", "data"], ["--mirror", "file:///folder"]),
    "empty mirror": (["heart", "--mirror", ""], ["--mirror"]),
    "retries": (["heart", "--retries", "-1"], ["--retries", "-1"]),
    "retries that are no number": (["heart", "--retries", "x"], ["--retries", "'x'"]),
    "timeout": (["heart", "--timeout", "0"], ["--timeout"]),
    "timeout without end": (["heart", "--timeout", "inf"], ["--timeout"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_ends_as_one_line_with_status_2_before_anything_is_written(
    case: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, words = WRONG[case]
    assert program.main(["download", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert all(word in line for word in words)
    assert list(tmp_path.iterdir()) == []


def test_help_lists_all_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(f"{facts.number} {facts.name}" in text for facts in TASKS)
    assert "CC-BY-SA 4.0" in text


def test_ctrl_c_ends_as_a_line_and_the_part_stays(tmp_path: Path) -> None:
    code = (
        "import signal, sys; from main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    part = tmp_path / f"{HIPPOCAMPUS}.tar.part"
    with serving(b"x" * 9000, stuck_after(700)) as served:
        options = ["--root", str(tmp_path), "--mirror", served.address]
        process = start_python(code, "download", "4", *options)
        end = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size == 700):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == "Interrupted; the same command goes on from here.\n"
    assert error == ""
    assert part.read_bytes() == b"x" * 700
