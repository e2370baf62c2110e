"""The section of the report on what the networks look at; what comes from runs is escaped."""

import html
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from comparison.agreement import agreements
from comparison.claim import claim_picture, weighed_claim
from comparison.map_pictures import (
    MOST_ROWS,
    CasePictures,
    MapCase,
    Marks,
    map_cases,
    map_pictures,
)
from comparison.report_html import left_out_notes, notice
from comparison.report_pictures import image_html
from comparison.report_spread import claim_part, spread_part
from comparison.report_trust import agreement_part, curves_part, trust_part
from comparison.saliency_files import (
    Stored,
    stored_curves,
    stored_maps,
    stored_spreads,
    stored_trust,
)
from comparison.selection import Selection
from comparison.spreads import spread_scores, temperatures
from comparison.trust import curves_table, run_marks, trust_pictures, trust_table, verdicts
from lightning_module.keys import unique_slugs
from robustness.pictured import SliceMaps
from robustness.spread_table import SpreadFile

TABLES = ("spread.csv", "claim.csv", "agreement.csv", "trust.csv", "trust_curves.csv")
COMMAND = "python main.py test --ckpt_path ... --config conf/saliency/full.yaml"

_INTRODUCTION = (
    "<h2>What the networks look at</h2><p>z is a pixel's logit and p = sigmoid(z). Where a network "
    "ends in a softmax, z is the lead of a class over its strongest rival, another class or the "
    "background, and p the sigmoid of that lead, which is not the softmax's probability.</p>"
)


@dataclass
class SaliencyLab:
    """What the saliency lab adds to a report.

    Attributes:
        section: HTML.
        tables: Tables by the names of their files.
        figures: PNGs by the names of their files, without ending.
    """

    section: str = _INTRODUCTION
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, bytes] = field(default_factory=dict)


def saliency_lab(selection: Selection) -> SaliencyLab:
    """Spread, claim, agreement, trust and maps, as far as runs hold them.

    Args:
        selection: The runs.

    Raises:
        InputError: If a stored file cannot be read.
    """
    lab = SaliencyLab()
    spreads, maps = stored_spreads(selection), stored_maps(selection)
    trust = stored_trust(selection, maps)
    if not any(one.runs or one.left_out for one in (spreads, maps, trust)):
        lab.section += (
            "<p>No run holds maps, how widely they spread or whether they can be trusted. "
            f"<code>{html.escape(COMMAND)}</code></p>"
        )
        return lab
    lab.section += _incomplete("spread", spreads)
    _add_spread(lab, selection, spreads)
    lab.section += _incomplete("maps", maps)
    _add_agreement(lab, selection, maps)
    lab.section += _incomplete("verdicts on methods", trust)
    _add_trust(lab, selection, trust)
    _add_pictures(lab, selection, maps, run_marks(trust))
    return lab


def _add_spread(lab: SaliencyLab, selection: Selection, stored: Stored[SpreadFile]) -> None:
    scores = spread_scores(stored)
    if scores.empty:
        return
    spread_file, claim_file, *_ = TABLES
    claim = weighed_claim(selection, stored)
    figures = claim_picture(selection, claim)
    lab.tables |= {spread_file: scores, claim_file: claim.table}
    lab.figures |= figures
    lab.section += spread_part(scores, temperatures(stored), spread_file)
    lab.section += claim_part(claim, figures, claim_file)


def _add_agreement(lab: SaliencyLab, selection: Selection, stored: Stored[list[SliceMaps]]) -> None:
    table = agreements(selection, stored)
    if not table.empty:
        lab.tables[TABLES[2]] = table
        lab.section += agreement_part(table, TABLES[2])


def _add_trust(lab: SaliencyLab, selection: Selection, stored: Stored[pd.DataFrame]) -> None:
    table = trust_table(stored)
    if table.empty:
        return
    *_, trust_file, curves_file = TABLES
    lab.tables[trust_file] = table
    lab.section += trust_part(verdicts(table), trust_file)
    curves = stored_curves(selection, stored)
    if not curves:
        return
    pictures = trust_pictures(selection, curves)
    stems = unique_slugs(f"trust_{method}" for method in pictures)
    lab.tables[curves_file] = curves_table(curves)
    lab.figures |= {stem: png for stem, (png, _) in zip(stems, pictures.values(), strict=True)}
    lab.section += curves_part(pictures, curves_file)


def _add_pictures(
    lab: SaliencyLab, selection: Selection, stored: Stored[list[SliceMaps]], marks: Marks
) -> None:
    cases = map_cases(selection, stored, marks)
    if not cases:
        return
    drawn = map_pictures(selection, cases)
    for pictures in drawn:
        lab.figures |= pictures.files
    lab.section += (
        "<h3>The maps</h3><p>Of each pictured slice, a row of the grid is a method, "
        "a column the first run of a loss, and all maps of a row are on one scale, symmetric about "
        "0 where they have signs. A method that failed a check on a run, or was not checked, is "
        "marked there; one that drew none there, or drew them with other settings, is "
        "<em>none</em>. Each method at large, with image, truth and prediction, is at a click: a "
        f"row for every run that has it, all on one scale, {MOST_ROWS} rows at most.</p>"
        + "".join(
            _case(case, pictures, is_open=not index)
            for index, (case, pictures) in enumerate(zip(cases, drawn, strict=True))
        )
    )


def _case(case: MapCase, pictures: CasePictures, *, is_open: bool) -> str:
    at = f"{case.case}, slice {case.slice_index}"
    shown = ", ".join(f"{row.loss} with {row.words}" for row in case.first_rows)
    words = f"Maps of {case.explained}: {shown}."
    if case.missing:
        words += f" No maps of {', '.join(case.missing)}."
    grid = image_html(pictures.grid[1], html.escape(f"maps of {at}", quote=True))
    large = "".join(
        f"<details><summary>{html.escape(_method_title(case, method))}</summary>"
        f"{_hidden(case, method)}"
        f"<p>{_large(png, f'{method} of {at}')}</p></details>"
        for method, (_, png) in pictures.methods.items()
    )
    return (
        f"<details{' open' * is_open}><summary>{html.escape(at)}</summary>"
        f"<p>{html.escape(words)}</p><p>{grid}</p>{large}</details>"
    )


def _large(png: bytes, words: str) -> str:
    return image_html(png, html.escape(words, quote=True), optional=True)


def _method_title(case: MapCase, method: str) -> str:
    """A method with what is wrong with it and where: ``lime (bce: fails stable)``."""
    words = case.marked(method)
    return f"{method} ({words})" if words else method


def _hidden(case: MapCase, method: str) -> str:
    """How many runs are not in the picture of a method, if any."""
    count = case.hidden(method)
    if not count:
        return ""
    shown = len(case.shown_rows(method))
    return notice(
        f"{shown} runs are shown and {count} are not: of each loss the first ones. The scale is of "
        "those that are shown."
    )


def _incomplete(what: str, stored: Stored[Any]) -> str:
    """What is missing or left out of one kind of file, with the command that makes it."""
    missing = (
        notice(f"No {what} of {'; '.join(stored.without)}: {COMMAND}") if stored.without else ""
    )
    return missing + left_out_notes(f"the {what}", stored.notes)
