"""What the command shows and refuses, before anything is run."""

import shlex
import time
from pathlib import Path

import pytest

from tests.places import ROOT, Place, make_place, with_store
from tests.tracking.servers import free_port


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = make_place(tmp_path_factory.mktemp("sweep"), cases=8)
    return with_store(made, tmp_path_factory)


@pytest.fixture
def file(place: Place) -> Path:
    path = place.folder / "mine.yaml"
    text = (
        f"options: {{config: [{place.config}], trainer.max_epochs: 1}}\n"
        "grid: {model.loss: [bce, bce+dice], seed_everything: [0, 1]}\n"
    )
    path.write_text(text, encoding="utf-8")
    return path


def test_a_dry_run_shows_the_plan_and_runs_nothing(
    place: Place, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.run("sweep", str(file), "--dry-run", "--", "--data.fold", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["trial", "choices", "state", "epoch", "val", "Dice", "minutes"]
    assert "loss bce+dice, seed_everything 1" in lines[4]
    assert lines[5].strip() == "4 new"
    commands = [shlex.split(line) for line in lines[6:]]
    assert len(commands) == 4
    for command in commands:
        assert command[:3] == ["python", "main.py", "fit"]
        assert command[command.index("--data.fold") + 1] == "2"
    assert place.run_ids() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.yaml"], ["sweep none.yaml", "found no readable YAML"]),
        ([], ["sweep: the following arguments are required: file"]),
        (["{file}", "--engine", "fog"], ["--engine", "fog"]),
        (["{file}", "--address", "head"], ["--address: found head, expected auto or HOST:PORT"]),
        (["{file}", "--engine", "slurm"], ["--engine slurm: found no sbatch"]),
        (["{file}", "--engine", "slurm", "--minutes", "0"], ["--minutes: found 0"]),
        (["{file}", "--", "fold"], ["found 'fold' among the options for every trial"]),
    ],
)
def test_wrong_options_are_one_line(
    place: Place,
    file: Path,
    arguments: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(file) if argument == "{file}" else argument for argument in arguments]
    line = place.refused(capsys, "sweep", *given)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://localhost:{port}"])
def test_a_cluster_that_does_not_answer_is_refused_at_once(
    place: Place, file: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = address.format(port=free_port())
    started = time.monotonic()
    line = place.refused(capsys, "sweep", str(file), "--address", there)
    assert line.startswith(f"error: --address {there}: nothing answers there (Connection refused)")
    assert time.monotonic() - started < 20
    assert place.run_ids() == []


def test_nobody_has_to_read_a_plan_to_its_end(place: Place, file: Path) -> None:
    text = file.read_text().replace("[0, 1]", str(list(range(1000))))
    file.write_text(text, encoding="utf-8")
    process = place.start("sweep", str(file), "--dry-run")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("trial")
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as errors:
        assert errors.read() == ""
    assert process.wait(60) == 1


def test_the_house_has_the_sweeps_that_the_help_names() -> None:
    names = {path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml")}
    assert names == {"demo", "paper", "losses", "tasks"}
