"""Whether maps agree and can be trusted, in the report; what comes from runs is escaped."""

import html
import math
from collections.abc import Mapping

import pandas as pd

from comparison.agreement import BETWEEN_METHODS, BETWEEN_SEEDS, TOP_PIXELS, in_order
from comparison.report_html import breakable, span
from comparison.report_pictures import image_html
from comparison.trust import Verdicts
from robustness.trust import FEW, TrustThresholds

_ASKED = TrustThresholds()
# What each check asks, and what a method must hold to.
CHECKS = {
    "randomised": "does the map change when all layers of the network are set to random weights? "
    "The rank correlation of the magnitudes of both maps, its sign left out, may be at most "
    f"{_ASKED.randomised:g} (median over slices)",
    "deletion_gain": "does what is explained fall faster when pixels are set to the slice's mean "
    "in the map's order (of magnitude where a map is a gradient, else signed; by chance among "
    "equal ones) than in a random one? Slices are counted: in three of four or more the area "
    f"between the two curves must be above {_ASKED.gain:g} (shown is the lower quartile, for "
    "information)",
    "insertion_gain": "does it rise faster when pixels are put back into an even slice in the "
    "map's order? Counted likewise",
    "stable": "does a map stay as it is under next to no noise on the slice, of 1 % of its own "
    "range of intensities? The rank correlation with the maps of noisy copies must be at least "
    f"{_ASKED.stable:g} (median over slices)",
}


def agreement_part(table: pd.DataFrame, file: str) -> str:
    """HTML of a matrix of methods a loss, and of a table of methods by loss between seeds.

    Args:
        table: From :func:`comparison.agreement.agreements`; not empty.
        file: The table as a file.
    """
    between = table[table["kind"] == BETWEEN_METHODS]
    matrices = "".join(
        _matrix(str(loss), found, is_open=not index)
        for index, (loss, found) in enumerate(between.groupby("loss", sort=False))
    )
    least, most = float(table["chance"].min()), float(table["chance"].max())
    return (
        "<h3>Whether maps agree</h3><p>Rank correlation (Spearman's) of the magnitudes of two maps "
        "of a slice over its valid pixels, mean over the pictured slices: 1 where both put the "
        "pixels into the same order, 0 where they know nothing of one another. Small: the share "
        f"that the {TOP_PIXELS} first pixels of both have in common; of two maps drawn by chance "
        f"it would be {span(100 * least, 100 * most)} %. Methods that agree need not be right: "
        "they may share a mistake. Where two seeds of a loss disagree, a picture of one of them "
        f"shows a training and not the loss. All pairs are in {file}.</p>{matrices}"
        + _between_seeds(table[table["kind"] == BETWEEN_SEEDS])
    )


