"""The command that delivers what waits."""

import pytest

import main
from tests.places import NewLogger, Place
from tests.tracking.test_sync import left_by


def test_what_waits_is_delivered_and_then_there_is_nothing(
    place: Place, new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = left_by(place, new_logger)
    capsys.readouterr()
    assert main.main(["sync"]) == 0
    assert capsys.readouterr().out == f"run {spool.run_id}: delivered 4 metrics, 1 file\n"
    assert main.main(["sync"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "Nothing waits to be delivered."
    assert main.main(["sync", "--run", spool.run_id]) == 0
    assert capsys.readouterr().out == f"Nothing of run {spool.run_id} waits to be delivered.\n"


def test_where_nothing_waits_nothing_is_said_of_a_store_that_was_not_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main.main(["sync"]) == 0
    assert capsys.readouterr().out == "Nothing waits to be delivered.\n"


@pytest.mark.parametrize("has_others", [False, True])
def test_a_run_that_left_nothing_is_one_line(
    has_others: bool, place: Place, new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = left_by(place, new_logger).names() if has_others else []
    capsys.readouterr()
    assert main.main(["sync", "--run", "zz\x1b[2J"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: --run zz\\x1b[2J: found nothing of such a run in ")
    assert not has_others or waiting


def test_what_is_refused_ends_with_status_1(
    place: Place, new_logger: NewLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = left_by(place, new_logger)
    place.client.delete_run(spool.run_id)
    capsys.readouterr()
    assert main.main(["sync", "--run", spool.run_id[:8]]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert "3 entries wait" in line
    assert str(spool.folder) in line


def test_an_unknown_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["sync", "--runs", "a"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
