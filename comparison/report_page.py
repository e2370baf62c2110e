"""The page of the report, put together from a template; what comes from runs is escaped."""

import base64
import gzip
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from plotly.offline import get_plotlyjs

from comparison.figures import PictureCase, attack_title
from comparison.report_charts import chart, figure_data, json_for_page
from comparison.report_pictures import image_html
from comparison.selection import Selection
from comparison.table import measure_words, measures

_TEMPLATE = Path(__file__).with_name("report.html")
_INTERVALS = (("", "low", "high"), ("seeds ", "seed_low", "seed_high"))


def report_page(
    selection: Selection,
    curves: Mapping[str, pd.DataFrame],
    table: pd.DataFrame,
    stills: Mapping[str, bytes],
    sections: Mapping[str, str],
    pictures: Sequence[tuple[PictureCase, Mapping[str, bytes]]],
    made: str,
) -> str:
    """The whole page but for its pictures, which have their places; it needs no network.

    Args:
        selection: The runs.
        curves: Curves of each loss.
        table: The table of the comparison.
        stills: PNG of each attack's curves, shown where the interactive ones cannot be drawn.
        sections: HTML of ``decision``, ``lab`` (the attack lab), ``saliency`` and ``ledger``, by
            these names; empty where there is nothing to show.
        pictures: The pictured slices with the PNGs of each.
        made: The command and the revision that made the report.

    Returns:
        HTML.
    """
    names = measures(table)
    areas = [name for name in names if name.startswith("auc/")]
    shown = [f"{runs[0].loss} with seed {runs[0].seed}" for runs in selection.by_loss().values()]
    left_out = max(int(found["left_out"].max()) for found in curves.values())
    parts = {
        "title": html.escape(f"Losses under attack: {selection.experiment}"),
        "facts": html.escape(_facts(selection, table)),
        "notes": "".join(
            f'<p class="note">{html.escape(note)}</p>' for note in report_notes(selection)
        ),
        "scores": _score_table(table, [name for name in names if name not in areas]),
        "areas": _score_table(table, areas),
        "charts": "".join(
            _chart(attack, png, chart(selection, curves, attack)) for attack, png in stills.items()
        ),
        **sections,
        "pictured": html.escape(", ".join(shown)),
        "pictures": "".join(
            _case(case, drawn, not index) for index, (case, drawn) in enumerate(pictures)
        )
        or "<p>The runs hold no pictures.</p>",
        "empty": f"At one point or more there were up to {left_out} of these."
        if left_out
        else "There were none.",
        "runs": _runs(selection),
        "left_out": _left_out(selection),
        "made": html.escape(made),
        "figure_data": json_for_page(figure_data(curves)),
        "plotly": base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode(),
    }
    # Cut at the places first, so that nothing which a part holds is taken for a place.
    pieces = _TEMPLATE.read_text(encoding="utf-8").split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    return "".join(filled)


def report_notes(selection: Selection) -> list[str]:
    """What a reader must know before the numbers: made-up data, few seeds, unlike runs, subjects.

    Args:
        selection: The runs.
    """
    notes = []
    named = {selection.experiment, *(run.run.params.get("task", "") for run in selection.runs)}
    task = " ".join(sorted(named)).lower()
    if "phantom" in task:
        notes.append("Synthetic data: these volumes are made up and say nothing about patients.")
    single = [loss for loss, runs in selection.by_loss().items() if len(runs) == 1]
    if single:
        notes.append(
            f"One seed only of {', '.join(single)}: a difference between losses may as well be one "
            "between two trainings of the same loss. Nothing can be claimed about the loss."
        )
    differing = selection.differing_params()
    if differing:
        words = "; ".join(f"{name}: {', '.join(values)}" for name, values in differing.items())
        notes.append(
            f"The runs differ in more than loss and seed ({words}), so a difference between them "
            "need not come from the loss."
        )
    if "hippocampus" in task:
        notes.append(
            "The Decathlon's hippocampus volumes come from about 195 subjects, two sides each, "
            "and nothing in the files says who is who: a subject may be on both sides of the split."
        )
    return notes


