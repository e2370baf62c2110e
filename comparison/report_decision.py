"""The section of the report that says which loss holds; what comes from runs is escaped."""

import html
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from comparison.decision import FIGURE, TABLES, Decided
from comparison.pairs import PAIRED, WELCH
from comparison.report_html import breakable, notice
from comparison.report_pictures import image_html
from comparison.sentences import p_words

_INTRODUCTION = (
    "<p>A claim about a loss is one about trainings: its unit is the seed, and it stands where "
    "the t-test over seeds (paired where the losses share two seeds or more, else Welch's) has p "
    "below 0.05. What is seen over cases holds for these trained networks only: their mean "
    "difference with its BCa bootstrap interval (expanded for few cases), and the paired Wilcoxon "
    "test. Intervals are 95 %, each for itself; every p is adjusted (Holm) for all pairs of its "
    "question.</p>"
)
_HEADS = (
    *("pair", "difference", "over cases (BCa)", "p, Wilcoxon", "cases"),
    *("over seeds (t)", "p, t-test", "seeds"),
)
_DESIGNS = {PAIRED: "paired", WELCH: "Welch"}


def decision_section(decided: Sequence[Decided], figures: Mapping[str, bytes]) -> str:
    """HTML with a sentence a question, the ranking, and all pairs at a click.

    Args:
        decided: The questions with their answers.
        figures: The ranking's figure, none where there is none.
    """
    head = "<h2>Which loss holds?</h2>"
    if not decided:
        return head + notice("There is one loss only: nothing to compare it with.")
    answers = "".join(
        f"<li><strong>{html.escape(one.question.title)}.</strong> {html.escape(one.sentence)}</li>"
        for one in decided
    )
    picture = "".join(
        f"<p>{image_html(png, 'how often each loss has each rank')}</p>"
        f"<p>{_ranking_words(decided)}</p>"
        for name, png in figures.items()
        if name == FIGURE
    )
    pairs = "".join(_pairs(one, is_open=not index) for index, one in enumerate(decided))
    return (
        f'{head}<ul class="answers">{answers}</ul>{_INTRODUCTION}'
        f"{picture}<h3>All pairs of losses</h3>{pairs}"
        f"<p>The same numbers are in {', '.join(TABLES)}.</p>"
    )


def _ranking_words(decided: Sequence[Decided]) -> str:
    single = min(int(one.ranking["seeds"].min()) for one in decided if not one.ranking.empty)
    words = (
        "Cases and seeds are drawn again, each with replacement: the same cases for all losses, "
        "and the same seeds where all have the same ones. With few seeds the true spread is wider."
    )
    if single == 1:
        words += " A loss with one seed keeps it: its share says nothing about other trainings."
    return words


def _pairs(one: Decided, *, is_open: bool) -> str:
    rows = one.pairs.to_dict("records")
    head = "".join(f"<th>{html.escape(words)}</th>" for words in _HEADS)
    body = "".join(_row(row) for row in rows)
    said = "".join(
        f"<li>{html.escape(row['claim'])} {html.escape(row['networks'])}</li>" for row in rows
    )
    return (
        f"<details{' open' * is_open}><summary>{html.escape(one.question.title)}</summary>"
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div><ul>{said}</ul></details>"
    )


def _row(row: Mapping[Hashable, Any]) -> str:
    pair = f"{breakable(str(row['loss']))} minus {breakable(str(row['other']))}"
    seeds = sorted({row["seeds"], row["seeds_other"]})
    design = _DESIGNS.get(row["design"], row["design"])
    cells = (
        f"<td>{pair}</td>",
        _value(row["difference"]),
        _ends(row["low"], row["high"]),
        _p(row["p_cases_holm"]),
        f"<td>{row['cases']}</td>",
        _ends(row["seed_low"], row["seed_high"]),
        _p(row["p_seeds_holm"]),
        f'<td data-value="{seeds[0]}">{html.escape(" and ".join(map(str, seeds)))}'
        f"<small>{html.escape(design)}</small></td>",
    )
    return f"<tr>{''.join(cells)}</tr>"


def _value(value: float) -> str:
    if math.isnan(value):
        return '<td data-value="-9">none</td>'
    return f'<td data-value="{value:.6f}">{round(value, 3) + 0.0:+.3f}</td>'


def _ends(low: float, high: float) -> str:
    if pd.isna(low):
        return '<td data-value="-9">none</td>'
    return f'<td data-value="{low:.6f}">{low:+.3f} to {high:+.3f}</td>'


def _p(p: float) -> str:
    if math.isnan(p):
        return '<td data-value="9">none</td>'
    words = p_words(p).removeprefix("p ").removeprefix("= ")
    return f'<td data-value="{p:.6g}">{html.escape(words)}</td>'
