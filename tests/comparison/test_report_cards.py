"""The cards stand side by side as the runs hold them, and runs without one are named."""

from pathlib import Path

import pandas as pd
import pytest

from comparison.report_cards import report_card_picture, report_cards
from comparison.selection import select_runs
from errors import InputError
from pictures.report_card import Mark
from robustness.report_card import COLUMNS
from tests.comparison.made import made_frame, store_run
from tests.places import Place

NAN = float("nan")


def card(*lines: tuple[object, ...]) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=list(COLUMNS))


FALLS = ("falls_with_budget", "Dice falls", "pass", -0.25, 0.01, 40, 5, "")
ZERO = ("no_zero_gradients", "share of zeros", "fail", 0.75, 0.05, 40, 1, "")
FEW = ("falls_with_budget", "Dice falls", "not applicable", NAN, 0.02, 3, 5, "fewer than 5")


def stored(folder: Path, **cards: pd.DataFrame | None) -> None:
    """Runs named ``<loss>_<seed>``, each with its card or none."""
    frame = made_frame(0)
    for name, found in cards.items():
        loss, seed = name.split("_")
        store_run(folder, frame, {"loss": loss, "seed": seed}, card=found)


def test_rows_are_checks_and_columns_runs(place: Place, tmp_path: Path) -> None:
    stored(tmp_path, bce_0=card(FALLS, ZERO), bce_1=None, focal_0=card(FEW))
    found = report_cards(select_runs("Task90_Blob", "test"))
    assert found is not None
    assert found.runs == {"bce": ["seed 0"], "focal": ["seed 0"]}
    assert found.without == ("bce, seed 1",)
    falls, zero = found.rows
    assert (falls.check, falls.question) == ("falls with budget", "Dice falls")
    assert falls.tolerance == "at most 0.01 to 0.02"
    passed, few = falls.marks
    assert passed == Mark("pass", -0.25)
    assert few is not None
    assert (few.status, few.number) == ("not applicable", "")
    assert falls.notes == ("", "fewer than 5")
    assert zero.tolerance == "at most 0.05"
    assert zero.marks == (Mark("fail", 0.75), None)


def test_the_table_holds_the_lines_of_all_cards(place: Place, tmp_path: Path) -> None:
    stored(tmp_path, bce_0=card(FALLS, ZERO), focal_0=card(FEW))
    selection = select_runs("Task90_Blob", "test")
    found = report_cards(selection)
    assert found is not None
    assert list(found.table.columns) == ["loss", "seed", "fold", "run", *COLUMNS]
    assert found.table["loss"].tolist() == ["bce", "bce", "focal"]
    ids = {compared.loss: compared.run.run_id for compared in selection.runs}
    assert found.table["run"].tolist() == [ids["bce"], ids["bce"], ids["focal"]]
    lines = found.table[["check", "status", "note"]].to_numpy().tolist()
    assert lines == [[line[0], line[2], line[7]] for line in (FALLS, ZERO, FEW)]
    assert list(report_card_picture(found)) == ["report_card"]


def test_a_number_without_tolerance_names_none(place: Place, tmp_path: Path) -> None:
    stored(tmp_path, bce_0=card((*FALLS[:4], NAN, *FALLS[5:])))
    found = report_cards(select_runs("Task90_Blob", "test"))
    assert found is not None
    assert found.rows[0].tolerance == ""


def test_without_cards_there_are_none(place: Place, tmp_path: Path) -> None:
    stored(tmp_path, bce_0=None)
    assert report_cards(select_runs("Task90_Blob", "test")) is None


def test_a_broken_card_is_refused(place: Place, tmp_path: Path) -> None:
    stored(tmp_path, bce_0=card(FALLS).drop(columns="status"))
    with pytest.raises(InputError, match=r"report_card\.csv cannot be read"):
        report_cards(select_runs("Task90_Blob", "test"))