def trust_part(found: Mapping[str, Mapping[str, Verdicts]], file: str) -> str:
    """HTML of the verdicts, a row a method, a column a loss.

    Args:
        found: By method and loss, from :func:`comparison.trust.verdicts`; not empty.
        file: The table as a file.
    """
    losses = list(dict.fromkeys(loss for of_method in found.values() for loss in of_method))
    head = "".join(f"<th>{breakable(loss)}</th>" for loss in losses)
    rows = "".join(
        f'<tr><th scope="row">{breakable(method)}</th>'
        + "".join(_verdict(of_method.get(loss)) for loss in losses)
        + "</tr>"
        for method, of_method in found.items()
    )
    asked = "".join(
        f"<li><b>{name}</b>: {html.escape(question)}.</li>" for name, question in CHECKS.items()
    )
    return (
        "<h3>Whether maps can be trusted</h3><p>A method that fails a check is marked so wherever "
        "its picture appears; the limits are conventions of this tool, fixed beforehand. Numbers "
        "of several runs stand as the least to the largest. All are in "
        f"{file}, with two that are no ground to fail: structural similarity with the map of the "
        "random network, and the map's relative change over that of the slice.</p>"
        f"<ul>{asked}</ul><p>A map that is the same everywhere, as of a network that is sure of "
        "every pixel, puts no pixel before another: such a slice tells nothing, and a method whose "
        "maps all are so is called <em>the same everywhere</em>, which is no failure. Where fewer "
        f"than {FEW} slices tell, a pass is worth little, as a map drawn by chance passes the two "
        "gains too often: their number then stands beside the method.</p>"
        '<div class="scroll"><table class="card trust">'
        f"<thead><tr><th>method</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def curves_part(pictures: Mapping[str, tuple[bytes, str]], file: str) -> str:
    """HTML of what the verdicts rest on, a picture a method at a click.

    Args:
        pictures: From :func:`comparison.trust.trust_pictures`.
        file: The curves of all runs as a file.
    """
    drawn = "".join(
        f"<details><summary>{html.escape(f'The checks of {method}')}</summary>"
        f"<p>{html.escape(f'Shown: {words}.')}</p>"
        f"<p>{image_html(png, html.escape(f'curves of the checks of {method}', quote=True))}</p>"
        "</details>"
        for method, (png, words) in pictures.items()
    )
    return (
        "<p>What the verdicts rest on, medians over slices: how alike the maps stay while layers "
        "are set to random weights from the output down (the verdict asks for the last one, where "
        "all are), and what is explained while pixels are taken away and put back, in the map's "
        "order and in a random one (0 is the blank slice, 1 the clean one; a blank slice of which "
        f"more is explained has the clean one at -1). All runs are in {file}.</p>{drawn}"
    )


def _matrix(loss: str, found: pd.DataFrame, *, is_open: bool) -> str:
    values = {
        frozenset((row["first"], row["second"])): (row["spearman"], row["overlap"])
        for row in found.to_dict("records")
    }
    methods = in_order(str(name) for name in pd.concat([found["first"], found["second"]]))
    head = "".join(f"<th>{breakable(name)}</th>" for name in methods)
    rows = "".join(
        f'<tr><th scope="row">{breakable(down)}</th>'
        + "".join(
            "<td></td>"
            if down == across
            else _alike(*values[frozenset((down, across))])
            if frozenset((down, across)) in values
            else "<td>none</td>"
            for across in methods
        )
        + "</tr>"
        for down in methods
    )
    runs = int(found["runs"].max())
    title = html.escape(f"Between methods, {loss}, {runs} {'run' if runs == 1 else 'runs'}")
    return (
        f"<details{' open' * is_open}><summary>{title}</summary>"
        f'<div class="scroll"><table class="card alike"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _between_seeds(found: pd.DataFrame) -> str:
    if found.empty:
        return (
            "<p>Between seeds: no loss has two runs with maps of the same slices, so nothing is "
            "known of what another training of it would show.</p>"
        )
    means = found.groupby(["method", "loss"], sort=False)[["spearman", "overlap"]].mean()
    pairs = found.groupby("loss", sort=False).apply(
        lambda of_loss: len(of_loss[["first", "second"]].drop_duplicates())
    )
    head = "".join(
        f"<th>{breakable(str(loss))}, {count} {'pair' if count == 1 else 'pairs'}</th>"
        for loss, count in pairs.items()
    )
    rows = "".join(
        f'<tr><th scope="row">{breakable(method)}</th>'
        + "".join(
            _alike(*means.loc[method, loss]) if (method, loss) in means.index else "<td>none</td>"
            for loss in pairs.index
        )
        + "</tr>"
        for method in in_order(found["method"])
    )
    return (
        "<details open><summary>Between seeds of a loss, by the same method</summary>"
        '<div class="scroll"><table class="card alike"><thead><tr><th>method</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _alike(spearman: float, overlap: float) -> str:
    """A cell, the bluer the more alike."""
    if math.isnan(spearman):
        return "<td>none</td>"
    tint = f"background: rgba(0, 114, 178, {0.5 * max(spearman, 0.0):.2f})"
    return f'<td style="{tint}">{spearman:z.2f}<small>{100 * overlap:.0f} %</small></td>'


def _verdict(found: Verdicts | None) -> str:
    if found is None:
        return "<td>none</td>"
    looks, sign = ("fail", "✗ ") if found.failed else ("none", "")
    if not any(found.marks):
        looks, sign = "pass", "✓ "
    lines = [f"{name} {span(*found.ranges[name])}" for name in CHECKS if name in found.ranges]
    if "slices" in found.ranges:
        least, most = found.ranges["slices"]
        lines.append(f"{least:g} to {most:g} slices" if least < most else f"{least:g} slices")
    lines += found.reasons
    small = "".join(f"<small>{html.escape(line)}</small>" for line in lines)
    return f'<td class="{looks}">{sign}{html.escape(found.words)}{small}</td>'
