"""The table holds one row a loss, with numbers that plain loops give."""

import io
import itertools
import math

import pandas as pd
import pytest
from rich.console import Console

from comparison.selection import Selection, choose_runs
from comparison.table import (
    comparison_table,
    curves_by_loss,
    measure_words,
    measures,
    terminal_table,
)
from tests.comparison.conftest import HOSTILE, Report
from tests.comparison.made import area_by_hand, made_counts, made_frame, made_run, mean_dice


def selection_of(losses: list[str], seeds: int = 1) -> Selection:
    """Runs of losses, each with counts of its own."""
    found = [
        (made_run(99 - number, loss, seed), made_counts(made_frame(number)))
        for number, (loss, seed) in enumerate(itertools.product(losses, range(seeds)))
    ]
    return choose_runs("trials", "test", found)


def rows_by_loss(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    return {
        str(row["loss"]): {str(name): value for name, value in row.items()}
        for row in table.to_dict("records")
    }


def printed(table: pd.DataFrame) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(terminal_table(table))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_measures_are_those_of_the_counts(report: Report) -> None:
    rows = rows_by_loss(report.table)
    assert list(rows) == ["bce", HOSTILE]
    for loss, frames in report.frames.items():
        row, dice = rows[loss], mean_dice(frames)
        assert row["seeds"] == len(frames)
        assert row["cases"] == 4
        assert row["clean"] == pytest.approx(dice["clean", 0.0])
        for attack in {name for name, _ in dice if name != "clean"}:
            assert row[f"auc/{attack}"] == pytest.approx(area_by_hand(dice, attack))
        # Of the stored levels 0, 0.3, 0.6 and numbers 1, 10, 20 the nearest to 0.4, 0.6 and 30.
        assert row["dice/top5_beyond_range@0.3"] == pytest.approx(dice["top5_beyond_range", 0.3])
        assert row["dice/top5_beyond_range@0.6"] == pytest.approx(dice["top5_beyond_range", 0.6])
        assert row["dice/topn_random@20"] == pytest.approx(dice["topn_random", 20])


def test_each_measure_has_its_intervals(report: Report) -> None:
    rows = rows_by_loss(report.table)
    for name in measures(report.table):
        for row in rows.values():
            assert row[f"{name}:low"] < row[name] < row[f"{name}:high"]
        several, one = rows["bce"], rows[HOSTILE]
        assert several[f"{name}:seed_low"] < several[name] < several[f"{name}:seed_high"]
        assert math.isnan(one[f"{name}:seed_low"])
        assert math.isnan(one[f"{name}:seed_high"])


def test_the_paper_s_attacks_come_first_with_their_controls(report: Report) -> None:
    areas = [name for name in measures(report.table) if name.startswith("auc/")]
    assert areas == [
        "auc/top5_beyond_range",
        "auc/topn_random",
        "auc/topn_random_control",
        "auc/top5_in_range_abs",
    ]


def test_several_classes_have_a_clean_dice_each() -> None:
    frame = made_frame(3, classes=("front", "back"))
    selection = choose_runs("trials", "test", [(made_run(1), made_counts(frame))])
    row = comparison_table(selection, curves_by_loss(selection)).iloc[0]
    for name in ("front", "back"):
        expected = mean_dice([frame[frame["class"] == name]])["clean", 0.0]
        assert row[f"clean/{name}"] == pytest.approx(expected)
    assert row["clean"] == pytest.approx((row["clean/front"] + row["clean/back"]) / 2)


def test_the_csv_is_the_table(report: Report) -> None:
    read = pd.read_csv(report.folder / "table.csv")
    pd.testing.assert_frame_equal(read, report.table, check_dtype=False, atol=5e-7, rtol=0)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_terminal_s_table_fits_80_columns_and_hides_no_number(seeds: int) -> None:
    losses = ["bce", "batch_dice", "bce+batch_dice", "bce+batch_dice+focal", "dice", "[bold]x"]
    selection = selection_of(losses, seeds)
    table = comparison_table(selection, curves_by_loss(selection))
    text = printed(table)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "[bold]x" in text
    for row in table.to_dict("records"):
        for name in measures(table):
            assert f"{row[name]:.3f}" in text
    for low, high in table[["clean:seed_low", "clean:seed_high"]].dropna().to_numpy():
        assert f"{low:.3f}-{high:.3f}".replace("0.", ".") in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("clean", "clean"),
        ("clean/front", "clean, front"),
        ("auc/topn_at_max", "topn_at_max"),
        ("dice/topn_at_max@30", "topn_at_max at 30"),
    ],
)
def test_measures_are_put_in_words(name: str, words: str) -> None:
    assert measure_words(name) == words
