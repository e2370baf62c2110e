"""A map carries what the checks of its run said of the method: on these weights, and of this."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from robustness.trust_table import UNCHECKED, mark, write_trust
from tests.commands.tilted import CASE, checked_place, facts_of, plain_place
from tests.places import Place
from tracking.reading import TRUST_FILE, fetch_trust, list_runs, robustness_folder

METHOD = "gradient"


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return checked_place(tmp_path_factory)


def verdicts(place: Place, split: str = "val") -> pd.DataFrame:
    with place.environment():
        (run,) = list_runs(place.task.name)
        frame = fetch_trust(run, split)
    assert frame is not None
    return frame


def store(place: Place, frame: pd.DataFrame, split: str, folder: Path) -> None:
    write_trust(folder / TRUST_FILE, frame)
    place.client.log_artifact(
        place.run_ids()[0], str(folder / TRUST_FILE), robustness_folder(split)
    )


def said(
    place: Place, folder: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[str, str]:
    """The words in the JSON file and the line of the terminal."""
    if "--ckpt_path" not in options:
        options = ("--run", place.run_ids()[0], *options)
    common = ["--case", CASE, "--output", str(folder)]
    if "--method" not in options:
        common += ["--method", METHOD]
    capsys.readouterr()
    assert place.run("explain", *options, *common) == 0
    (path,) = folder.glob("*.nii.gz")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if str(path) in line]
    return str(facts_of(path)["trust"]), line


def test_the_verdict_of_the_run_stands_with_the_map(
    checked: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = verdicts(checked).to_dict("records")
    assert row["method"] == METHOD
    found, line = said(checked, tmp_path, capsys)
    assert found == mark(row) != UNCHECKED
    assert f", {found}, " in line if found else UNCHECKED not in line


@pytest.mark.parametrize(
    "options",
    [
        ["--value", "logit"],
        ["--explained", "truth"],
        ["--explained", "pixel", "--pixel", "1", "1", "1"],
        ["--method", "occlusion"],
    ],
    ids=lambda options: options[1],
)
def test_what_was_not_checked_is_told(
    options: list[str], checked: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, line = said(checked, tmp_path, capsys, *options)
    assert found == UNCHECKED
    assert f", {UNCHECKED}, " in line


def test_other_weights_are_not_checked(
    checked: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = torch.load(checked.checkpoint(checked.run_ids()[0]), weights_only=True)
    name = next(name for name in stored["state_dict"] if "network." in name)
    torch.save(stored, tmp_path / "same.ckpt")
    stored["state_dict"][name] = stored["state_dict"][name] + 0.01
    torch.save(stored, tmp_path / "other.ckpt")
    (row,) = verdicts(checked).to_dict("records")
    same = said(checked, tmp_path / "same", capsys, "--ckpt_path", str(tmp_path / "same.ckpt"))
    other = said(checked, tmp_path / "other", capsys, "--ckpt_path", str(tmp_path / "other.ckpt"))
    assert same[0] == mark(row)
    assert other[0] == UNCHECKED


def test_a_run_without_a_table_or_without_a_store_is_no_error(
    tmp_path_factory: pytest.TempPathFactory,
    checked: Place,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = plain_place(tmp_path_factory)
    assert said(plain, tmp_path / "plain", capsys)[0] == UNCHECKED
    elsewhere = Place(tmp_path / "elsewhere")
    checkpoint = str(checked.checkpoint(checked.run_ids()[0]))
    assert said(elsewhere, tmp_path / "maps", capsys, "--ckpt_path", checkpoint)[0] == UNCHECKED
    # Looking for it does not make a store.
    assert not elsewhere.store.exists()


def test_test_goes_before_val_and_what_cannot_be_read_is_no_error(
    tmp_path_factory: pytest.TempPathFactory,
    checked: Place,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Last, as it writes to the run."""
    frame = verdicts(checked)
    (row,) = frame.to_dict("records")
    # A table on other weights says nothing, whatever its split.
    store(checked, frame.assign(failed="stable", checkpoint_sha256="other"), "test", tmp_path)
    assert said(checked, tmp_path / "val", capsys)[0] == mark(row)
    failed = frame.assign(failed="deletion_gain stable", slices=32)
    store(checked, failed, "test", tmp_path)
    found, line = said(checked, tmp_path / "test", capsys)
    assert found == "fails deletion_gain, stable"
    assert f", {found}, " in line
    passed = frame.assign(failed="", slices=32)
    store(checked, passed, "test", tmp_path)
    found, line = said(checked, tmp_path / "passed", capsys)
    assert found == ""
    assert " / d(intensity), 0." in line
    (tmp_path / TRUST_FILE).write_text("no table", encoding="utf-8")
    place = robustness_folder("test")
    checked.client.log_artifact(checked.run_ids()[0], str(tmp_path / TRUST_FILE), place)
    assert said(checked, tmp_path / "broken", capsys)[0] == UNCHECKED
