"""``main.py compare`` prints the table and the places to look, or one line that says what to do."""

import subprocess
import sys
from pathlib import Path

import pytest

import main
from tests.comparison.made import made_frame, mean_dice, snapshots_of, store_run
from tests.places import ROOT, Place

EXPERIMENT = "Task90_Blob"


def store_losses(scratch: Path) -> None:
    """A run of each of two losses, and one that was never attacked."""
    for number, loss in enumerate(("bce", "dice[/bold]")):
        store_run(
            scratch,
            made_frame(number),
            {"loss": loss, "seed": "0"},
            snapshots=snapshots_of(number),
        )
    store_run(scratch, None, {"loss": "focal", "seed": "0"})


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on standard error with which a call ends."""
    assert main.main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


def test_the_losses_of_an_experiment_stand_side_by_side(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_losses(tmp_path)
    assert main.main(["compare", "--experiment", EXPERIMENT]) == 0
    printed = capsys.readouterr().out
    folder = place.store / "reports" / "task90_blob" / "test"
    for number in (0, 1):
        assert f"{mean_dice([made_frame(number)])['clean', 0.0]:.3f}" in printed
    assert "dice[/bold]" in printed
    assert "Note: One seed only of bce, dice[/bold]: " in printed
    assert "Left out: focal seed 0" in printed
    assert "not attacked on the split test" in printed
    for path in (folder / "report.html", folder / "table.csv", folder / "figures"):
        assert path.exists()
        assert str(path) in printed
    page = (folder / "report.html").read_text()
    assert "python main.py compare --experiment Task90_Blob" in page
    assert (folder / "figures" / "figure1_saliency_case_000_slice12.png").exists()


def test_the_decision_is_printed_and_the_report_kept_in_the_store(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_losses(tmp_path)
    call = ["compare", "--experiment", EXPERIMENT, "--loss", "bce", "dice[/bold]"]
    for _ in range(2):
        assert main.main(call) == 0
    printed = capsys.readouterr().out
    assert "Dice without attack: No claim about bce and dice[/bold] is made" in printed
    assert "Left out" not in printed
    kept = [run for run in place.run_ids() if "report.html" in place.paths(run)]
    assert len(kept) == 1
    assert f"MLflow:  run {kept[0]} of the experiment {EXPERIMENT}-reports" in printed
    folder = place.store / "reports" / "task90_blob" / "test"
    for name in ("report.html", "pairs.csv", "made.json"):
        assert place.artifact(kept[0], name).read_bytes() == (folder / name).read_bytes()
    assert place.stored(kept[0]).tags["segstress.command"].endswith("--loss bce 'dice[/bold]'")

    assert main.main(["compare", "--experiment", EXPERIMENT, "--loss", "bce", "--no-log"]) == 0
    assert "MLflow:" not in capsys.readouterr().out
    assert "There is one loss only" in (folder / "report.html").read_text()
    assert not (folder / "pairs.csv").exists()


def test_runs_that_nobody_has_are_one_line(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    call = ("--experiment", EXPERIMENT)
    assert "did you mean bce?" in refused(capsys, *call, "--loss", "bec")
    assert "--sweep x: found no such run" in refused(capsys, *call, "--sweep", "x")
    assert "MLflow does not understand it" in refused(capsys, *call, "--filter", "seed")


def test_the_report_goes_where_it_is_told(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    folder = tmp_path / "a [b]" / "c"
    assert main.main(["compare", "--experiment", EXPERIMENT, "--output", str(folder)]) == 0
    assert f"Report:  {folder / 'report.html'}" in capsys.readouterr().out
    assert (folder / "report.html").exists()
    assert not (place.store / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: --experiment"),
        (["--experiment"], "expected one argument"),
        (["--experiment", EXPERIMENT, "--splt", "val"], "unrecognized arguments: --splt"),
        (["--experiment", EXPERIMENT, "--split", "train"], "invalid choice: 'train'"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, *arguments)
    assert words in line
    assert "python main.py compare --help lists the options" in line


def test_an_unknown_experiment_and_one_without_counts_are_one_line(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_run(tmp_path, None, {"loss": "bce", "seed": "0"})
    assert "did you mean Task90_Blob?" in refused(capsys, "--experiment", "Task90_Blo")
    line = refused(capsys, "--experiment", EXPERIMENT)
    assert "found 1 runs and none to compare on the split test (not attacked on the" in line
    assert not (place.store / "reports").exists()


def test_an_output_that_is_a_file_is_one_line_and_is_kept(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.uri
    store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    taken = tmp_path / "taken"
    taken.write_text("mine")
    line = refused(capsys, "--experiment", EXPERIMENT, "--output", str(taken))
    assert f"--output {taken}: cannot be written" in line
    assert taken.read_text() == "mine"


def test_help_and_wrong_options_answer_without_the_heavy_packages() -> None:
    code = (
        "import sys, main\n"
        "main.main(['compare', '--split', 'x'])\n"
        "heavy = {'mlflow', 'torch', 'matplotlib', 'plotly', 'pandas'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "invalid choice" in done.stderr
