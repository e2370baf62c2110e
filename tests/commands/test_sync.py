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
    assert line.startswith("Nothing waits")
    assert main.main(["sync", "--run", spool.run_id]) == 0
    assert spool.run_id in capsys.readouterr().out


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
