"""A report is kept beside its experiment, once for the same runs."""

from pathlib import Path

import pytest

from errors import InputError
from tests.places import Place
from tracking.report_artifact import log_report
from tracking.store import open_client


def test_the_same_runs_have_one_report_and_others_another(place: Place, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("first")
    experiment, first = log_report("trials", "test", ["a", "b"], [page], {"segstress.command": "x"})
    page.write_text("second")
    again = log_report("trials", "test", ["b", "a"], [page], {"segstress.command": "y"})
    assert again == (experiment, first) == ("trials-reports", first)
    other = log_report("trials", "val", ["a", "b"], [page], {})[1]
    assert other != first
    assert set(place.run_ids()) == {first, other}
    assert place.artifact(first, "report.html").read_text() == "second"
    run = open_client().get_run(first)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "test, 2 runs"
    assert run.data.tags["segstress.command"] == "y"


def test_a_deleted_experiment_is_one_line(place: Place, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("first")
    log_report("trials", "test", ["a"], [page], {})
    client = open_client()
    found = client.get_experiment_by_name("trials-reports")
    assert found is not None
    client.delete_experiment(found.experiment_id)
    with pytest.raises(InputError, match="trials-reports: found deleted"):
        log_report("trials", "test", ["a"], [page], {})
    (tmp_path / "gone.html").unlink(missing_ok=True)
    with pytest.raises(InputError, match="--no-log leaves it out"):
        log_report("others", "test", ["a"], [tmp_path / "gone.html"], {})
