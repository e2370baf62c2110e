"""What the saved report shows is what the counts say, and nothing in it runs but its own code."""

import base64
import gzip
import hashlib
import html
import io
import json
import re
import resource
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from comparison.report import write_report
from comparison.report_page import report_notes
from comparison.selection import choose_runs, select_runs
from datamodules.workers import available_cores
from robustness.counts import CLEAN_ROW, Row
from tests.comparison.conftest import HOSTILE, Report
from tests.comparison.made import (
    CASES,
    ROWS,
    area_by_hand,
    made_counts,
    made_frame,
    made_run,
    mean_dice,
    snapshots_of,
    store_run,
)
from tests.places import Place
from tests.tools import needs_chromium, opened_page


class Page(HTMLParser):
    """Elements of a page with their attributes, and the text of its scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id") or f"script {len(self.scripts)}"

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text += data
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def json(self, name: str) -> Any:  # noqa: ANN401 (whatever the page holds)
        return json.loads(self.scripts[name])


def pixels(picture: bytes) -> bytes:
    return Image.open(io.BytesIO(picture)).convert("RGB").tobytes()


def helpers_seconds() -> float:
    """Processors' time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(report.page)


def test_the_data_of_the_figures_are_those_of_the_counts(report: Report, page: Page) -> None:
    data = page.json("figure-data")
    assert set(data) == set(report.frames)
    for loss, frames in report.frames.items():
        dice = mean_dice(frames)
        found = data[loss]
        assert found["clean"] == pytest.approx(dice["clean", 0.0])
        assert found["seeds"] == len(frames)
        shown = {
            (attack, point): value
            for attack, curve in found["attacks"].items()
            for point, value in zip(curve["point"], curve["dice"], strict=True)
        }
        expected = {key: value for key, value in dice.items() if key[0] != "clean"}
        assert shown == pytest.approx(expected)
        assert found["auc"] == pytest.approx(
            {attack: area_by_hand(dice, attack) for attack in found["attacks"]}
        )
        spread = [curve["seed_low"] for curve in found["attacks"].values()]
        assert all((value is None) == (len(frames) == 1) for low in spread for value in low)


def test_the_charts_draw_the_same_numbers(report: Report, page: Page) -> None:
    data = page.json("figure-data")
    charts = [name.removeprefix("chart-") for name in page.scripts if name.startswith("chart-")]
    assert charts == ["top5_beyond_range", "topn_random", "top5_in_range_abs"]
    for attack in charts:
        traces = {trace["name"]: trace for trace in page.json(f"chart-{attack}")["data"]}
        for loss in report.frames:
            curve, name = data[loss]["attacks"][attack], html.escape(loss)
            line, band = traces[name], traces[f"{name}, 95 % over volumes"]
            assert line["x"] == curve["point"]
            assert line["y"] == pytest.approx(curve["dice"])
            assert band["fill"] == "toself"
            assert band["x"] == curve["point"] + curve["point"][::-1]
            assert band["y"] == pytest.approx(curve["high"] + curve["low"][::-1])
            if loss == "bce":
                tops = [y + up for y, up in zip(line["y"], line["error_y"]["array"], strict=True)]
                assert tops == pytest.approx(curve["seed_high"])
            else:
                assert "error_y" not in line
            assert traces[f"{name}, no attack"]["y"] == pytest.approx([data[loss]["clean"]] * 2)
            control = traces.get(f"{name}, random pixels")
            assert (control is None) == (attack != "topn_random")
            if control:
                expected = data[loss]["attacks"]["topn_random_control"]
                assert control["y"] == pytest.approx(expected["dice"])
                assert control["visible"] == "legendonly"


def test_what_comes_from_runs_is_escaped(report: Report, page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"b", "i", "u"}
    assert HOSTILE in page.text
    assert "<u>left</u>" in page.text
    assert "<i>Phantom</i> & hippocampus" in page.text
    # The page's own scripts, the data, one a chart and plotly: none was opened by a name.
    assert len(page.scripts) == 3 + 3
    assert report.page.count("</script>") == len(page.scripts)


def test_the_page_needs_no_other_file(page: Page) -> None:
    for tag, attributes in page.elements:
        assert not {"href", "srcset", "data"} & set(attributes)
        source = attributes.get("src")
        assert source is None or (tag == "img" and source.startswith("data:image/webp;base64,"))
    code = gzip.decompress(base64.b64decode(page.scripts["plotly-gz"])).decode()
    assert "Plotly" in code


def test_pictures_are_those_among_the_files(report: Report, page: Page) -> None:
    figures = sorted((report.folder / "figures").glob("*.png"))
    files = {path.name: pixels(path.read_bytes()) for path in figures}
    shown = [
        pixels(base64.b64decode(str(attributes["src"]).partition(",")[2]))
        for tag, attributes in page.elements
        if tag == "img"
    ]
    assert sorted(files) == [
        "curve_top5_in_range_abs.png",
        "figure1_saliency_case_000_slice12.png",
        "figure3_top5_beyond_range.png",
        "figure4_shrinking_case_000_slice12.png",
        "figure6_topn_random.png",
        "figure7_masks_case_000_slice12.png",
        "ledger_bce.png",
        "margins_case_000_slice12.png",
        "ranking.png",
    ]
    assert all(path.with_suffix(".pdf").read_bytes().startswith(b"%PDF-") for path in figures)
    assert sorted(shown) == sorted(files.values())


