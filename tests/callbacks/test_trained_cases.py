"""A network is never scored on what it was trained on, whatever options or data say later."""

import pytest

from tests.places import Place, make_place, with_store


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = with_store(make_place(tmp_path_factory.mktemp("cases"), cases=10), tmp_path_factory)
    flags = ["--trainer.max_epochs", "1", "--robustness.attacks", "[]"]
    assert made.run("fit", "--config", str(made.config), *flags) == 0
    return made


def checkpoint(place: Place) -> str:
    return str(place.checkpoint(place.run_ids()[0]))


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize(
    "options", [["--data.fold", "1"], ["--data.fold", "2"], ["--data.split_seed", "3"]]
)
def test_training_cases_score_nothing(
    place: Place, command: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = place.refused(capsys, command, "--ckpt_path", checkpoint(place), *options)
    assert "that the network was trained on (" in line
    assert line.startswith("error: --ckpt_path: found ")


def test_a_training_goes_on_with_its_cases_alone(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    line = place.refused(capsys, "fit", "--ckpt_path", checkpoint(place), "--data.fold", "2")
    assert "found other training cases than it was trained on (" in line


def test_its_own_split_is_scored(place: Place) -> None:
    assert place.run("test", "--ckpt_path", checkpoint(place)) == 0
