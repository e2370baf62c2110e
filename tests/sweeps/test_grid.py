"""A sweep's file becomes trials, each known by what decides its outcome."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from errors import InputError
from sweeps.grid import Resources, Sweep, read_sweep
from tests.places import ROOT

CONTENT: dict[str, Any] = {
    "options": {"config": ["a.yaml"], "data.root": "data", "trainer.max_epochs": 3},
    "grid": {"model.loss": ["bce", "bce+dice"], "seed_everything": [0, 1, 2]},
    "trial": {"cpus": 2, "gpus": 0.5, "retries": 3},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yaml").write_text("model: {}\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("data: {}\n", encoding="utf-8")
    return tmp_path


def read(folder: Path, content: object = CONTENT, *more: str) -> Sweep:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_sweep(path, more)


def test_every_combination_is_a_trial(folder: Path) -> None:
    sweep = read(folder)
    assert (sweep.name, sweep.resources) == ("mine", Resources(2, 0.5, 3))
    expected = itertools.product(["bce", "bce+dice"], ["0", "1", "2"])
    assert [tuple(value for _, value in trial.chosen) for trial in sweep.trials] == list(expected)
    assert len({trial.key for trial in sweep.trials}) == 6
    assert sweep.trials[1].arguments == (
        *("fit", "--config", str(folder / "a.yaml"), "--data.root", "data"),
        *("--trainer.max_epochs", "3", "--model.loss", "bce", "--seed_everything", "1"),
    )
    assert sweep.trials[1].label == "loss bce, seed_everything 1"


def test_values_are_written_as_a_command_line_has_them(folder: Path) -> None:
    options = {"a": True, "b": None, "c": [64, 64], "d": {"e": 1}, "f": 0.5, "g": "x y"}
    (trial,) = read(folder, {"options": options}).trials
    assert dict(trial.options) == {
        **{"a": "true", "b": "null", "c": "[64, 64]", "d": '{"e": 1}', "f": "0.5", "g": "x y"}
    }
    assert trial.label == "the only trial"


def test_options_of_the_command_line_stand_above_the_file(folder: Path) -> None:
    sweep = read(folder, CONTENT, "--data.root", "/other", "--trainer.max_epochs=1")
    for trial in sweep.trials:
        options = dict(trial.options)
        assert (options["data.root"], options["trainer.max_epochs"]) == ("/other", "1")


def test_a_grid_of_config_files(folder: Path) -> None:
    content = {**CONTENT, "grid": {"config": ["b.yaml", "a.yaml"]}, "options": {"x": 1}}
    first, second = read(folder, content).trials
    assert first.options == (("config", str(folder / "b.yaml")), ("x", "1"))
    assert second.label == "a"


def test_a_key_says_what_decides_the_outcome(folder: Path) -> None:
    keys = [trial.key for trial in read(folder).trials]
    assert [trial.key for trial in read(folder).trials] == keys
    turned = {**CONTENT, "options": dict(reversed(CONTENT["options"].items())), "trial": {}}
    assert [trial.key for trial in read(folder, turned).trials] == keys
    assert not {trial.key for trial in read(folder, CONTENT, "--x", "1").trials} & set(keys)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.yaml").write_text((folder / "a.yaml").read_text(), encoding="utf-8")
    assert [trial.key for trial in read(elsewhere).trials] == keys
    (folder / "a.yaml").write_text("model: {loss: bce}\n", encoding="utf-8")
    assert not {trial.key for trial in read(folder).trials} & set(keys)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], "found list"),
        ({"gird": {}}, "found ['gird'], expected some of options, grid, trial"),
        ({"grid": {"seed_everything": 3}}, "grid.seed_everything 3, expected a list"),
        ({"grid": {"seed_everything": []}}, "grid.seed_everything [], expected a list"),
        ({"grid": [1]}, "grid [1], expected options of fit by name"),
        ({"options": "x"}, "options 'x', expected options of fit by name"),
        ({"options": {"a": 1}, "grid": {"a": [1]}}, "a in options and in grid"),
        ({"grid": {"a": [1, 1]}}, "the same trial twice"),
        ({"grid": {name: list(range(100)) for name in "abc"}}, "a grid of 1000000 trials"),
        ({"options": {"config": "none.yaml"}}, "config none.yaml, which is no file"),
        ({"trial": {"cpu": 1}}, "trial {'cpu': 1}"),
        ({"trial": {"cpus": 0}}, "trial.cpus 0"),
        ({"trial": {"cpus": 1.5}}, "trial.cpus 1.5"),
        ({"trial": {"retries": True}}, "trial.retries True"),
        ({"trial": {"gpus": -0.5}}, "trial.gpus -0.5"),
    ],
)
def test_a_wrong_file_is_one_line(folder: Path, change: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(folder, change)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert message.startswith(f"sweep {folder / 'mine.yaml'}: found ")


@pytest.mark.parametrize("text", ["a: [", "\x00", None])
def test_a_file_that_is_no_yaml(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"found no readable YAML .* give one of conf/sweep"):
        read_sweep(path)


@pytest.mark.parametrize("more", [["x", "1"], ["--x"], ["--config", "a.yaml"]])
def test_wrong_options_for_every_trial(folder: Path, more: list[str]) -> None:
    with pytest.raises(InputError, match=r"sweep: found '.*' among the options"):
        read(folder, CONTENT, *more)


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "sweep").glob("*.yaml")), ids=str)
def test_the_sweeps_of_the_house_can_be_read(path: Path) -> None:
    sweep = read_sweep(path, places=(ROOT,))
    assert len(sweep.trials) >= 4
    for trial in sweep.trials:
        assert "test_after_fit" in dict(trial.options)
