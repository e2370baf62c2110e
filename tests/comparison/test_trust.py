"""Verdicts stand by method and loss as the runs hold them, the refused ones with the reason."""

from pathlib import Path

import pandas as pd
import pytest

from comparison.saliency_files import Stored, stored_curves, stored_trust
from comparison.selection import Selection, select_runs
from comparison.trust import curves_table, run_marks, trust_pictures, trust_table, verdicts
from robustness.trust_table import COLUMNS, CURVE_COLUMNS
from tests.comparison.made import made_evidence, made_frame, made_verdict, store_run, store_trust
from tests.places import Place

NUMBERS = (
    *("randomised", "randomised_ssim", "deletion_gain", "insertion_gain"),
    *("stable", "sensitivity"),
)


@pytest.fixture
def selection(place: Place, tmp_path: Path) -> Selection:
    """``bce`` with two seeds of which one fails, ``dice`` on which a method is refused."""
    found = {
        ("bce", "0"): ([made_verdict("lime"), made_verdict("gradient")], {}),
        ("bce", "1"): ([made_verdict("lime", "randomised", "stable", number=0.75)], {}),
        ("dice", "0"): ([made_verdict("gradient", "stable")], {"lime": "too few <b>pixels</b>"}),
        ("focal", "0"): None,
    }
    for (loss, seed), stored in found.items():
        run = store_run(tmp_path, made_frame(0), {"loss": loss, "seed": seed})
        if stored is not None:
            store_trust(tmp_path, run, *stored)
    return select_runs("Task90_Blob", "test")


@pytest.fixture
def stored(selection: Selection) -> Stored[pd.DataFrame]:
    return stored_trust(selection)


def test_the_table_holds_all_verdicts(stored: Stored[pd.DataFrame]) -> None:
    table = trust_table(stored)
    assert list(table.columns) == ["loss", "seed", "fold", "run", *COLUMNS]
    rows = table[["loss", "seed", "method", "failed"]].to_numpy().tolist()
    assert rows == [
        ["bce", "0", "gradient", ""],
        ["bce", "0", "lime", ""],
        ["bce", "1", "lime", "randomised stable"],
        ["dice", "0", "gradient", "stable"],
        ["dice", "0", "lime", ""],
    ]
    assert table["run"].nunique() == 3


def test_a_method_passes_on_a_loss_if_it_does_on_all_its_runs(stored: Stored[pd.DataFrame]) -> None:
    found = verdicts(trust_table(stored))
    assert list(found) == ["gradient", "lime"]
    assert list(found["lime"]) == ["bce", "dice"]
    assert found["lime"]["bce"].words == "fails randomised, stable (1 of 2 runs)"
    assert found["lime"]["bce"].ranges["randomised"] == (0.25, 0.75)
    assert found["lime"]["bce"].ranges["stable"] == (0.75, 0.75)
    assert found["lime"]["bce"].ranges["slices"] == (8, 8)
    assert set(found["lime"]["bce"].ranges) == {"slices", *NUMBERS}
    assert found["lime"]["bce"].failed
    assert not found["gradient"]["bce"].failed
    assert found["gradient"]["bce"].words == "pass"
    assert found["gradient"]["dice"].words == "fails stable"
    refused = found["lime"]["dice"]
    assert refused.words == "refused"
    assert refused.ranges == {}
    assert refused.failed
    assert refused.reasons == ("too few <b>pixels</b>",)


def test_marks_are_those_of_a_run(selection: Selection, stored: Stored[pd.DataFrame]) -> None:
    marks = run_marks(stored)
    ids = {(run.loss, run.seed): run.run.run_id for run in selection.runs}
    assert marks == {
        ids["bce", "0"]: {"gradient": "", "lime": ""},
        ids["bce", "1"]: {"lime": "fails randomised, stable"},
        ids["dice", "0"]: {"gradient": "fails stable", "lime": "refused"},
    }


def test_maps_that_are_the_same_everywhere_and_few_slices_are_no_failure(
    place: Place, tmp_path: Path
) -> None:
    verdicts_of = {
        "bce": made_verdict("lime", "stable", slices=0),
        "dice": made_verdict("lime", slices=3),
        "focal": made_verdict("lime", "stable", slices=3),
    }
    for loss, verdict in verdicts_of.items():
        run = store_run(tmp_path, made_frame(0), {"loss": loss, "seed": "0"})
        store_trust(tmp_path, run, [verdict])
    found = verdicts(trust_table(stored_trust(select_runs("Task90_Blob", "test"))))["lime"]
    assert {loss: (one.words, one.failed) for loss, one in found.items()} == {
        "bce": ("the same everywhere", False),
        "dice": ("checked on 3 slices only", False),
        "focal": ("fails stable", True),
    }


def test_curves_are_told_of_all_runs_and_drawn_of_the_first_of_each_loss(
    place: Place, tmp_path: Path
) -> None:
    for loss, seed, methods in (
        ("bce", 0, ["gradient"]),
        ("bce", 1, ["lime", "gradient"]),
        ("dice", 0, ["gradient"]),
    ):
        run = store_run(tmp_path, made_frame(0), {"loss": loss, "seed": str(seed)})
        store_trust(
            tmp_path,
            run,
            [made_verdict(name) for name in methods],
            evidence=[made_evidence(name, 0.1 * seed) for name in methods],
        )
    selection = select_runs("Task90_Blob", "test")
    curves = stored_curves(selection, stored_trust(selection))
    table = curves_table(curves)
    assert list(table.columns) == ["loss", "seed", "fold", "run", *CURVE_COLUMNS]
    assert table.groupby(["loss", "seed", "method"]).size().to_dict() == {
        ("bce", "0", "gradient"): 8,
        ("bce", "1", "gradient"): 8,
        ("bce", "1", "lime"): 8,
        ("dice", "0", "gradient"): 8,
    }
    pictures = trust_pictures(selection, curves)
    assert {method: words for method, (_, words) in pictures.items()} == {
        "gradient": "bce with seed 0, dice with seed 0",
        "lime": "bce with seed 1",
    }
    assert all(png.startswith(b"\x89PNG") for png, _ in pictures.values())


def test_without_verdicts_there_is_no_row(place: Place, tmp_path: Path) -> None:
    store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    table = trust_table(stored_trust(select_runs("Task90_Blob", "test")))
    assert table.empty
    assert verdicts(table) == {}
