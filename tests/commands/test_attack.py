"""``main.py attack`` makes attacks on each network and counts them on all of an experiment."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from commands.cards import judge_again
from robustness.card_attacks import card_attacks
from robustness.counts import CLEAN, FIELDS, CountsFile, write_counts
from robustness.report_card import APGD
from tests.places import ROOT, TASK, Place, make_place, with_store
from tests.robustness.toy import attack_specs, build
from tracking.reading import (
    fetch_card_counts,
    fetch_counts,
    fetch_report_card,
    fetch_transfers,
    transfer_folder,
)
from tracking.writing import store_file

TRANSFER = ROOT / "conf" / "robustness" / "transfer.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two losses, attacked and with a report card on the test set."""
    folder = tmp_path_factory.mktemp("attack")
    place = with_store(make_place(folder, cases=30), tmp_path_factory)
    for loss in ("bce", "batch_dice"):
        options = ["--config", str(place.config), "--model.loss", loss, "--test_after_fit", "true"]
        card = ["--robustness.card_cases", "5", "--robustness.card_steps", "2"]
        only = ["--robustness.splits", "[test]"]
        assert place.run("fit", *options, *card, *only) == 0
    config = place.folder / "attacks.yaml"
    attacks = yaml.safe_load(TRANSFER.read_text())["robustness"]["attacks"]
    config.write_text(yaml.safe_dump({"robustness": {"attacks": attacks[:2]}}))
    # Of fewer cases than the cards have, and with other steps: the cards' are taken.
    assert place.run("attack", "--experiment", TASK, "--cases", "2", "--config", str(config)) == 0
    return place


def found(place: Place, loss: str) -> dict[str, CountsFile]:
    """Counts on a network by the loss of the network they were made on."""
    stored = place.runs_by_loss()
    names = {run.run_id: name for name, run in stored.items()}
    with place.environment():
        files = fetch_transfers(stored[loss], "test")
    return {names[source]: counts for source, counts in files.items()}


def test_each_network_has_counts_of_attacks_made_on_every_network(trained: Place) -> None:
    for loss, run in trained.runs_by_loss().items():
        counts = found(trained, loss)
        assert set(counts) == {"bce", "batch_dice"}
        for source, one in counts.items():
            assert one.metadata["made_on"] == trained.runs_by_loss()[source].run_id
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
    for loss, run in trained.runs_by_loss().items():
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
    for loss, run in trained.runs_by_loss().items():
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


def mean_dice(frame: pd.DataFrame) -> np.ndarray:
    """Dice under the card's APGD, cases by points, over the two repeats."""
    made = frame[frame["attack"] == APGD].assign(
        dice=2 * frame["tp"] / (2 * frame["tp"] + frame["fp"] + frame["fn"])
    )
    found = made.pivot_table(index="case", columns="point_index", values="dice").to_numpy()
    assert found.shape == (5, 3)
    return np.asarray(found)


def test_cards_are_judged_again_with_what_was_transferred(trained: Place) -> None:
    for loss, run in trained.runs_by_loss().items():
        with trained.environment():
            card = fetch_report_card(run, "test")
            own = fetch_card_counts(run, "test")
        assert card is not None
        assert own is not None
        lines = card.set_index("check")
        assert set(lines["status"]) <= {"pass", "fail"}
        (other,) = set(found(trained, loss)) - {loss}
        gained = mean_dice(own.frame) - mean_dice(found(trained, loss)[other].frame)
        expected = gained.mean(axis=0).max()
        check = "transfer_does_not_beat_white_box"
        assert lines["value"][check] == pytest.approx(expected, abs=1e-9)
        assert lines["status"][check] == ("pass" if expected <= 0.01 else "fail")


