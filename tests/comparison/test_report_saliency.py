"""The page shows what networks look at as runs hold it, and says what is missing."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from comparison.map_pictures import MOST_ROWS
from comparison.report import write_report
from comparison.report_saliency import COMMAND, TABLES, saliency_lab
from comparison.selection import Selection, select_runs
from robustness.temperature import OUTPUTS
from tests.comparison.conftest import HOSTILE
from tests.comparison.made import (
    made_evidence,
    made_frame,
    made_spread,
    made_verdict,
    store_maps,
    store_run,
    store_spread,
    store_trust,
)
from tests.comparison.test_claim import counted, spread_of
from tests.comparison.test_report import Page
from tests.places import Place
from tests.robustness.maps import made_maps
from tests.tools import needs_chromium, opened_page

HEADS = [
    "How widely the maps spread",
    "Does a wider spread go with more robustness?",
    "Whether maps agree",
    "Whether maps can be trusted",
    "The maps",
]
METHODS = ("gradient", "lime")
REFUSED = "grad_cam: <u>no layer</u>"


@pytest.fixture
def selection(place: Place, tmp_path: Path) -> Selection:
    """``bce`` with two seeds and ``HOSTILE`` with one, all measured; ``dice`` without anything."""
    assert place.uri
    for index, (loss, seed) in enumerate((("bce", 0), ("bce", 1), (HOSTILE, 0), ("dice", 0))):
        frame = counted(0.3 + 0.1 * index)
        run = store_run(tmp_path, frame, {"loss": loss, "seed": str(seed)})
        if loss == "dice":
            continue
        spread = pd.concat([made_spread(index), spread_of({"<i>other</i>": 9.0})])
        store_spread(tmp_path, run, spread, {"temperature": str(0.5 + index)})
        maps = np.random.default_rng(index).normal(size=(2, 1, 32, 32)).astype(np.float32)
        hostile = made_maps(0, methods=METHODS, case="<i>case</i>")
        store_maps(tmp_path, run, [replace(hostile, maps=maps, explained="<u>p</u>")])
        verdicts = [made_verdict("gradient"), made_verdict("lime", *["stable"] * (index < 2))]
        store_trust(
            tmp_path,
            run,
            verdicts,
            {"<u>mine</u>": REFUSED} if index == 2 else None,
            explained="<u>p</u>",
            evidence=[made_evidence(name) for name in METHODS],
        )
    return select_runs("Task90_Blob", "test")


def test_what_runs_hold_has_a_part_a_table_and_pictures(
    selection: Selection, tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    write_report(selection, folder, "compare")
    page = (folder / "report.html").read_text(encoding="utf-8")
    section = page[page.index("<h2>What the networks look at</h2>") :]
    assert re.findall("<h3>(.*?)</h3>", section)[: len(HEADS)] == HEADS
    for name in TABLES:
        assert len(pd.read_csv(folder / name))
    figures = {path.name for path in (folder / "figures").glob("*.png")}
    assert {
        "claim.png",
        "maps__i_case_i__slice12.png",
        "maps__i_case_i__slice12_gradient.png",
        "maps__i_case_i__slice12_lime.png",
        "trust_gradient.png",
        "trust_lime.png",
    } <= figures
    assert page.count("<img") == len(figures)


def test_the_tables_are_what_was_measured(selection: Selection) -> None:
    tables = saliency_lab(selection).tables
    assert list(tables) == list(TABLES)
    spread, claim, agreement, trust, curves = tables.values()
    assert set(spread["loss"]) == {"bce", HOSTILE}
    assert set(spread["output"]) == {"probability", "logit", "tempered", "<i>other</i>"}
    assert claim["test"].tolist() == ["primary"] * 3 + ["secondary"] * 6
    kinds = agreement.groupby(["kind", "loss"]).size().to_dict()
    assert kinds == {("methods", "bce"): 1, ("methods", HOSTILE): 1, ("seeds", "bce"): 2}
    assert len(trust) == 7
    assert curves.groupby(["loss", "seed", "method"]).size().tolist() == [8] * 6


def test_the_page_says_what_the_tables_say(selection: Selection) -> None:
    lab = saliency_lab(selection)
    words = " ".join(Page(lab.section).text.split())
    row = lab.tables["spread.csv"].query(
        "output == 'probability' and measure == 'inside_share' and loss == 'bce'"
    )
    value = 100 * float(row["value"].iloc[0])
    low, high = (100 * float(row[end].iloc[0]) for end in ("low", "high"))
    assert f"{value:.1f}{low:.1f} to {high:.1f}seeds " in words
    assert "Of 3 runs of 2 losses, spread against robustness." in words
    assert f"One run only of {HOSTILE}: its point is a single training" in words
    assert "Not in this test: dice, seed 0: no spread is stored." in words
    for what in ("spread", "maps", "verdicts on methods"):
        assert f"No {what} of dice, seed 0: {COMMAND}" in words
    assert "✗ fails stablerandomised 0.250deletion_gain 0.125insertion_gain 0.0625" in words
    assert "✓ passrandomised 0.250" in words
    assert "✗ refusedgrad_cam: <u>no layer</u>" in words
    assert "may be at most 0.5 (median over slices)" in words
    assert "lime (bce: fails stable)" in words
    assert "0.250deletion_gain 0.125insertion_gain 0.0625stable 0.7508 slices" in words
    assert "in three of four or more the area between the two curves must be above 0" in words
    assert "of 1 % of its own range of intensities" in words
    assert "Where fewer than 8 slices tell, a pass is worth little" in words
    assert "called the same everywhere, which is no failure" in words
    assert f"The checks of limeShown: bce with seed 0, {HOSTILE} with seed 0." in words
    assert "z is the lead of a class over its strongest rival" in words
    assert f"Maps of <u>p</u>: bce with seed 0, {HOSTILE} with seed 0. No maps of dice." in words
    rho = lab.tables["agreement.csv"].query("kind == 'seeds' and method == 'lime'")["spearman"]
    assert f"lime{float(rho.iloc[0]):z.2f}" in words


def test_marks_that_are_no_failure_do_not_look_like_one(place: Place, tmp_path: Path) -> None:
    assert place.uri
    verdicts = (
        made_verdict("gradient", slices=0),
        made_verdict("lime", slices=3),
        made_verdict("occlusion", "stable"),
        made_verdict("deeplift"),
    )
    run = store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    store_trust(tmp_path, run, verdicts)
    section = saliency_lab(select_runs("Task90_Blob", "test")).section
    cells = re.findall(r'<td class="(\w+)">([^<]+)<small>', section)
    assert cells == [
        ("none", "the same everywhere"),
        ("pass", "✓ pass"),
        ("fail", "✗ fails stable"),
        ("none", "checked on 3 slices only"),
    ]


def test_runs_that_are_not_in_a_picture_are_counted(place: Place, tmp_path: Path) -> None:
    assert place.uri
    for seed in range(MOST_ROWS + 2):
        run = store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": str(seed)})
        store_maps(tmp_path, run, [made_maps(0)])
    section = saliency_lab(select_runs("Task90_Blob", "test")).section
    assert "12 runs are shown and 2 are not" in section


def test_methods_that_are_left_out_are_named_with_the_settings(
    place: Place, tmp_path: Path
) -> None:
    assert place.uri
    like = made_maps(0, methods=METHODS)
    for loss, samples in (("bce", 5), ("dice", 25)):
        lime = f'{{"method": "lime", "samples": {samples}}}'
        run = store_run(tmp_path, made_frame(0), {"loss": loss, "seed": "0"})
        shown = replace(like, settings=np.array([like.settings[0], lime]))
        store_maps(tmp_path, run, [shown])
        store_trust(tmp_path, run, [made_verdict(name) for name in METHODS])
    section = saliency_lab(select_runs("Task90_Blob", "test")).section
    words = "bce, seed 0: lime with samples 5 instead of 25 as in dice, seed 0."
    assert f"Not in the maps: {words}" in section
    assert f"Not in the verdicts on methods: {words}" in section


def test_intervals_of_the_claim_are_told_or_why_there_is_none(place: Place, tmp_path: Path) -> None:
    assert place.uri
    for index, (loss, seeds) in enumerate((("bce", 3), ("dice", 1), ("<u>focal</u>", 1))):
        for seed in range(seeds):
            number = 3 * index + seed
            run = store_run(
                tmp_path, counted(0.3 + 0.04 * number), {"loss": loss, "seed": str(seed)}
            )
            spread = spread_of(dict.fromkeys(OUTPUTS, 20.0 + number))
            store_spread(tmp_path, run, spread)
    section = saliency_lab(select_runs("Task90_Blob", "test")).section
    # In the sentence of the primary test, and in the table of the two others.
    assert section.count("no interval: one run only of &lt;u&gt;focal&lt;/u&gt;, dice") == 3
    assert section.count("95 % interval over seeds +") == 1
    assert section.count("<small>95 % interval +") == 2


def test_what_comes_from_runs_is_escaped(selection: Selection) -> None:
    page = Page(saliency_lab(selection).section)
    assert not {tag for tag, _ in page.elements} & {"i", "u", "script"}
    bold = [tag for tag, _ in page.elements].count("b")
    # The claim's sentence and the names of the four checks.
    assert bold == 1 + 4
    assert HOSTILE in page.text


def test_without_any_of_it_one_line_says_what_makes_it(place: Place, tmp_path: Path) -> None:
    assert place.uri
    store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    lab = saliency_lab(select_runs("Task90_Blob", "test"))
    assert re.findall("<h[23]>(.*?)</h[23]>", lab.section) == ["What the networks look at"]
    assert lab.section.count("<p>") == 2
    assert f"<code>{COMMAND}</code>" in lab.section
    assert not lab.tables
    assert not lab.figures


@pytest.mark.parametrize("kind", ["spread", "maps", "trust"])
def test_any_of_it_alone_is_shown(place: Place, tmp_path: Path, kind: str) -> None:
    assert place.uri
    run = store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    if kind == "spread":
        store_spread(tmp_path, run, made_spread(0, outputs=("probability", "logit")))
    elif kind == "maps":
        store_maps(tmp_path, run, [made_maps(0)])
    else:
        store_trust(tmp_path, run, [made_verdict("gradient")])
    lab = saliency_lab(select_runs("Task90_Blob", "test"))
    heads = {"spread": HEADS[:2], "maps": [HEADS[4]], "trust": [HEADS[3]]}
    assert re.findall("<h3>(.*?)</h3>", lab.section) == heads[kind]
    missing = {"spread", "maps", "trust"} - {kind}
    words = {"spread": "No spread of", "maps": "No maps of", "trust": "No verdicts on methods of"}
    assert all((words[name] in lab.section) == (name in missing) for name in words)
    if kind == "maps":
        assert "gradient (bce: not checked)" in lab.section


def test_tables_and_pictures_of_an_earlier_report_are_removed_and_no_others(
    place: Place, tmp_path: Path
) -> None:
    assert place.uri
    store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    folder = tmp_path / "report"
    (folder / "figures").mkdir(parents=True)
    names = ("claim", "maps_a_slice3", "maps_a_slice3_lime", "trust_lime")
    stale = [folder / name for name in TABLES]
    stale += [folder / "figures" / f"{name}.png" for name in names]
    own = [folder / "figures" / name for name in ("maps.png", "maps_mine.png", "my_claim.png")]
    for path in itertools.chain(stale, own):
        path.write_text("old")
    write_report(select_runs("Task90_Blob", "test"), folder, "compare")
    assert not [path for path in stale if path.exists()]
    assert [path.read_text() for path in own] == ["old"] * 3


@pytest.mark.browser
@needs_chromium
def test_a_browser_sorts_the_spread_by_a_click_and_shows_all_pictures(
    selection: Selection, tmp_path: Path
) -> None:
    write_report(selection, tmp_path / "report", "compare")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    # The first table of the section, which comes after those of the decision and of the scores.
    head = (
        "const title = [...document.querySelectorAll('h3')].find((head) => "
        f"head.textContent === {HEADS[0]!r});"
        "let next = title; while (!next.matches('details')) next = next.nextElementSibling;"
        "const table = next.querySelector('table.sortable');"
    )
    click = "table.querySelectorAll('th button')[3].click();"
    shown = (
        "document.body.dataset.broken = [...document.images].filter((image) => !image.complete "
        "|| !image.naturalWidth).length; document.body.dataset.order = "
        "[...table.tBodies[0].rows].map((row) => row.cells[3].dataset.value).join(' ');"
    )
    wait = f"addEventListener('load', () => {{ {head}{click}{shown} }});"
    copy = tmp_path / "report.html"
    copy.write_text(page.replace("</body>", f"<script>{wait}</script></body>"), encoding="utf-8")
    dom = opened_page(copy).stdout
    (body,) = [attributes for tag, attributes in Page(dom).elements if tag == "body"]
    assert body["data-broken"] == "0"
    order = [float(value) for value in str(body["data-order"]).split()]
    assert len(order) == 2
    assert order == sorted(order)
