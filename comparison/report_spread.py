"""How widely maps spread, and the claim about it, in the report; what runs say is escaped."""

import html
import math
from collections.abc import Hashable, Mapping, Sequence

import pandas as pd

from comparison.claim import METHOD, PRIMARY, Claim
from comparison.report_html import left_out_notes, notice, number, span
from comparison.report_pictures import image_html
from robustness.claim import ATTACK, LEVEL, RankTest
from robustness.spread import BAND

# Of each measure the head of its column, and what it is multiplied by.
_SHOWN = {
    "active_share_0.1": ("active (%)", 100),
    "effective_pixels": ("effective pixels", 1),
    "entropy": ("entropy (nats)", 1),
    "gini": ("Gini", 1),
    "radius": ("radius (pixels)", 1),
    "inside_share": ("inside (%)", 100),
    "border_share": ("border (%)", 100),
    "outside_share": ("outside (%)", 100),
    "sharpness": ("sharpness (1/pixel)", 1),
}
_OUTPUTS = {
    "probability": "Of the probability p = sigmoid(z)",
    "logit": "Of the logit z",
    "tempered": "Of the tempered probability sigmoid(z / T)",
}


def spread_part(
    scores: pd.DataFrame, temperatures: Mapping[str, Sequence[float]], file: str
) -> str:
    """HTML of a table an output, a row a loss and method.

    Args:
        scores: From :func:`comparison.spreads.spread_scores`; not empty.
        temperatures: Of the runs of each loss, in logits.
        file: The table of all measures.
    """
    tables = "".join(
        _table(str(output), found, temperatures if output == "tempered" else {}, not index)
        for index, (output, found) in enumerate(scores.groupby("output", sort=False))
    )
    return (
        "<h3>How widely the maps spread</h3><p>A map's magnitudes on slices with foreground: the "
        "mean over a volume's slices, over seeds, then over volumes. Active is the share of pixels "
        "above 0.1 of the slice's maximum; effective pixels, the exponential of the entropy, is "
        "how many pixels the map would cover if it were even; Gini is 0 for an even map and near 1 "
        "for a single pixel. Radius is the mean distance to the true border, and inside, border "
        f"(within {BAND:g} pixels) and outside say where the map lies. Sharpness is the sum of "
        "differences between neighbours over the sum of the map. A gradient of the probability "
        "depends on how large the logits are, though the mask does not; the tempered one is of "
        "logits divided by the temperature T that fits the truth best. Small: the 95 % bootstrap "
        "interval over volumes, then, where there are several seeds, the 95 % t-interval over "
        "them; with one seed a difference between losses may as well be one between two trainings "
        "of the same loss. A column's head sorts. All measures are in "
        f"{file}.</p>{tables}"
    )


def claim_part(claim: Claim, figures: Mapping[str, bytes], file: str) -> str:
    """HTML of the claim's test: the sentence, the figure, and the tests of the other outputs.

    Args:
        claim: The test.
        figures: Its figure, none where there is no point.
        file: The table of points.
    """
    rows = "".join(
        f"<tr><td>{html.escape(output)}</td><td>{tested.runs}</td>"
        f"{_tested(tested.between)}{_tested(tested.within)}</tr>"
        for output, tested in claim.tests.items()
        if output != PRIMARY
    )
    picture = "".join(
        f"<p>{image_html(png, 'spread against robustness, a dot a run')}</p>"
        for png in figures.values()
    )
    return (
        "<h3>Does a wider spread go with more robustness?</h3><p>Fixed before the two were first "
        f"compared: the spread of a run is the effective number of pixels of the {METHOD} of the "
        f"{PRIMARY}, on slices with foreground; its robustness is the area under {ATTACK} divided "
        "by clean Dice; rank correlation (Spearman's, from -1 to 1) between the means of losses, "
        "and apart from it between the seeds within a loss; the p of permutations, two-sided, at "
        f"{100 * LEVEL:g} %, and where it can be had the 95 % bootstrap interval over trainings."
        f"</p><p><b>{html.escape(claim.tests[PRIMARY].sentence)}</b></p>"
        f"{_single(claim)}{left_out_notes('this test', claim.left_out)}{picture}<p>Secondary, the "
        "same test of the gradient of other outputs; whatever they say, the first one is the test. "
        f"All points are in {file}.</p>"
        '<div class="scroll"><table><thead><tr><th>output</th><th>runs</th><th>between losses</th>'
        f"<th>within a loss</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _single(claim: Claim) -> str:
    """A note on losses of which there is one run only."""
    points = claim.table[claim.table["output"] == PRIMARY]
    losses = [str(loss) for loss, runs in points.groupby("loss", sort=False) if len(runs) == 1]
    if not losses:
        return ""
    return notice(
        f"One run only of {', '.join(losses)}: its point is a single training, which says little "
        "about the loss."
    )


def _table(
    output: str, scores: pd.DataFrame, temperatures: Mapping[str, Sequence[float]], is_open: bool
) -> str:
    several = scores["method"].nunique() > 1
    heads = ["loss", *(["method"] if several else []), "seeds"]
    heads += [words for words, _ in _SHOWN.values()]
    heads += ["T (logits)"] if temperatures else []
    head = "".join(f"<th>{html.escape(words)}</th>" for words in heads)
    body = []
    for (method, loss), found in scores.groupby(["method", "loss"], sort=False):
        measured = {str(row["measure"]): row for row in found.to_dict("records")}
        seeds = int(found["seeds"].max())
        cells = [f"<td>{html.escape(str(loss))}</td>"]
        cells += [f"<td>{html.escape(str(method))}</td>"] if several else []
        cells.append(f"<td>{seeds}</td>")
        cells += [_cell(measured.get(name), times) for name, (_, times) in _SHOWN.items()]
        if temperatures:
            known = temperatures.get(str(loss), [])
            words = span(min(known), max(known)) if known else "none"
            cells.append(f'<td data-value="{min(known, default=-1):.6g}">{words}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    methods = "" if several else f", by {scores['method'].iloc[0]}"
    title = html.escape(_OUTPUTS.get(output, f"Of {output}") + methods)
    return (
        f"<details{' open' * is_open}><summary>{title}</summary>"
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div></details>"
    )


def _cell(found: Mapping[Hashable, float] | None, times: float) -> str:
    if found is None or math.isnan(found["value"]):
        return '<td data-value="-1">none</td>'
    low, high, seed_low, seed_high = (
        times * found[end] for end in ("low", "high", "seed_low", "seed_high")
    )
    lines = (span(low, high), f"seeds {span(seed_low, seed_high)}".removesuffix("seeds "))
    small = "".join(f"<small>{words}</small>" for words in lines if words)
    value = times * found["value"]
    return f'<td data-value="{value:.6g}">{number(value)}{small}</td>'


def _tested(test: RankTest) -> str:
    if math.isnan(test.rho):
        return f"<td>too few to tell ({test.count})</td>"
    lines = [f"{test.p_words}, {test.finding} ({test.count})"]
    if test.interval is not None:
        lines.append(f"95 % interval {test.interval[0]:+.2f} to {test.interval[1]:+.2f}")
    elif test.no_interval:
        lines.append(f"no interval: {test.no_interval}")
    small = "".join(f"<small>{html.escape(line)}</small>" for line in lines)
    return f"<td>{test.rho:+.2f}{small}</td>"
