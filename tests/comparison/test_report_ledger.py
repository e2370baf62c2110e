"""The report shows the classes of each loss, marks those that part ways, and nothing without."""

import re

from comparison.ledger import LossLedgers, ledger_figures
from comparison.report_ledger import ledger_section
from lightning_module.ledger_history import LossHistory, loss_history
from tests.comparison.conftest import Report
from tests.comparison.made import made_ledger


def history_of(shares: dict[str, float], dice: dict[str, float]) -> LossHistory:
    history = loss_history(made_ledger(shares, dice), "val")
    assert history is not None
    return history


def section_of(loss: str, **histories: LossHistory) -> str:
    ledgers = [LossLedgers(loss, histories)]
    return ledger_section(ledgers, ledger_figures(ledgers))


def cells(section: str) -> dict[str, list[tuple[bool, str]]]:
    """By class, whether each cell is marked and what stands in it."""
    rows = re.findall(r"<tr><td>([^<]*)</td>(.*?)</tr>", section)
    return {
        name: [
            ("parted" in mark, text) for mark, text in re.findall(r"<td([^>]*)>([^<]*)</td>", row)
        ]
        for name, row in rows
    }


def test_the_table_shows_share_and_dice_at_the_last_epoch() -> None:
    alike = history_of({"front": 0.25, "back": 0.75}, {"front": 0.9, "back": 0.8})
    failing = history_of({"front": 0.981, "back": 0.019}, {"front": 0.9, "back": 0.1})
    section = section_of("bce", first=alike, second=failing)
    assert "first, epoch 2: share of the loss" in section
    assert cells(section) == {
        "front": [(False, "25 %"), (False, "0.900"), (False, "98.1 %"), (False, "0.900")],
        "back": [(False, "75 %"), (False, "0.800"), (True, "1.9 %"), (True, "0.100")],
    }
    assert section.count('class="note"') == 1
    assert (
        "second, epoch 2: class back has 1.9 % of the loss (an even share is 50 %) and Dice 0.10, "
        "the others 0.90" in section
    )


def test_a_background_has_a_share_and_no_dice() -> None:
    shares = {"background": 0.5, "front": 0.25, "back": 0.25}
    section = section_of("ce", seed=history_of(shares, {"front": 0.9, "back": 0.8}))
    assert cells(section)["background"] == [(False, "50 %"), (False, "none")]


def test_runs_of_other_classes_leave_cells_empty() -> None:
    one = history_of({"front": 1.0}, {"front": 0.9})
    other = history_of({"back": 1.0}, {"back": 0.9})
    found = cells(section_of("bce", one=one, other=other))
    assert [text for _, text in found["front"]] == ["100 %", "0.900", "", ""]
    assert [text for _, text in found["back"]] == ["", "", "100 %", "0.900"]


def test_a_loss_without_shares_says_so() -> None:
    history = history_of({"front": 0.0, "back": 0.0}, {"front": 0.9, "back": 0.1})
    assert cells(section_of("bce", seed=history))["back"] == [(False, "none"), (False, "0.100")]


def test_without_ledgers_there_is_no_section() -> None:
    assert ledger_section([], {}) == ""


def test_the_page_holds_the_section_with_names_escaped(report: Report) -> None:
    page = report.page
    begin = page.index("<h2>Loss ledgers</h2>")
    section = page[begin : page.index("<h2>How to read this</h2>")]
    assert "<h3>bce</h3>" in section
    assert section.count("<h3>") == 1
    found = cells(section)
    assert list(found) == ["front", "back&lt;i&gt;"]
    assert found["back&lt;i&gt;"][2:] == [(True, "4 %"), (True, "0.100")]
    assert "seed 1, epoch 2: class back&lt;i&gt; has 4 % of the loss" in section
