"""The claim is weighed over the runs that have both numbers; others are named with the reason."""

import io
import itertools
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from comparison.claim import COLUMNS, Claim, claim_picture, weighed_claim
from comparison.saliency_files import stored_spreads
from comparison.selection import Selection, select_runs
from robustness.counts import CLEAN_ROW, Row
from robustness.spread_table import spread_frame
from robustness.temperature import OUTPUTS
from tests.comparison.made import CASES, frame_of, store_run, store_spread
from tests.places import Place

LOSSES = ("bce", "batch_dice", "dice", "focal", "bce+dice")


def counted(dice: float, clean: float = 0.8, attack: str = "topn_at_max") -> pd.DataFrame:
    """Dice falls on a line from clean at 0 to ``dice`` at 10 pixels and stays there up to 20."""
    points = {10.0: dice, 20.0: dice}
    rows = {
        Row(attack, "pixels", index, point, 0): [value] * 2
        for index, (point, value) in enumerate(points.items())
    }
    return frame_of({CLEAN_ROW: [clean] * 2, **rows})


def spread_of(pixels: dict[str, float], *, method: str = "gradient") -> pd.DataFrame:
    """Effective pixels by output: 1 more and 1 less in two cases; 1000 where nothing is true."""
    rows = [
        (case, index, index == 0, output, method, "effective_pixels", value)
        for output, mean in pixels.items()
        for case, shift in zip(CASES, (1.0, -1.0), strict=False)
        for index, value in enumerate((mean + shift, 1000.0))
    ]
    columns = ["case", "slice_index", "foreground", "output", "method", "measure", "value"]
    return spread_frame([pd.DataFrame(rows, columns=columns)])


def weighed(folder: Path, sign: int = 1) -> tuple[Selection, Claim]:
    """Five losses of two seeds: the wider the more robust (or less), the logit the other way."""
    for (index, loss), seed in itertools.product(enumerate(LOSSES), (0, 1)):
        place = 2 * index + seed
        dice = 0.4 + 0.03 * sign * place
        run = store_run(folder, counted(dice), {"loss": loss, "seed": str(seed)})
        pixels = {"probability": 100.0 + place, "logit": 100.0 - place, "tempered": 50.0 + place}
        store_spread(folder, run, spread_of(pixels))
    selection = select_runs("Task90_Blob", "test")
    return selection, weighed_claim(selection, stored_spreads(selection))


@pytest.mark.parametrize(("sign", "finding"), [(1, "supports"), (-1, "contradicts")])
def test_the_claim_may_fall_either_way(
    place: Place, tmp_path: Path, sign: int, finding: str
) -> None:
    selection, claim = weighed(tmp_path, sign)
    assert list(claim.tests) == list(OUTPUTS)
    primary = claim.tests["probability"]
    assert (primary.runs, primary.losses) == (10, 5)
    assert primary.between.rho == pytest.approx(sign)
    assert primary.within.rho == pytest.approx(sign)
    assert primary.between.finding == finding
    assert claim.tests["logit"].between.rho == pytest.approx(-sign)
    assert not claim.left_out

    assert list(claim.table.columns) == COLUMNS
    assert len(claim.table) == 30
    own = claim.table[claim.table["output"] == "probability"]
    assert set(own["test"]) == {"primary"}
    assert set(claim.table.loc[claim.table["output"] != "probability", "test"]) == {"secondary"}
    for row in own.to_dict("records"):
        index = 2 * LOSSES.index(row["loss"]) + int(row["seed"])
        dice = round(1000 * (0.4 + 0.03 * sign * index)) / 1000
        area = (10 * (0.8 + dice) / 2 + 10 * dice) / 20
        assert row["robustness"] == pytest.approx(area / 0.8)
        assert row["spread"] == pytest.approx(100 + index)
    ids = {compared.run.run_id for compared in selection.runs}
    assert set(own["run"]) == ids

    (png,) = claim_picture(selection, claim).values()
    assert Image.open(io.BytesIO(png)).width > 300


def test_runs_that_are_no_point_are_named_with_the_reason(place: Place, tmp_path: Path) -> None:
    good = dict.fromkeys(OUTPUTS, 9.0)
    other = spread_of(good, method="occlusion")
    stored = {
        "bce": (counted(0.5), spread_of(good), {}),
        "a": (counted(0.5, clean=0.0), spread_of(good), {}),
        "b": (counted(0.5), other, {}),
        "c": (counted(0.5), spread_of(good), {"methods": "[]"}),
        "d": (counted(0.5), None, {}),
        "dice": (counted(0.4), spread_of({"probability": 8.0}), {}),
    }
    for loss, (frame, spread, metadata) in stored.items():
        run = store_run(tmp_path, frame, {"loss": loss, "seed": "0"})
        if spread is not None:
            store_spread(tmp_path, run, spread, metadata)
    selection = select_runs("Task90_Blob", "test")
    claim = weighed_claim(selection, stored_spreads(selection))
    assert set(claim.left_out) == {f"{name}, seed 0" for name in "abcd"}
    reasons = {name[0]: reason for name, reason in claim.left_out.items()}
    assert "clean Dice is 0.0" in reasons["a"]
    assert "found no effective_pixels of gradient for the probability" in reasons["b"]
    assert reasons["c"] == "gradient with unknown settings and not those of dice, seed 0"
    assert reasons["d"] == "no spread is stored"
    assert {name: test.runs for name, test in claim.tests.items()} == {
        "probability": 2,
        "logit": 1,
        "tempered": 1,
    }
    assert claim.tests["probability"].between.finding == "too few"


def test_other_methods_and_their_settings_keep_no_run_out(place: Place, tmp_path: Path) -> None:
    """The claim is about the gradient, whatever else was measured, and by what settings."""
    both = ("gradient", "lime")
    listed = '[{"method": "gradient"}, {"method": "lime", "samples": %d}]'
    for loss, samples in (("bce", 5), ("dice", 25), ("focal", None)):
        methods = both if samples else both[:1]
        frame = pd.concat([spread_of({"probability": 9.0}, method=name) for name in methods])
        run = store_run(tmp_path, counted(0.5), {"loss": loss, "seed": "0"})
        store_spread(
            tmp_path, run, frame, {"methods": listed % samples} if samples is not None else {}
        )
    selection = select_runs("Task90_Blob", "test")
    claim = weighed_claim(selection, stored_spreads(selection))
    assert not claim.left_out
    assert claim.tests["probability"].runs == 3


def test_without_the_attack_there_is_no_point_and_no_picture(place: Place, tmp_path: Path) -> None:
    run = store_run(tmp_path, counted(0.5, attack="other"), {"loss": "bce", "seed": "0"})
    store_spread(tmp_path, run, spread_of({"probability": 9.0}))
    selection = select_runs("Task90_Blob", "test")
    claim = weighed_claim(selection, stored_spreads(selection))
    assert "found no topn_at_max among other" in claim.left_out["bce, seed 0"]
    assert claim.table.empty
    assert claim_picture(selection, claim) == {}


def test_dice_unknown_under_the_attack_keeps_a_run_out(place: Place, tmp_path: Path) -> None:
    frame = counted(0.5)
    frame.loc[frame["point"] == 20.0, ["tp", "fp", "fn"]] = 0
    run = store_run(tmp_path, frame, {"loss": "bce", "seed": "0"})
    store_spread(tmp_path, run, spread_of({"probability": 9.0}))
    selection = select_runs("Task90_Blob", "test")
    claim = weighed_claim(selection, stored_spreads(selection))
    assert "its Dice under topn_at_max is unknown" in claim.left_out["bce, seed 0"]