@pytest.mark.parametrize(
    ("key", "change", "reason"),
    [
        ("checkpoint_sha256", "0", "other weights"),
        ("data", "0", "other data"),
        ("split", "0", "another split"),
        ("attack_settings", "[]", "other settings of card_apgd"),
        (None, None, "fewer cases than the card"),
    ],
)
def test_transfers_that_cannot_be_paired_are_not_used_and_said_so(
    key: str | None, change: str | None, reason: str, trained: Place, tmp_path: Path
) -> None:
    run = trained.runs_by_loss()["bce"]
    (source,) = set(found(trained, "bce")) - {"bce"}
    counts = found(trained, "bce")[source]
    frame, metadata = counts.frame, dict(counts.metadata)
    if key is None or change is None:
        frame = frame[frame["case"] != frame["case"].iloc[0]]
    else:
        metadata[key] = change
    name = f"{metadata['made_on']}.parquet"
    with trained.environment():
        write_counts(tmp_path / name, frame, metadata)
        store_file(run, tmp_path / name, transfer_folder("test"))
        line = judge_again(run, "test")
        card = fetch_report_card(run, "test")
        write_counts(tmp_path / name, counts.frame, counts.metadata)
        store_file(run, tmp_path / name, transfer_folder("test"))
        again = judge_again(run, "test")
    assert line is not None
    assert line.endswith(f"; transfers not used: {reason}")
    assert card is not None
    status = card.set_index("check")["status"]
    assert status["transfer_does_not_beat_white_box"] == "not applicable"
    assert again is not None
    assert "not used" not in again


def test_the_default_transfers_the_attack_of_the_cards() -> None:
    (own,) = [attack for attack in card_attacks(0.0, 0.2) if attack.name == APGD]
    (given,) = [build(spec) for spec in attack_specs(TRANSFER) if spec[1]["name"] == APGD]
    assert given.settings() == own.settings()


def refused(place: Place, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    return place.refused(capsys, "attack", *arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--experiment", "Task90_Blub"], ["Task90_Blub", "Task90_Blob"]),
        (["--experiment", TASK, "--cases", "0"], ["--cases", "0"]),
        (["--experiment", TASK, "--run", "abc"], ["--experiment and --run", "one of"]),
        (["--experiment", TASK, "--data.root", "."], ["--data.root"]),
        (["--run", "nowhere"], ["--run", "nowhere", "found 0"]),
        (["--run", ""], ["--run", "expected one"]),
        (["--network", "absent.pt"], ["--network", "absent.pt", "TorchScript"]),
        (["--network", "torch.nn.Konv2d"], ["Konv2d"]),
        (["--ckpt_path", "absent.ckpt"], ["--ckpt_path", "absent.ckpt"]),
        (["--run", "abc", "--cases", "3"], ["--cases", "--experiment"]),
        (["--experiment", TASK, "--device", "abacus"], ["--device", "abacus"]),
        (["--experiment", TASK, "--config", "nowhere.yaml"], ["--config", "nowhere.yaml"]),
        ([], ["--run", "--network", "--experiment"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
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
    run = trained.runs_by_loss()["bce"]
    path = trained.checkpoint(run.run_id)
    content = path.read_bytes()
    path.unlink()
    try:
        line = refused(trained, capsys, "--experiment", TASK)
    finally:
        path.write_bytes(content)
    assert run.run_id[:8] in line
    assert "last.ckpt" in line


@pytest.mark.parametrize("by", ["run", "checkpoint"])
def test_a_finished_run_is_attacked_by_what_is_asked_for(by: str, trained: Place) -> None:
    run = trained.runs_by_loss()["bce"]
    what = (
        ["--run", run.run_id[:10]]
        if by == "run"
        else ["--ckpt_path", str(trained.checkpoint(run.run_id))]
    )
    config = ["--config", str(ROOT / "conf" / "robustness" / "quick.yaml")]
    few = ["--robustness.pictures", "0"]
    assert trained.run("attack", *what, "--split", "val", *config, *few) == 0
    with trained.environment():
        after = fetch_counts(run, "val")
    assert after is not None
    names = {spec[1]["name"] for spec in attack_specs(ROOT / "conf" / "robustness" / "quick.yaml")}
    assert set(after.frame["attack"]) == {CLEAN, *names}