def _facts(selection: Selection, table: pd.DataFrame) -> str:
    seeds = sorted({run.seed for run in selection.runs}, key=lambda seed: (len(seed), seed))
    wanted = selection.wanted.words
    return (
        f"{len(table)} losses, {len(selection.runs)} runs, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}; "
        f"{int(table['cases'].iloc[0])} volumes of the split {selection.split}"
        f"{f'; asked for: {wanted}' if wanted else ''}"
    )


def _score_table(table: pd.DataFrame, names: Sequence[str]) -> str:
    heads = ("loss", "seeds", *map(measure_words, names))
    rows = []
    for row in table.to_dict("records"):
        cells = [f"<td>{html.escape(str(row['loss']))}</td>", f"<td>{row['seeds']}</td>"]
        cells += [_cell({str(key): value for key, value in row.items()}, name) for name in names]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(words).replace('_', '_<wbr>')}</th>" for words in heads)
    return (
        f'<table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _cell(row: Mapping[str, float], name: str) -> str:
    intervals = "".join(
        f"<small>{words}{row[f'{name}:{low}']:.3f} to {row[f'{name}:{high}']:.3f}</small>"
        for words, low, high in _INTERVALS
        if pd.notna(row[f"{name}:{low}"])
    )
    value = row[name]
    if pd.isna(value):
        return '<td data-value="-1">none</td>'
    return f'<td data-value="{value:.6f}">{value:.3f}{intervals}</td>'


def _chart(attack: str, still: bytes, figure: str) -> str:
    key = html.escape(f"chart-{attack}", quote=True)
    words = html.escape(attack_title(attack), quote=True)
    shown = image_html(still, words)
    return (
        f'<div class="chart" data-figure="{key}" aria-label="{words}">{shown}</div>'
        f'<script type="application/json" id="{key}">{json_for_page(figure)}</script>'
    )


def _case(case: PictureCase, drawn: Mapping[str, bytes], is_open: bool) -> str:
    title = html.escape(f"{case.case}, slice {case.slice_index}")
    images = "".join(
        f"<p>{image_html(png, words, optional=not is_open)}</p>"
        for words, png in (
            (html.escape(f"{name} of {case.case}", quote=True), png) for name, png in drawn.items()
        )
    )
    missing = (
        f"<p>No pictures of {html.escape(', '.join(case.missing))}.</p>" if case.missing else ""
    )
    return f"<details{' open' * is_open}><summary>{title}</summary>{missing}{images}</details>"


def _runs(selection: Selection) -> str:
    rows = (
        (
            compared.loss,
            compared.seed,
            compared.fold,
            compared.run.run_id,
            f"{compared.run.start_time:%Y-%m-%d %H:%M} UTC",
            compared.run.status,
            _short(compared.run.tags.get("segstress.revision", "unknown")),
            _short(compared.counts.metadata.get("checkpoint_sha256", "unknown")),
        )
        for runs in selection.by_loss().values()
        for compared in runs
    )
    heads = ("loss", "seed", "fold", "run", "started", "status", "revision", "weights (sha256)")
    return _plain_table(heads, rows)


def _short(digest: str) -> str:
    """The first 12 digits of a hash, and what stands after it."""
    digits, dash, rest = digest.partition("-")
    return f"{digits[:12]}{dash}{rest}"


def _left_out(selection: Selection) -> str:
    if not selection.left_out:
        return ""
    rows = (
        (left.run.name, left.run.run_id, left.run.status, left.reason)
        for left in selection.left_out
    )
    table = _plain_table(("run", "id", "status", "reason"), rows)
    return f'<h2>Left out</h2><div class="scroll">{table}</div>'


def _plain_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
