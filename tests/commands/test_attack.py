"""``main.py attack`` makes attacks on each network and counts them on all of an experiment."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from robustness.card_attacks import card_attacks
from robustness.counts import CLEAN, FIELDS, CountsFile
from robustness.report_card import APGD
from tests.places import ROOT, TASK, Place, make_place, with_store
from tests.robustness.toy import attack_specs, build
from tracking.reading import (
    StoredRun,
    fetch_card_counts,
    fetch_counts,
    fetch_report_card,
    fetch_transfers,
    list_runs,
)

TRANSFER = ROOT / "conf" / "robustness" / "transfer.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two losses, attacked and with a report card on the test set."""
    place = with_store(make_place(tmp_path_factory.mktemp("attack")), tmp_path_factory)
    for loss in ("bce", "batch_dice"):
        options = ["--config", str(place.config), "--model.loss", loss]
        card = ["--robustness.card_cases", "2", "--test_after_fit", "true"]
        assert place.run("fit", *options, *card) == 0
    config = place.folder / "attacks.yaml"
    attacks = yaml.safe_load(TRANSFER.read_text())["robustness"]["attacks"]
    config.write_text(yaml.safe_dump({"robustness": {"attacks": attacks[:2]}}))
    assert place.run("attack", "--experiment", TASK, "--cases", "2", "--config", str(config)) == 0
    return place


def runs(place: Place) -> dict[str, StoredRun]:
    with place.environment():
        return {run.params["loss"]: run for run in list_runs(TASK)}


def found(place: Place, loss: str) -> dict[str, CountsFile]:
    """Counts on a network by the loss of the network they were made on."""
    stored = runs(place)
    names = {run.run_id: name for name, run in stored.items()}
    with place.environment():
        files = fetch_transfers(stored[loss], "test")
    return {names[source]: counts for source, counts in files.items()}


def test_each_network_has_counts_of_attacks_made_on_every_network(trained: Place) -> None:
    for loss, run in runs(trained).items():
        counts = found(trained, loss)
        assert set(counts) == {"bce", "batch_dice"}
        for source, one in counts.items():
            assert one.metadata["made_on"] == runs(trained)[source].run_id
            assert set(one.frame["attack"]) == {CLEAN, APGD, "fgsm"}
            settings = json.loads(one.metadata["attack_settings"])
            assert [entry["name"] for entry in settings] == [APGD, "fgsm"]
        with trained.environment():
            own = fetch_counts(run, "test")
        assert own is not None
        assert {one.metadata["checkpoint_sha256"] for one in counts.values()} == {
            own.metadata["checkpoint_sha256"]
        }


def test_clean_counts_are_those_of_the_evaluation(trained: Place) -> None:
    """The network, its weights and its data were built again as they were."""
    for loss, run in runs(trained).items():
        with trained.environment():
            own = fetch_counts(run, "test")
        assert own is not None
        for one in found(trained, loss).values():
            cases = set(one.frame["case"])
            expected = own.frame[(own.frame["attack"] == CLEAN) & own.frame["case"].isin(cases)]
            clean = one.frame[one.frame["attack"] == CLEAN]
            pd.testing.assert_frame_equal(
                clean.reset_index(drop=True), expected.reset_index(drop=True)
            )


def test_attacks_made_on_a_network_are_those_of_its_card(trained: Place) -> None:
    """The white box of a transfer is the attack that the card has made, count for count."""
    for loss, run in runs(trained).items():
        with trained.environment():
            card = fetch_card_counts(run, "test")
        assert card is not None
        white = found(trained, loss)[loss].frame
        expected = card.frame[card.frame["attack"] == APGD].reset_index(drop=True)
        got = white[white["attack"] == APGD].reset_index(drop=True)
        pd.testing.assert_frame_equal(got, expected)


def test_attacks_made_on_another_network_are_other_attacks(trained: Place) -> None:
    counts = found(trained, "bce")
    frames = [one.frame[one.frame["attack"] == APGD] for one in counts.values()]
    assert not frames[0][list(FIELDS)].equals(frames[1][list(FIELDS)])


def test_cards_have_every_check_and_are_judged_again(trained: Place) -> None:
    for run in runs(trained).values():
        with trained.environment():
            card = fetch_report_card(run, "test")
        assert card is not None
        lines = card.set_index("check")
        assert set(lines["status"]) <= {"pass", "fail", "not applicable"}
        # Two cases are too few for claims about Dice; the network's own health needs none.
        assert lines.loc["falls_with_budget", "status"] == "not applicable"
        assert lines.loc["no_saturation", "status"] in {"pass", "fail"}


def test_the_default_transfers_the_attack_of_the_cards() -> None:
    (own,) = [attack for attack in card_attacks(0.0, 0.2) if attack.name == APGD]
    (given,) = [build(spec) for spec in attack_specs(TRANSFER) if spec[1]["name"] == APGD]
    assert given.settings() == own.settings()


def refused(place: Place, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with place.unharmed():
        assert place.run("attack", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    return error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--experiment", "Task90_Blub"], ["Task90_Blub", "Task90_Blob"]),
        (["--experiment", TASK, "--cases", "0"], ["--cases", "0"]),
        (["--experiment", TASK, "--device", "abacus"], ["--device", "abacus"]),
        (["--experiment", TASK, "--config", "nowhere.yaml"], ["--config", "nowhere.yaml"]),
        ([], ["--experiment"]),
    ],
    ids=["experiment", "cases", "device", "config", "nothing"],
)
def test_wrong_input_is_named(
    options: list[str], words: list[str], trained: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(trained, capsys, *options)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        ({"class_path": "robustness.pgd.Pdg"}, ["Pdg"]),
        (
            {
                "class_path": "robustness.pgd.Pgd",
                "init_args": {"name": "pgd", "epsilons": [-0.1]},
            },
            ["pgd", "epsilons", "-0.1"],
        ),
        (
            {
                "class_path": "robustness.pgd.Pgd",
                "init_args": {"name": "pgd", "epsilons": [0.1], "objective": "nonsense"},
            },
            ["attack pgd", "nonsense", "bce"],
        ),
    ],
    ids=["class", "epsilon", "objective"],
)
def test_wrong_attacks_are_named(
    attack: dict[str, object],
    words: list[str],
    trained: Place,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(yaml.safe_dump({"robustness": {"attacks": [attack]}}))
    line = refused(trained, capsys, "--experiment", TASK, "--config", str(config))
    assert all(word in line for word in words), line


def test_a_missing_checkpoint_is_named(trained: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs(trained)["bce"]
    path = trained.checkpoint(run.run_id)
    content = path.read_bytes()
    path.unlink()
    try:
        line = refused(trained, capsys, "--experiment", TASK)
    finally:
        path.write_bytes(content)
    assert run.run_id[:8] in line
    assert "last.ckpt" in line