def test_the_page_says_what_was_compared_and_what_was_not(report: Report, page: Page) -> None:
    assert "2 losses, 3 runs, seeds 0, 1; 4 volumes of the split test" in page.text
    for compared in report.selection.runs:
        assert compared.run.run_id in page.text
        assert compared.run.tags["segstress.revision"][:12] in page.text
        assert compared.counts.metadata["checkpoint_sha256"][:12] in page.text
    assert "not attacked on the split test" in page.text
    assert page.text.count("95 %") > 1


def test_notes_warn_of_what_the_numbers_do_not_say(page: Page) -> None:
    assert "Synthetic data" in page.text
    assert f"One seed only of {HOSTILE}:" in page.text
    assert "Nothing can be claimed about the loss." in page.text
    assert "about 195 subjects" in page.text
    assert "differ in more than loss and seed (epochs: 1, 2)" in page.text


def test_notes_that_do_not_hold_are_not_given() -> None:
    found = [(made_run(seed, "bce", seed), made_counts()) for seed in (1, 0)]
    assert report_notes(choose_runs("Task09_Spleen", "test", found)) == []
    phantom = [(made_run(1, task="Task00_Phantom"), made_counts())]
    notes = report_notes(choose_runs("trials", "test", phantom))
    assert [note.split(":")[0] for note in notes] == ["Synthetic data", "One seed only of bce"]


def test_scores_can_be_sorted_by_their_full_value(report: Report) -> None:
    values = [float(value) for value in re.findall(r'<td data-value="([^"]+)"', report.page)]
    assert values
    table = report.table.set_index("loss")
    for value in table["clean"]:
        assert any(abs(value - shown) < 1e-6 for shown in values)


def test_the_same_runs_give_the_same_files_and_replace_their_own_alone(
    report: Report, tmp_path: Path
) -> None:
    (tmp_path / "figures").mkdir()
    stale = tmp_path / "figures" / "margins_gone_slice1.png"
    own = [
        tmp_path / "notes.txt",
        *(tmp_path / "figures" / name for name in ("mine.png", "figure1.png", "margins.png")),
    ]
    for path in (stale, *own):
        path.write_text("old")
    with report.place.environment():
        write_report(report.selection, tmp_path, "python main.py compare --experiment '<i>'")
    assert not stale.exists()
    assert [path.read_text() for path in own] == ["old"] * len(own)
    files = [path.relative_to(report.folder) for path in report.folder.rglob("*")]
    files = [path for path in files if (report.folder / path).is_file()]
    # Nine figures as PNG and PDF, six tables, the page and what made it.
    assert len(files) == 2 * 9 + 6 + 2
    for path in files:
        assert (tmp_path / path).read_bytes() == (report.folder / path).read_bytes()
    assert not list(tmp_path.glob(".partial-*"))


