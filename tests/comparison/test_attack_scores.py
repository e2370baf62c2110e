"""Scores of each loss and attack from known counts, and calibration where it belongs to them."""

from pathlib import Path

import pandas as pd
import pytest

from comparison.attack_scores import AttackScores, attack_score_tables
from comparison.report_scores import scores_section
from comparison.selection import select_runs
from errors import InputError
from robustness.calibration import CalibrationFile
from robustness.counts import CLEAN_ROW, Row
from tests.comparison.made import METADATA, bins_of, frame_of, store_calibration, store_run
from tests.comparison.test_report import Page
from tests.places import Place
from tracking.reading import (
    CALIBRATION_FILE,
    fetch_calibration,
    list_runs,
    robustness_folder,
)
from tracking.store import open_client

TOP, CONTROL, LEAST = (
    Row("top", "pixels", 0, 10.0, 0),
    Row("top_control", "pixels", 0, 10.0, 0),
    Row("least", "threshold", 0, 0.5, 0),
)
VALID = {**METADATA, "valid_pixels_q20": str(1000 * 2**20)}


def counts(top: float, control: float = 0.8) -> pd.DataFrame:
    """Two volumes of clean Dice 0.7 and 0.9, moved by as much under each attack."""
    means = {CLEAN_ROW: 0.8, TOP: top, CONTROL: control, LEAST: 0.5}
    return frame_of({row: [mean - 0.1, mean + 0.1] for row, mean in means.items()})


def stored(scratch: Path) -> AttackScores:
    for loss, seed, top, error in (
        ("bce", 0, 0.1, 0.1),
        ("bce", 1, 0.3, 0.3),
        ("dice", 0, 0.8, None),
    ):
        run = store_run(scratch, counts(top), {"loss": loss, "seed": str(seed)}, metadata=VALID)
        if error is not None:
            store_calibration(scratch, run, bins_of({CLEAN_ROW: 0.02, TOP: error}))
    return attack_score_tables(select_runs("Task90_Blob", "test"))


def test_each_loss_and_attack_has_its_scores(place: Place, tmp_path: Path) -> None:
    rows = stored(tmp_path).attacks.to_dict("records")
    found = {(row["loss"], row["attack"]): row for row in rows}
    assert list(found) == [
        (loss, attack) for loss in ("bce", "dice") for attack in ("top", "top_control", "least")
    ]
    bce = found["bce", "top"]
    # Of both seeds 0.2 is left of 0.8: half, 0.4, at two thirds of the way.
    assert bce["area"] == pytest.approx(0.5)
    assert bce["relative_area"] == pytest.approx(0.5 / 0.8)
    assert bce["half"] == pytest.approx(20 / 3)
    assert bce["half_valid_share"] == pytest.approx(20 / 3 / 1000)
    assert bce["last_drop"] == pytest.approx(0.75)
    assert bce["last_fp"] == pytest.approx(800)
    assert bce["clean_fp"] == pytest.approx(200)
    assert bce["clean_ece"] == pytest.approx(0.02, abs=1e-6)
    assert bce["last_ece"] == pytest.approx(0.2, abs=1e-6)
    dice = found["dice", "top"]
    assert dice["half"] == float("inf")
    assert pd.isna(dice["clean_ece"])
    assert pd.isna(dice["last_ece"])


def test_the_page_shows_them_with_controls_below(place: Place, tmp_path: Path) -> None:
    scores = stored(tmp_path)
    page = Page(scores_section(scores, ["top", "least"], ("a.csv", "b.csv")))
    words = " ".join(page.text.split())
    rows = ["0.625", "6.67", "0.667 % of valid pixels", "0.750", "800.0", "clean 200.0", "0.2000"]
    for text in [*rows, "bce, its control", "dice, its control", "never", "least, last point"]:
        assert text in words
    tables = [dict(attributes) for tag, attributes in page.elements if tag == "table"]
    assert tables == [{"class": "sortable"}] * 2
    values = [attributes.get("data-value") for tag, attributes in page.elements if tag == "td"]
    assert "Infinity" in values
    assert "nan" not in words


def test_without_calibration_there_is_no_column(place: Place, tmp_path: Path) -> None:
    store_run(tmp_path, counts(0.1), {"loss": "bce", "seed": "0"})
    scores = attack_score_tables(select_runs("Task90_Blob", "test"))
    assert not scores.calibrated
    assert scores.points["ece"].isna().all()
    assert "ECE" not in scores_section(scores, ["top"], ("a.csv", "b.csv"))


def test_a_calibration_of_other_weights_is_not_shown(place: Place, tmp_path: Path) -> None:
    run = store_run(tmp_path, counts(0.1), {"loss": "bce", "seed": "0"})
    other = {**METADATA, "checkpoint_sha256": "e" * 64}
    store_calibration(tmp_path, run, bins_of({CLEAN_ROW: 0.5}), other)
    assert not attack_score_tables(select_runs("Task90_Blob", "test")).calibrated


def test_a_stored_calibration_is_read_back(place: Place, tmp_path: Path) -> None:
    bins = bins_of({CLEAN_ROW: 0.02, TOP: 0.1})
    store_calibration(
        tmp_path, store_run(tmp_path, counts(0.1), {"loss": "bce", "seed": "0"}), bins
    )
    store_run(tmp_path, counts(0.1), {"loss": "dice", "seed": "0"})
    without, run = list_runs("Task90_Blob")
    found = fetch_calibration(run, "test")
    assert isinstance(found, CalibrationFile)
    assert found.frame.equals(bins)
    assert fetch_calibration(without, "test") is None
    (tmp_path / CALIBRATION_FILE).write_text("broken")
    open_client().log_artifact(
        without.run_id, str(tmp_path / CALIBRATION_FILE), robustness_folder("test")
    )
    with pytest.raises(InputError, match=r"calibration\.parquet cannot be read"):
        fetch_calibration(without, "test")
