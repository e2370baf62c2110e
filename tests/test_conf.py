"""Every YAML under conf/ does what it says, and runs; a new one is tested the day it is added."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import main
from datamodules.tasks import TASKS
from robustness.attack import Attack
from robustness.attribution import METHODS
from robustness.plan import make_plan
from robustness.worst_case import ensembles, is_control
from sweeps.grid import read_sweep
from tests.places import ROOT, TASK, Place, make_place, with_store
from tests.robustness.toy import attack_specs, build

CONF = ROOT / "conf"
SWEEPS = sorted((CONF / "sweep").glob("*.yaml"))
FILES = sorted(set(CONF.rglob("*.yaml")) - {CONF / "default.yaml", *SWEEPS})
FULL = "robustness/full"
# Their entries are printed with all settings that they have by default.
LISTS = {"robustness.attacks", "saliency.methods"}
# Hundreds of repeats or thousands of passes; the others have all of their attacks.
SLOW = (
    *("robustness/paper", "robustness/directed", "robustness/sparse", "robustness/full"),
    "robustness/lab",
)
# Whatever a YAML chooses, it runs on the tiny task, on one CPU and for one batch.
TINY = [
    *("--data.task", TASK),
    *("--data.size", "[32,32]"),
    *("--data.batch_size", "8"),
    *("--data.eval_batch_size", "1"),
    *("--trainer.accelerator", "cpu"),
    *("--trainer.devices", "1"),
    *("--trainer.num_nodes", "1"),
    *("--trainer.strategy", "auto"),
    *("--trainer.fast_dev_run", "true"),
    *("--model.channels", "[4]"),
    *("--robustness.pictures", "0"),
    *("--saliency.cases", "1"),
]


def name_of(path: Path) -> str:
    return str(path.relative_to(CONF).with_suffix(""))


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def leaves(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every setting of a YAML with its dotted key; lists are settings as a whole."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What the command would run with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        Place(Path()).run("fit", *arguments, "--print_config")
    assert ended.value.code in {0, None}
    config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return config


def attacks_of(config: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (attack["class_path"], attack["init_args"]) for attack in config["robustness"]["attacks"]
    ]


def built(name: str) -> list[Attack]:
    return [build(spec) for spec in attack_specs(CONF / f"{name}.yaml")]


def test_the_walk_finds_the_folder() -> None:
    assert {"task/hippocampus", "robustness/paper"} <= set(map(name_of, FILES))
    sets = ("paper", "directed", "sparse", "corruptions", "transfer", "full", "quick")
    assert {f"robustness/{one}" for one in sets} <= set(map(name_of, FILES))


def test_each_task_of_the_decathlon_has_a_yaml() -> None:
    for facts in TASKS:
        data = content(CONF / "task" / f"{facts.name}.yaml")["data"]
        assert data["task"] == facts.folder
        window = data.get("window")
        assert (None if window is None else tuple(window)) == facts.window_hu


# Of the paper's attacks each disturbance is one forward pass, and nothing more is to be said.
@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name in map(name_of, FILES)
        if name.startswith("robustness/")
        and name.removeprefix("robustness/") not in {"paper", "quick", "none"}
    ),
)
def test_the_passes_in_a_header_are_those_of_the_attacks(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    found = re.search(
        r"^# Of each slice: (\d+) forward and (\d+) backward passes( more)?\.$", text, re.MULTILINE
    )
    assert found
    cost, more = make_plan(built(name)).cost, "/add/" in name
    # The forward pass of the clean slices is there already where attacks are added.
    assert (int(found[1]), int(found[2])) == (cost.forward - more, cost.backward)
    assert (found[3] is not None) == more


def test_sparse_attacks_have_one_budget() -> None:
    settings = [attack.settings() for attack in built("robustness/sparse")]
    controls = {one["name"] for one in settings if is_control(one)}
    assert controls == {"random_directed", "matched_directed"}
    ((budget, names),) = ensembles(settings).items()
    assert budget == "pixels in [0, 0.2]"
    assert set(names) | controls == {one["name"] for one in settings}
    assert len({tuple(one["counts"]) for one in settings}) == 1


@pytest.mark.parametrize("name", ["directed", "add/directed"])
def test_directed_attacks_differ_in_nothing_but_the_way_they_climb(name: str) -> None:
    attacks = [attack.settings() for attack in built(f"robustness/{name}")]
    of_norm = [one for one in attacks if "epsilons" in one]
    assert {one.get("objective") for one in of_norm} == {None, "bce", "balanced_bce"}
    assert {one["name"] for one in of_norm if one.get("objective") == "bce"} == {
        f"pgd_bce_{norm}" for norm in {one["norm"] for one in of_norm}
    }
    assert {one["steps"] for one in of_norm if "steps" in one} == {20}
    assert len({one["restarts"] for one in of_norm if "restarts" in one}) == 1
    for norm in {one["norm"] for one in of_norm}:
        assert len({tuple(one["epsilons"]) for one in of_norm if one["norm"] == norm}) == 1


def test_the_full_set_has_every_family() -> None:
    modules = {type(attack).__module__.removeprefix("robustness.") for attack in built(FULL)}
    assert modules == {
        *("pixel_attacks", "greedy", "sparse", "sparse_search", "evolution"),
        *("directed", "pgd", "apgd", "square", "minimum_norm", "corruptions"),
    }


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_each_setting_of_a_yaml_is_in_force(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = dict(leaves(printed(capsys, "--config", str(path))))
    for key, value in leaves(content(path)):
        if key.rstrip("+") in LISTS:
            continue
        assert config[key] == value, key


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_attacks_of_a_yaml_replace_or_join_the_default(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = content(path).get("robustness", {})
    found = attacks_of(printed(capsys, "--config", str(path)))
    default = content(CONF / "default.yaml")["robustness"]["attacks"]
    expected = given.get("attacks", default) + given.get("attacks+", [])
    assert [one[0] for one in found] == [one["class_path"] for one in expected]
    for (_, used), wanted in zip(found, expected, strict=True):
        assert wanted["init_args"].items() <= used.items()


def test_a_list_of_attacks_takes_nothing_from_the_one_that_it_replaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many as there were, of the same kinds in the same places, with other settings."""
    default = content(CONF / "default.yaml")["robustness"]["attacks"]
    own = []
    for number, one in enumerate(default):
        kind = one["class_path"]
        points = {"levels": [0.5]} if kind.endswith("LevelAttack") else {"counts": [3]}
        own.append({"class_path": kind, "init_args": {"name": f"own_{number}", **points}})
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"robustness": {"attacks": own}}), encoding="utf-8")
    for (kind, used), one in zip(
        attacks_of(printed(capsys, "--config", str(path), "--robustness.pictures", "0")),
        own,
        strict=True,
    ):
        alone = build((kind, one["init_args"]))
        assert build((kind, used)) == alone


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_methods_of_a_yaml_replace_the_default(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    default = content(CONF / "default.yaml")["saliency"]["methods"]
    expected = content(path).get("saliency", {}).get("methods", default)
    found = printed(capsys, "--config", str(path))["saliency"]["methods"]
    assert [one["class_path"] for one in found] == [one["class_path"] for one in expected]


def test_the_full_saliency_has_every_method() -> None:
    path = CONF / "saliency" / "full.yaml"
    found = {one["class_path"].rpartition(".")[2] for one in content(path)["saliency"]["methods"]}
    assert found == {kind.__name__ for kind in METHODS.values()}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_yaml_says_what_it_is_for(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_the_default_is_loaded_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = dict(leaves(printed(capsys)))
    for key, value in leaves(content(CONF / "default.yaml")):
        if key not in {*LISTS, "trainer.plugins", "trainer.logger.class_path"}:
            assert config[key] == value, key


@pytest.mark.parametrize("name", ["default", "robustness/paper"])
def test_the_papers_attacks_are_there_exactly(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [] if name == "default" else ["--config", str(CONF / f"{name}.yaml")]
    attacks = {args["name"]: args for _, args in attacks_of(printed(capsys, *flags))}
    asked = 0.005 if name == "default" else 0.0
    in_range = [0.0, 0.05, 0.1, 0.15, 0.2]
    beyond = [0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0]
    counts = [1, 2, 5, 10, 20, 30, 40, 50]
    for attack, levels in (("top5_in_range", in_range), ("top5_beyond_range", beyond)):
        for suffix, ranking in (
            ("", "gradient"),
            ("_control", "random"),
            ("_abs", "gradient_abs"),
            ("_logit", "gradient_logit"),
        ):
            found = attacks[f"{attack}{suffix}"]
            assert found["levels"] == levels
            assert found["ranking"] == ranking
            assert found["pixels"] == 5
            drawn = (100, asked) if ranking == "random" else (1, 0.0)
            assert (found["repeats"], found["half_width"]) == drawn
    for suffix in ("", "_control", "_abs", "_logit"):
        assert attacks[f"topn_at_max{suffix}"]["counts"] == counts
        assert attacks[f"topn_at_max{suffix}"]["value"] == 0.2
    for suffix, ranking in (("", "gradient"), ("_control", "random")):
        found = attacks[f"topn_random{suffix}"]
        assert found["counts"] == counts
        assert found["value"] == "uniform"
        assert (found["low"], found["high"]) == (0.0, 1.0)
        assert (found["repeats"], found["half_width"]) == (100, asked)
        assert found["ranking"] == ranking
    assert attacks["topn_random_control"]["values_like"] == "topn_random"
    assert len(attacks) == 14


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return with_store(make_place(tmp_path_factory.mktemp("conf")), tmp_path_factory)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow) if name_of(path) in SLOW else path
        for path in FILES
    ],
    ids=name_of,
)
def test_every_yaml_runs(path: Path, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    deterministic = torch.are_deterministic_algorithms_enabled()
    data = ["--data.root", str(place.task.parent), "--data.cache_dir", str(place.folder / "cache")]
    try:
        assert place.run("fit", "--config", str(path), *data, *TINY) == 0
    finally:
        torch.use_deterministic_algorithms(deterministic)
    out = capsys.readouterr().out
    assert "Attacks on val" in out
    assert ("Maps: " in out) == (name_of(path) != "saliency/none")


@pytest.mark.parametrize("path", SWEEPS, ids=[path.stem for path in SWEEPS])
def test_trials_of_a_sweep_have_options_of_fit(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for trial in read_sweep(path, places=(ROOT,)).trials[:: len(SWEEPS) + 3]:
        with pytest.raises(SystemExit) as ended:
            main.main([*trial.arguments, "--print_config"])
        assert ended.value.code == 0
        config = yaml.safe_load(capsys.readouterr().out)
        assert config["model"]["loss"] == dict(trial.options)["model.loss"]