def test_every_file_has_the_command_and_the_revision_that_made_it(
    report: Report, page: Page
) -> None:
    made = json.loads((report.folder / "made.json").read_text(encoding="utf-8"))
    assert made["command"] == "python main.py compare --experiment '<i>'"
    assert made["revision"] in page.text
    assert page.text.count(made["command"]) == 2
    assert [run["run"] for run in made["runs"]] == [
        compared.run.run_id for compared in report.selection.runs
    ]
    for run, compared in zip(made["runs"], report.selection.runs, strict=True):
        assert run["trained_at_revision"] == compared.run.tags["segstress.revision"]
    found = {
        str(path.relative_to(report.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in report.folder.rglob("*")
        if path.is_file() and path.name != "made.json"
    }
    assert made["files"] == found


def test_the_decision_is_told_in_sentences_and_in_tables(report: Report, page: Page) -> None:
    pairs = pd.read_csv(report.folder / "pairs.csv")
    answers = pd.read_csv(report.folder / "questions.csv")
    ranking = pd.read_csv(report.folder / "ranking.csv")
    words = " ".join(page.text.split())
    for answer in answers["sentence"]:
        assert " ".join(answer.split()) in words
    # bce has two seeds and the other loss has one: no claim, and p over seeds is none.
    assert set(pairs["design"]) == {"one seed"}
    assert pairs["p_seeds"].isna().all()
    assert all(text.startswith("No claim about bce and ") for text in pairs["claim"])
    table = report.table.set_index("loss")
    for row in pairs.to_dict("records"):
        measure = row["measure"]
        expected = table.loc[row["loss"], measure] - table.loc[row["other"], measure]
        assert row["difference"] == pytest.approx(expected, abs=1e-5)
    for row in ranking.to_dict("records"):
        assert row["value"] == pytest.approx(table.loc[row["loss"], row["measure"]], abs=1e-5)
    assert set(answers["measure"]) == set(pairs["measure"])


def test_what_cannot_be_written_leaves_the_old_report(place: Place, tmp_path: Path) -> None:
    frame = made_frame(0, rows=ROWS[:4])
    store_run(tmp_path, frame, {"loss": "bce", "seed": "0"})
    selection = select_runs("Task90_Blob", "test")
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.html").write_text("old")
    (folder / "table.csv").mkdir()
    with pytest.raises(OSError, match=r"table\.csv"):
        write_report(selection, folder, "compare")
    assert (folder / "report.html").read_text() == "old"
    assert not list(folder.glob(".partial-*"))

    (folder / "table.csv").rmdir()
    write_report(selection, folder, "compare")
    assert "The runs hold no pictures." in (folder / "report.html").read_text()


@pytest.mark.slow
def test_a_report_of_four_losses_and_four_pictured_cases_is_small(
    place: Place, tmp_path: Path
) -> None:
    assert place.uri
    for number, loss in enumerate(("bce", "batch_dice", "bce+batch_dice", "focal")):
        snapshots = snapshots_of(number, CASES)
        store_run(tmp_path, made_frame(number), {"loss": loss, "seed": "0"}, snapshots=snapshots)
    write_report(select_runs("Task90_Blob", "test"), tmp_path, "compare")
    page = tmp_path / "report.html"
    assert page.read_text(encoding="utf-8").count("<summary>case_") == 4
    assert page.stat().st_size < 5e6


@pytest.mark.slow
def test_twelve_runs_of_sixty_cases_are_compared_in_little_time(
    place: Place, tmp_path: Path
) -> None:
    cases = [f"case_{index:03d}" for index in range(60)]
    rows = [
        CLEAN_ROW,
        *(
            Row(f"{name}{control}", axis, index, float(point), repeat)
            for name, axis, points, repeats in (
                ("top5_in_range", "level", (0, 0.05, 0.1, 0.15, 0.2), 1),
                ("top5_beyond_range", "level", (0, 0.1, 0.2, 0.4, 0.6, 0.8, 1), 1),
                ("topn_at_max", "pixels", (1, 2, 5, 10, 20, 30, 40, 50), 1),
                ("topn_random", "pixels", (1, 2, 5, 10, 20, 30, 40, 50), 100),
            )
            for control in ("", "_control")
            for index, point in enumerate(points)
            for repeat in range(repeats)
        ),
    ]
    for number, loss in enumerate(("bce", "batch_dice", "bce+batch_dice", "focal")):
        for seed in range(3):
            store_run(
                tmp_path,
                made_frame(3 * number + seed, cases=cases, rows=rows),
                {"loss": loss, "seed": str(seed)},
                snapshots=snapshots_of(number, cases[:4]),
            )
    began, helped = time.process_time(), helpers_seconds()
    selection = select_runs("Task90_Blob", "test")
    written = write_report(selection, tmp_path / "report", "compare")
    own = time.process_time() - began
    # Processors' time, which does not hang on what else the machine does: with nothing else to do
    # it takes as long as this process works, or as all processes do on all cores.
    both = (own + helpers_seconds() - helped) / available_cores()
    assert max(own, both) < 20
    assert len(selection.runs) == 12
    assert len(written.answers) == 9
    assert (tmp_path / "report" / "report.html").stat().st_size < 5e6


@pytest.mark.browser
@needs_chromium
def test_a_browser_draws_the_charts_and_sorts_the_table(report: Report, tmp_path: Path) -> None:
    script = (
        "const scores = document.querySelectorAll('table.sortable')[SORTED];"
        "const head = scores.querySelectorAll('th')[2].firstElementChild;"
        "head.focus(); head.click(); document.activeElement.click();"
    )
    tables = [str(attributes.get("class")) for _, attributes in Page(report.page).elements]
    of_pairs = report.page[: report.page.index("<h2>Scores</h2>")].count('"sortable"')
    assert tables.count("sortable") > of_pairs > 0
    copy = tmp_path / "report.html"
    script = f"<script>{script.replace('SORTED', str(of_pairs))}</script></body>"
    copy.write_text(report.page.replace("</body>", script))
    done = opened_page(copy)
    # The browser writes here what a page logs and where it fails, among lines of its own.
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    dom = done.stdout
    drawn = Page(dom)
    charts = [attributes for _, attributes in drawn.elements if "data-figure" in attributes]
    assert len(charts) == 3
    assert all("js-plotly-plot" in str(attributes["class"]) for attributes in charts)
    buttons = {
        attributes["data-title"] for _, attributes in drawn.elements if "data-title" in attributes
    }
    assert "Zoom" in buttons
    assert not any("share" in str(title).lower() for title in buttons)
    scores = dom[dom.index("<h2>Scores</h2>") :]
    scores = scores[scores.index("<tbody>") : scores.index("</tbody>")]
    clean = [float(row.split('data-value="')[1].split('"')[0]) for row in scores.split("<tr>")[1:]]
    assert len(clean) == 2
    assert clean == sorted(clean, reverse=True)
