"""The spread of a loss is what plain loops give from its slices, with intervals about it."""

import math
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from comparison.saliency_files import stored_spreads
from comparison.selection import select_runs
from comparison.spreads import COLUMNS, spread_scores, temperatures
from robustness.spread import measure_names
from robustness.temperature import OUTPUTS
from tests.comparison.made import CASES, made_frame, made_spread, store_run, store_spread
from tests.places import Place

SPREADS = {("bce", 0): 0, ("bce", 1): 1, ("focal", 0): 2}


@pytest.fixture
def scores(place: Place, tmp_path: Path) -> pd.DataFrame:
    for (loss, seed), number in SPREADS.items():
        run = store_run(tmp_path, made_frame(number), {"loss": loss, "seed": str(seed)})
        frame = made_spread(number, methods=("gradient", "occlusion"))
        known = str(1 + number) if number else "none"
        store_spread(tmp_path, run, frame, {"temperature": known})
    return spread_scores(stored_spreads(select_runs("Task90_Blob", "test")))


def by_hand(number: int, output: str, method: str, measure: str) -> dict[str, float]:
    """Of each case the mean over its slices with foreground."""
    kept: dict[str, list[float]] = {}
    for row in made_spread(number, methods=("gradient", "occlusion")).to_dict("records"):
        kind = (row["output"], row["method"], row["measure"])
        if row["foreground"] and kind == (output, method, measure) and row["value"] == row["value"]:
            kept.setdefault(str(row["case"]), []).append(float(row["value"]))
    return {case: fmean(values) for case, values in kept.items()}


def test_every_measure_is_the_mean_over_slices_seeds_and_cases(scores: pd.DataFrame) -> None:
    assert list(scores.columns) == COLUMNS
    assert len(scores) == len(OUTPUTS) * 2 * len(measure_names()) * 2
    for row in scores.to_dict("records"):
        kind = (row["output"], row["method"], row["measure"])
        seeds = [by_hand(n, *kind) for (loss, _), n in SPREADS.items() if loss == row["loss"]]
        cases = {case: fmean(found[case] for found in seeds) for case in seeds[0]}
        assert row["value"] == pytest.approx(fmean(cases.values()))
        assert row["cases"] == (3 if row["measure"] == "radius" else len(CASES))
        assert row["seeds"] == len(seeds)
        assert min(cases.values()) <= row["low"] < row["value"] < row["high"]
        assert row["high"] <= max(cases.values())
        if len(seeds) == 1:
            assert math.isnan(row["seed_low"])
            assert math.isnan(row["seed_high"])
        else:
            means = [fmean(found.values()) for found in seeds]
            ends = stats.ttest_1samp(means, 0.0).confidence_interval(0.95)
            most = 1.0 if row["unit"] == "1" else math.inf
            expected = max(ends.low, 0.0), min(ends.high, most)
            assert (row["seed_low"], row["seed_high"]) == pytest.approx(expected)


def test_rows_stand_by_output_method_measure_and_loss_with_units(scores: pd.DataFrame) -> None:
    first = scores[scores["method"] == "gradient"]
    assert list(first["output"].unique()) == list(OUTPUTS)
    assert list(first["measure"].unique()) == list(measure_names())
    assert list(scores["loss"].unique()) == ["bce", "focal"]
    units = first.drop_duplicates("measure").set_index("measure")["unit"].to_dict()
    assert units["effective_pixels"] == units["radius"] == "pixels"
    assert units["entropy"] == "nats"
    assert units["sharpness"] == "1/pixel"
    assert units["gini"] == units["inside_share"] == units["active_share_0.1"] == "1"


def test_cases_are_drawn_alike_for_all_losses(place: Place, tmp_path: Path) -> None:
    for index, loss in enumerate(("bce", "focal")):
        frame = made_spread(0)
        frame["value"] += index
        run = store_run(tmp_path, made_frame(0), {"loss": loss, "seed": "0"})
        store_spread(tmp_path, run, frame)
    scores = spread_scores(stored_spreads(select_runs("Task90_Blob", "test")))
    ends = ["value", "low", "high"]
    low, high = (scores.loc[scores["loss"] == loss, ends].to_numpy() for loss in ("bce", "focal"))
    np.testing.assert_allclose(high - low, 1.0)


def test_temperatures_are_those_of_the_seeds(scores: pd.DataFrame) -> None:
    assert len(scores)
    found = temperatures(stored_spreads(select_runs("Task90_Blob", "test")))
    assert found == {"bce": [2.0], "focal": [3.0]}


def test_without_spread_there_is_no_row(place: Place, tmp_path: Path) -> None:
    store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    scores = spread_scores(stored_spreads(select_runs("Task90_Blob", "test")))
    assert scores.empty
    assert list(scores.columns) == COLUMNS
