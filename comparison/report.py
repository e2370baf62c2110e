"""The report: one HTML file that works without a network, with the table and figures beside it."""

import base64
import gzip
import html
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from plotly.offline import get_plotlyjs

from comparison.figures import (
    attack_figure,
    attack_names,
    attack_title,
    case_figures,
    picture_rows,
)
from comparison.report_charts import chart, figure_data, json_for_page
from comparison.selection import Selection
from comparison.table import column_words, comparison_table, curves_by_loss
from tracking.environment import git_revision

REPORT_FILE = "report.html"
TABLE_FILE = "table.csv"
FIGURES_FOLDER = "figures"

_TEMPLATE = Path(__file__).with_name("report.html")


def write_report(selection: Selection, folder: Path, command: str) -> pd.DataFrame:
    """Write the report, the table and the figures, and replace older ones in one step each.

    Args:
        selection: The runs that stand side by side.
        folder: Where the files go; made if missing.
        command: The command line, for the page's foot.

    Returns:
        The table.

    Raises:
        OSError: If a file cannot be written; what was there before is kept.
    """
    curves = curves_by_loss(selection)
    table = comparison_table(curves)
    attacks = attack_names(curves)
    pictures = {case: case_figures(rows) for case, rows in picture_rows(selection).items()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as scratch:
        figures = Path(scratch, FIGURES_FOLDER)
        figures.mkdir()
        for attack in attacks:
            (figures / f"curve_{attack}.png").write_bytes(attack_figure(curves, attack))
        for case, drawn in pictures.items():
            for name, png in drawn.items():
                (figures / f"{name}_{case}.png").write_bytes(png)
        table.to_csv(Path(scratch, TABLE_FILE), index=False, float_format="%.6f")
        page = _page(selection, curves, table, pictures, command)
        Path(scratch, REPORT_FILE).write_text(page, encoding="utf-8")
        shutil.rmtree(folder / FIGURES_FOLDER, ignore_errors=True)
        for name in (FIGURES_FOLDER, TABLE_FILE, REPORT_FILE):
            Path(scratch, name).replace(folder / name)
    return table


def _page(
    selection: Selection,
    curves: Mapping[str, pd.DataFrame],
    table: pd.DataFrame,
    pictures: Mapping[str, Mapping[str, bytes]],
    command: str,
) -> str:
    volumes, seeds = int(table["cases"].iloc[0]), sorted({run.seed for run in selection.runs})
    facts = (
        f"{len(table)} losses, {len(selection.runs)} runs, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}; "
        f"{volumes} volumes of the split {selection.split}"
    )
    made = f"{command} · revision {git_revision()} · {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    parts = {
        "title": html.escape(f"Losses under attack: {selection.experiment}"),
        "facts": html.escape(facts),
        "notes": "".join(
            f'<p class="note">{html.escape(note)}</p>' for note in report_notes(selection)
        ),
        "table": _html_table(table),
        "charts": "".join(_chart(curves, attack) for attack in attack_names(curves)),
        "pictures": "".join(_case(case, drawn) for case, drawn in pictures.items())
        or "<p>The runs hold no pictures.</p>",
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
    """What a reader must know before the numbers: made-up data, few seeds, unknown subjects."""
    notes = []
    if "phantom" in selection.experiment.lower():
        notes.append("Synthetic data: these volumes are made up, and say nothing about patients.")
    fewest = min(len({run.seed for run in runs}) for runs in selection.by_loss().values())
    if fewest == 1:
        notes.append(
            "One seed for at least one loss: a difference between losses may as well be one "
            "between two trainings of the same loss. Nothing can be claimed about the losses."
        )
    if "hippocampus" in selection.experiment.lower():
        notes.append(
            "The Decathlon's hippocampus volumes come from about 195 subjects, two sides each, "
            "and nothing in the files says who is who: a subject may be on both sides of the split."
        )
    return notes


def _html_table(table: pd.DataFrame) -> str:
    shown = [name for name in table.columns if name not in {"clean_low", "clean_high"}]
    heads = "".join(f"<th>{html.escape(column_words(str(name)))}</th>" for name in shown)
    rows = []
    for row in table.to_dict("records"):
        cells = [f"<td>{html.escape(str(row['loss']))}</td>"]
        cells += [_cell(str(name), row) for name in shown if name != "loss"]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<table class="sortable"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _cell(name: str, row: Mapping[object, object]) -> str:
    value = row[name]
    if not isinstance(value, float):
        return f"<td>{html.escape(str(value))}</td>"
    text = f"{value:.3f}"
    if name == "clean":
        text += f" [{row['clean_low']:.3f}, {row['clean_high']:.3f}]"
    return f'<td data-value="{value:.6f}">{text}</td>'


def _chart(curves: Mapping[str, pd.DataFrame], attack: str) -> str:
    key = html.escape(f"chart-{attack}", quote=True)
    return (
        f'<div class="chart" data-figure="{key}" aria-label="{html.escape(attack_title(attack))}">'
        f'</div><script type="application/json" id="{key}">'
        f"{json_for_page(chart(curves, attack))}</script>"
    )


def _case(case: str, drawn: Mapping[str, bytes]) -> str:
    images = "".join(
        f'<p><img alt="{html.escape(name)} of {html.escape(case)}" loading="lazy" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'
        for name, png in drawn.items()
    )
    return f"<details><summary>{html.escape(case)}</summary>{images}</details>"


def _runs(selection: Selection) -> str:
    rows = (
        (
            compared.loss,
            compared.seed,
            compared.run.params.get("fold", "?"),
            compared.run.run_id,
            compared.run.tags.get("segstress.revision", "unknown")[:12],
            compared.counts.metadata.get("checkpoint_sha256", "unknown")[:12],
        )
        for compared in selection.runs
    )
    return _plain_table(("loss", "seed", "fold", "run", "revision", "weights (sha256)"), rows)


def _left_out(selection: Selection) -> str:
    if not selection.left_out:
        return ""
    rows = (
        (left.run.name, left.run.run_id, left.run.status, left.reason)
        for left in selection.left_out
    )
    table = _plain_table(("run", "id", "status", "reason"), rows)
    return f"<h2>Left out</h2><div class='scroll'>{table}</div>"


def _plain_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
