"""The section of the report with the scores of each attack; what comes from runs is escaped."""

import html
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from comparison.attack_scores import AttackScores
from comparison.figures import attack_title, point_words
from comparison.table import CONTROL

Row = Mapping[str, float]


def scores_section(scores: AttackScores, attacks: Sequence[str], files: tuple[str, str]) -> str:
    """HTML of a table an attack, a row a loss; controls stand below what they are the control of.

    Args:
        scores: The scores.
        attacks: Names in the order in which they are shown, without controls.
        files: The tables of attacks and of points.
    """
    tables = "".join(
        _table(scores.attacks, attack, scores.calibrated, is_open=not index)
        for index, attack in enumerate(attacks)
    )
    error = (
        "ECE (expected calibration error) is of the probability of a class, over 15 equal bins of "
        "all valid pixels. "
        if scores.calibrated
        else ""
    )
    return (
        "<h2>Scores of each attack</h2><p>Relative area: the area under the curve divided by clean "
        "Dice, 1 where an attack does nothing. Half at: the budget that leaves half of the clean "
        "Dice, along straight lines between points. From the drop on, all is at the attack's last "
        "point: FP and FN are false positive and false negative pixels a slice and class, FP on "
        f"empty those of a slice without truth, rates are shares of the true area. {error}"
        "Intervals are 95 % bootstraps over volumes. A column's head sorts. All scores "
        f"are in {files[0]}, those of each point in {files[1]}.</p>{tables}"
    )


def _table(scores: pd.DataFrame, attack: str, calibrated: bool, *, is_open: bool) -> str:
    found = scores[scores["attack"].isin([attack, attack + CONTROL])]
    rows = [{str(key): value for key, value in row.items()} for row in found.to_dict("records")]
    first = rows[0]
    axis = str(first["axis"])
    heads = ["loss", "relative area", f"half at ({axis})", "relative drop"]
    heads += ["FP", "FN", "FP on empty", *(["ECE"] if calibrated else [])]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(_row(row, str(row["attack"]) != attack, calibrated) for row in rows)
    title = f"{attack_title(attack)}, last point: {point_words(axis, first['last_point'])}"
    return (
        f"<details{' open' * is_open}><summary>{html.escape(title)}</summary>"
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _row(row: Row, is_control: bool, calibrated: bool) -> str:
    loss = f"{row['loss']}, its control" if is_control else str(row["loss"])
    half = [_span(row, "half", ".3g")]
    if not math.isnan(row["half_valid_share"]) and math.isfinite(row["half"]):
        half.append(f"{100 * row['half_valid_share']:.3g} % of valid pixels")
    cells = [
        _cell(row["relative_area"], ".3f", _span(row, "relative_area", ".3f")),
        _cell(row["half"], ".3g", *half),
        _cell(row["last_drop"], ".3f", _span(row, "last_drop", ".3f")),
        *(
            _cell(row[f"last_{name}"], ".1f", *_rate(row, name), _before(row, name, ".1f"))
            for name in ("fp", "fn", "fp_empty")
        ),
    ]
    if calibrated:
        cells.append(_cell(row["last_ece"], ".4f", _before(row, "ece", ".4f")))
    return f"<tr><td>{html.escape(loss)}</td>{''.join(cells)}</tr>"


def _cell(value: float, digits: str, *below: str) -> str:
    if math.isnan(value):
        return '<td data-value="-1">none</td>'
    small = "".join(f"<small>{html.escape(words)}</small>" for words in below if words)
    return f'<td data-value="{_number(value)}">{_words(value, digits)}{small}</td>'


def _span(row: Row, name: str, digits: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if math.isnan(low) or math.isinf(low):  # no interval, or "never to never"
        return ""
    return f"{_words(low, digits)} to {_words(high, digits)}"


def _rate(row: Row, name: str) -> list[str]:
    rate = row.get(f"last_{name}_rate", math.nan)
    if math.isnan(rate):
        return []
    percent = 100 * rate
    return [f"{percent:,.0f} % of true" if percent >= 100 else f"{percent:.3g} % of true"]  # noqa: PLR2004


def _before(row: Row, name: str, digits: str) -> str:
    value = row[f"clean_{name}"]
    return "" if math.isnan(value) else f"clean {_words(value, digits)}"


def _words(value: float, digits: str) -> str:
    return "never" if math.isinf(value) else f"{value:z{digits}}"  # z: no minus before 0.000


def _number(value: float) -> str:
    """As JavaScript reads it."""
    return "Infinity" if math.isinf(value) else f"{value:.6f}"
