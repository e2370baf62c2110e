"""The files of a comparison: one HTML report that works without a network, tables and figures."""

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from comparison.decision import TABLES as DECISION_TABLES
from comparison.decision import decide, decision_figures, decision_tables
from comparison.figures import (
    attack_figure,
    attack_names,
    drawn_cases,
    file_stem,
)
from comparison.ledger import ledger_figures, loss_ledgers
from comparison.report_decision import decision_section
from comparison.report_lab import TABLES, attack_lab
from comparison.report_ledger import ledger_section
from comparison.report_page import report_page
from comparison.report_pictures import with_pictures
from comparison.report_saliency import TABLES as SALIENCY_TABLES
from comparison.report_saliency import saliency_lab
from comparison.selection import Selection
from comparison.table import comparison_table, curves_by_loss, measures
from lightning_module.keys import unique_slugs
from pictures.drawing import Drawing
from tracking.environment import git_revision

REPORT_FILE = "report.html"
TABLE_FILE = "table.csv"
MADE_FILE = "made.json"
FIGURES_FOLDER = "figures"

_OUR_FIGURES = re.compile(
    r"((figure1_saliency|figure4_shrinking|figure7_masks|margins)_.+_slice\d+"
    r"|figure[2356]_top.+|(curve|ledger|worst_case|attack_loss|transfer)_.+|report_card"
    r"|maps_.+_slice\d+(_.+)?|trust_.+|claim|ranking)\.(png|pdf)"
)


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Attributes:
        table: The table of scores.
        answers: A sentence for each question, by the question in words.
        files: The page, what made it and the tables, without the figures.
        revision: The revision that made it.
    """

    table: pd.DataFrame
    answers: dict[str, str]
    files: tuple[Path, ...]
    revision: str


def write_report(selection: Selection, folder: Path, command: str) -> Written:
    """Write the report, the tables and the figures.

    All files are made beside the old ones first and then replace them one by one, the report
    last: an interrupted call leaves a report as it was, and a folder's other files are not
    touched.

    Args:
        selection: The runs that stand side by side.
        folder: Where the files go; made if missing.
        command: The command line that made it.

    Returns:
        What was written.

    Raises:
        InputError: If what a run has stored cannot be read.
        OSError: If a file cannot be written; the report that was there before is kept.
    """
    with drawn_cases(selection) as drawn_pictures:
        curves = curves_by_loss(selection)
        table = comparison_table(selection, curves)
        decided = decide(selection, measures(table))
        ranking = decision_figures(decided)
        stills = {
            attack: attack_figure(selection, curves, attack) for attack in attack_names(curves)
        }
        ledgers = loss_ledgers(selection)
        heat_maps = ledger_figures(ledgers)
        lab = attack_lab(selection, curves)
        saliency = saliency_lab(selection)
        pictures = drawn_pictures()
    drawn = dict(ranking) | {file_stem(attack): png for attack, png in stills.items()}
    for case, of_case in pictures:
        drawn |= {
            f"{name}_{case.case}_slice{case.slice_index}": png for name, png in of_case.items()
        }
    names = unique_slugs(heat_maps)
    drawn |= {f"ledger_{name}": png for name, png in zip(names, heat_maps.values(), strict=True)}
    figures = {
        f"{FIGURES_FOLDER}/{name}.png": png
        for name, png in (drawn | lab.figures | saliency.figures).items()
    }
    tables = {TABLE_FILE: table, **decision_tables(decided), **lab.tables, **saliency.tables}
    revision = git_revision()
    sections = {
        "decision": decision_section(decided, ranking),
        "lab": lab.sections,
        "saliency": saliency.section,
        "ledger": ledger_section(ledgers, heat_maps),
    }
    made = f"{command} · revision {revision}"
    page = report_page(selection, curves, table, stills, sections, pictures, made)

    files = {name: _csv(name, found) for name, found in tables.items()}
    for name, png in figures.items():
        files[name] = png
        if isinstance(png, Drawing):
            files[name.removesuffix(".png") + ".pdf"] = png.pdf
    files[REPORT_FILE] = with_pictures(page, figures).encode()
    # The report replaces its predecessor last.
    files = {MADE_FILE: _made(selection, command, revision, files), **files}
    _write(folder, files)
    answers = {one.question.title: one.sentence for one in decided}
    kept = tuple(folder / name for name in (REPORT_FILE, MADE_FILE, *tables))
    return Written(table, answers, kept, revision)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    (folder / FIGURES_FOLDER).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as scratch:
        written = Path(scratch)
        (written / FIGURES_FOLDER).mkdir()
        for name, content in files.items():
            (written / name).write_bytes(content)
        _remove_old(folder, kept=set(files))
        for name in files:
            (written / name).replace(folder / name)


def _remove_old(folder: Path, kept: set[str]) -> None:
    """Remove the figures and tables of an earlier report that this one has not; nothing else."""
    for path in (folder / FIGURES_FOLDER).iterdir():
        if f"{FIGURES_FOLDER}/{path.name}" not in kept and _OUR_FIGURES.fullmatch(path.name):
            path.unlink()
    for name in (*TABLES, *SALIENCY_TABLES, *DECISION_TABLES):
        if name not in kept:
            (folder / name).unlink(missing_ok=True)


def _csv(name: str, table: pd.DataFrame) -> bytes:
    # With six decimals a small p would be 0.
    digits = "%.6g" if name in DECISION_TABLES else "%.6f"
    return table.to_csv(index=False, float_format=digits).encode()


def _made(selection: Selection, command: str, revision: str, files: Mapping[str, bytes]) -> bytes:
    """What made the files, of which runs, as JSON with the sha256 of each file."""
    runs = [
        {
            "run": compared.run.run_id,
            "loss": compared.loss,
            "seed": compared.seed,
            "fold": compared.fold,
            "trained_at_revision": compared.run.tags.get("segstress.revision", "unknown"),
            "checkpoint_sha256": compared.counts.metadata.get("checkpoint_sha256", "unknown"),
        }
        for compared in selection.runs
    ]
    facts = {
        "command": command,
        "revision": revision,
        "experiment": selection.experiment,
        "split": selection.split,
        "runs": runs,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    return (json.dumps(facts, indent=1) + "\n").encode()
