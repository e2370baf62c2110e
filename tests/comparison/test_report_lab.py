"""The page shows the attack lab where runs hold it, and says what is missing and how to make it."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from comparison.report import write_report
from comparison.report_lab import TABLES, attack_lab
from comparison.selection import Selection, select_runs
from comparison.table import curves_by_loss
from robustness.counts import CLEAN_ROW, Row
from robustness.report_card import COLUMNS
from tests.comparison.conftest import HOSTILE
from tests.comparison.made import (
    METADATA,
    bins_of,
    frame_of,
    made_frame,
    store_calibration,
    store_run,
    store_transfer,
)
from tests.comparison.test_report import Page
from tests.places import Place

EPSILONS = (0.01, 0.02)
DICE = {"pgd_bce": 0.3, "pgd_margin": 0.4, "fgsm": 0.6}
BUDGET = {"epsilons": EPSILONS, "norm": "linf", "low": 0.0, "high": 0.2, "valid_only": True}
SETTINGS = [
    {"class": "PGD", "name": "pgd_bce", "objective": "bce", **BUDGET},
    {"class": "PGD", "name": "pgd_margin", "objective": "margin", **BUDGET},
    {"class": "FGSM", "name": "fgsm", "objective": "bce", **BUDGET},
]
STORED = {**METADATA, "attack_settings": json.dumps(SETTINGS)}
HEADS = (
    "Scores of each attack",
    "Report card",
    "Worst case over attacks",
    "Training loss by attack loss",
    "Transfer",
)
BINS = bins_of({CLEAN_ROW: 0.01, Row("pgd_bce", "epsilon", 1, 0.02, 0): 0.25})
CARD = pd.DataFrame(
    [
        ("falls", "Dice <i>falls</i>", "pass", -0.0004, 0.01, 40, 5, ""),
        ("zeros", "few zeros", "fail", 0.75, 0.05, 40, 1, ""),
        ("transfer", "no lower", "not applicable", float("nan"), 0.01, 3, 5, "<u>too few</u>"),
    ],
    columns=list(COLUMNS),
)


def made(names: tuple[str, ...] = tuple(DICE)) -> pd.DataFrame:
    """Two volumes, the second half a tenth above and the first below the mean at 0.02."""
    return frame_of(
        {
            CLEAN_ROW: [0.9, 0.9],
            **{
                Row(name, "epsilon", index, epsilon, 0): [
                    DICE[name] + 0.1 * (1 - index) - 0.05,
                    DICE[name] + 0.1 * (1 - index) + 0.05,
                ]
                for name in names
                for index, epsilon in enumerate(EPSILONS)
            },
        }
    )


@pytest.fixture
def selection(place: Place, tmp_path: Path) -> Selection:
    """``bce`` with a card, ``HOSTILE`` without; attacks made on one and counted on the other."""
    ids = [
        store_run(tmp_path, made(), {"loss": loss, "seed": "0"}, metadata=STORED, card=card)
        for loss, card in (("bce", CARD), (HOSTILE, None))
    ]
    store_calibration(tmp_path, ids[0], BINS, STORED)
    for victim in ids:
        store_transfer(tmp_path, ids[0], victim, made(("pgd_bce",)))
    return select_runs("Task90_Blob", "test")


def test_what_runs_hold_has_a_section_a_table_and_a_figure(
    selection: Selection, tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    write_report(selection, folder, "compare")
    page = (folder / "report.html").read_text(encoding="utf-8")
    heads = re.findall("<h2>(.*?)</h2>", page)
    assert [head for head in heads if head in HEADS] == list(HEADS)
    assert "Not in this report" not in heads
    figures = {path.name for path in (folder / "figures").glob("*.png")}
    assert {
        "report_card.png",
        "worst_case_linf_epsilon_in_0_0.2.png",
        "attack_loss_pgd.png",
        "transfer_pgd_bce.png",
    } <= figures
    assert page.count("<img") == len(figures)
    for name in TABLES:
        assert len(pd.read_csv(folder / name))

    worst = pd.read_csv(folder / "worst_case.csv")
    last = worst[(worst["loss"] == "bce") & (worst["point"] == 0.02)]
    assert last["dice"].tolist() == pytest.approx([0.3] * 3)
    assert last["attack_dice"].tolist() == pytest.approx(list(DICE.values()))
    crossed = pd.read_csv(folder / "attack_loss.csv")
    found = crossed[crossed["point"] == 0.02].set_index(["loss", "objective"])["dice"]
    assert found.to_dict() == pytest.approx(
        {(loss, name): dice for loss in ("bce", HOSTILE) for name, dice in OBJECTIVES.items()}
    )
    transferred = pd.read_csv(folder / "transfer.csv")
    assert set(transferred["counted_on"]) == {"bce", HOSTILE}


OBJECTIVES = {"bce": 0.3, "margin": 0.4}


def test_the_page_says_what_the_tables_say(selection: Selection) -> None:
    page = Page(attack_lab(selection, curves_by_loss(selection)).sections)
    words = " ".join(page.text.split())
    # Clean Dice is 0.9, and a line from 0.4 to 0.3 stands at a third: half is reached before.
    assert "pgd_bce, last point: epsilon 0.02 (image units)" in words
    assert "0.6670.611 to 0.722" in words
    assert "0.2500clean 0.0100" in words
    assert "✓ pass0.000" in words
    assert "✗ FAIL0.750" in words
    assert "n. a.<u>too few</u>" in words
    assert "zerosfew zeros; at most 0.05" in words
    assert "0.300worst in 100 %" in words
    assert "0.400worst in 0 %" in words
    assert f"No report card of {HOSTILE}, seed 0: python main.py test --ckpt_path ..." in words
    assert "2 of 4 pairs of runs were attacked. python main.py attack --experiment" in words
    assert "over seeds and 2 volumes" in words


def test_what_comes_from_runs_is_escaped(selection: Selection) -> None:
    page = Page(attack_lab(selection, curves_by_loss(selection)).sections)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"i", "u", "script"}
    assert "Dice <i>falls</i>" in page.text
    assert HOSTILE in page.text.replace("\u200b", "")


def test_what_is_missing_is_named_with_the_command_that_makes_it(
    place: Place, tmp_path: Path
) -> None:
    for loss in ("bce", "dice"):
        store_run(tmp_path, made_frame(0), {"loss": loss, "seed": "0"}, experiment="my task")
    selection = select_runs("my task", "test")
    lab = attack_lab(selection, curves_by_loss(selection))
    assert set(lab.tables) == {"attack_scores.csv", "point_scores.csv"}
    assert not lab.figures
    heads = ["Scores of each attack", "Not in this report"]
    assert re.findall("<h2>(.*?)</h2>", lab.sections) == heads
    lines = re.findall("<li>(.*?)</li>", lab.sections)
    assert [line.partition(":")[0] for line in lines] == [
        "Calibration (ECE)",
        "Report card",
        "Worst case",
        "Training loss by attack loss",
        "Transfer",
    ]
    assert "python main.py test --ckpt_path ... --robustness.card_cases 8" in lines[1]
    assert "settings stored" in lines[2]
    assert "settings stored" in lines[3]
    assert "python main.py attack --experiment &#x27;my task&#x27;" in lines[4]


def test_one_run_alone_has_nothing_to_transfer_to(place: Place, tmp_path: Path) -> None:
    store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    selection = select_runs("Task90_Blob", "test")
    sections = attack_lab(selection, curves_by_loss(selection)).sections
    assert "<li>Transfer: needs two runs or more." in sections


def test_tables_and_figures_of_an_earlier_report_are_removed_and_no_others(
    place: Place, tmp_path: Path
) -> None:
    store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    folder = tmp_path / "report"
    (folder / "figures").mkdir(parents=True)
    names = ("report_card", "worst_case_x", "attack_loss_x", "transfer_x")
    stale = [folder / name for name in TABLES if "scores" not in name]
    stale += [folder / "figures" / f"{name}.png" for name in names]
    own = [folder / "mine.csv", folder / "figures" / "transfer.png"]
    for path in (*stale, *own):
        path.write_text("old")
    write_report(select_runs("Task90_Blob", "test"), folder, "compare")
    assert not [path for path in stale if path.exists()]
    assert [path.read_text() for path in own] == ["old"] * 2
