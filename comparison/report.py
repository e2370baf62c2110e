"""The files of a comparison: one HTML report that works without a network, table and figures."""

import re
import tempfile
from pathlib import Path

import pandas as pd

from comparison.figures import (
    attack_figure,
    attack_names,
    case_figures,
    file_stem,
    picture_cases,
)
from comparison.ledger import ledger_figures, loss_ledgers
from comparison.report_lab import TABLES, attack_lab
from comparison.report_ledger import ledger_section
from comparison.report_page import report_page
from comparison.report_saliency import TABLES as SALIENCY_TABLES
from comparison.report_saliency import saliency_lab
from comparison.selection import Selection
from comparison.table import comparison_table, curves_by_loss
from lightning_module.keys import unique_slugs
from tracking.environment import git_revision

REPORT_FILE = "report.html"
TABLE_FILE = "table.csv"
FIGURES_FOLDER = "figures"

_OUR_FIGURES = re.compile(
    r"((figure1_saliency|figure4_shrinking|figure7_masks|margins)_.+_slice\d+"
    r"|figure[2356]_top.+|(curve|ledger|worst_case|attack_loss|transfer)_.+|report_card"
    r"|maps_.+_slice\d+(_.+)?|trust_.+|claim)\.png"
)


def write_report(selection: Selection, folder: Path, command: str) -> pd.DataFrame:
    """Write the report, the tables and the figures.

    All files are made beside the old ones first and then replace them one by one, the report
    last: an interrupted call leaves a report as it was, and a folder's other files are not
    touched.

    Args:
        selection: The runs that stand side by side.
        folder: Where the files go; made if missing.
        command: The command line, for the page's foot.

    Returns:
        The table of scores.

    Raises:
        InputError: If what a run has stored cannot be read.
        OSError: If a file cannot be written; the report that was there before is kept.
    """
    curves = curves_by_loss(selection)
    table = comparison_table(selection, curves)
    stills = {attack: attack_figure(selection, curves, attack) for attack in attack_names(curves)}
    pictures = [(case, case_figures(selection, case.rows)) for case in picture_cases(selection)]
    ledgers = loss_ledgers(selection)
    heat_maps = ledger_figures(ledgers)
    figures = {f"{file_stem(attack)}.png": png for attack, png in stills.items()}
    for case, drawn in pictures:
        figures |= {
            f"{name}_{case.case}_slice{case.slice_index}.png": png for name, png in drawn.items()
        }
    names = unique_slugs(heat_maps)
    figures |= {
        f"ledger_{name}.png": png for name, png in zip(names, heat_maps.values(), strict=True)
    }
    lab = attack_lab(selection, curves)
    figures |= {f"{name}.png": png for name, png in lab.figures.items()}
    saliency = saliency_lab(selection)
    figures |= {f"{name}.png": png for name, png in saliency.figures.items()}
    tables = {TABLE_FILE: table, **lab.tables, **saliency.tables}
    made = f"{command} · revision {git_revision()}"
    sections = {
        "lab": lab.sections,
        "saliency": saliency.section,
        "ledger": ledger_section(ledgers, heat_maps),
    }
    page = report_page(selection, curves, table, stills, sections, pictures, made)

    (folder / FIGURES_FOLDER).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as scratch:
        written = Path(scratch)
        (written / FIGURES_FOLDER).mkdir()
        for name, png in figures.items():
            (written / FIGURES_FOLDER / name).write_bytes(png)
        for name, found in tables.items():
            found.to_csv(written / name, index=False, float_format="%.6f")
        (written / REPORT_FILE).write_text(page, encoding="utf-8")
        _remove_old(folder, kept={*figures, *tables})
        for name in (
            *(f"{FIGURES_FOLDER}/{figure}" for figure in figures),
            *tables,
            REPORT_FILE,
        ):
            (written / name).replace(folder / name)
    return table


def _remove_old(folder: Path, kept: set[str]) -> None:
    """Remove the figures and tables of an earlier report that this one has not; nothing else."""
    for path in (folder / FIGURES_FOLDER).iterdir():
        if path.name not in kept and _OUR_FIGURES.fullmatch(path.name):
            path.unlink()
    for name in (*TABLES, *SALIENCY_TABLES):
        if name not in kept:
            (folder / name).unlink(missing_ok=True)
