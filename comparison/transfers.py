"""Transfer: attacks made on the network of one loss and counted on that of another."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from comparison.figures import point_words
from comparison.selection import ComparedRun, Selection
from comparison.statistics import point_means
from lightning_module.keys import unique_slugs
from pictures.drawing import draw
from pictures.matrix import matrix_figure
from robustness.counts import CLEAN, CountsFile
from robustness.curves import case_dice
from tracking.reading import fetch_transfers

COLUMNS = [
    *("attack", "axis", "point", "made_on", "counted_on"),
    *("white_box", "pairs", "cases", "dice"),
]
NO_ATTACK = "no attack"
WHITE_BOX = "white box: made on the network that it is counted on"


@dataclass(frozen=True)
class Transfers:
    """What attacks made on one loss leave of another.

    Attributes:
        losses: The losses in the order in which they are shown.
        table: One row an attack, point and pair of losses, with columns ``COLUMNS``: mean Dice over
            the pairs of runs, and over cases and classes. Of a loss on itself, ``white_box`` rows
            are made on the run that they are counted on, the others on another of its seeds. The
            clean networks are made on ``NO_ATTACK``.
        cases: How many cases all pairs have.
        notes: What a reader must know of pairs that are missing or left out.
    """

    losses: tuple[str, ...]
    table: pd.DataFrame
    cases: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Pair:
    source: ComparedRun
    victim: ComparedRun
    counts: CountsFile


def transfers(selection: Selection) -> Transfers | None:
    """What was transferred between the runs; None where nothing was.

    Args:
        selection: The runs.

    Raises:
        InputError: If a stored file cannot be read.
    """
    pairs, notes = _pairs(selection)
    cases = set.intersection(*(set(pair.counts.frame["case"]) for pair in pairs)) if pairs else ()
    if not cases:
        return None
    scored = {
        index: case_dice(pair.counts.frame[pair.counts.frame["case"].isin(cases)])
        for index, pair in enumerate(pairs)
    }
    groups: dict[tuple[str, str, bool], list[pd.DataFrame]] = {}
    clean: dict[str, dict[str, pd.DataFrame]] = {}
    for index, pair in enumerate(pairs):
        is_clean = scored[index]["attack"] == CLEAN
        is_own = pair.source.run.run_id == pair.victim.run.run_id
        key = pair.source.loss, pair.victim.loss, is_own
        groups.setdefault(key, []).append(scored[index][~is_clean])
        # Every pair holds its victim undisturbed: counted once a run.
        if is_clean.any():
            of_loss = clean.setdefault(pair.victim.loss, {})
            of_loss.setdefault(pair.victim.run.run_id, scored[index][is_clean])
    rows = [_rows(*key, found) for key, found in groups.items()]
    rows += [_rows(NO_ATTACK, loss, False, list(found.values())) for loss, found in clean.items()]
    table = pd.concat(rows, ignore_index=True).assign(cases=len(cases))[COLUMNS]
    losses = tuple(selection.by_loss())
    order = {name: index for index, name in enumerate((*losses, NO_ATTACK))}
    ranks = table[["made_on", "counted_on"]].map(lambda name: order[name])
    keys = pd.concat([table[["attack", "point"]], ranks, ~table["white_box"]], axis=1)
    ordered = keys.sort_values(list(keys.columns), kind="stable").index
    return Transfers(losses, table.loc[ordered].reset_index(drop=True), len(cases), tuple(notes))


def transfer_figures(found: Transfers) -> dict[str, bytes]:
    """PNG of the matrix of each attack at its largest point, by the name of its file.

    Args:
        found: From :func:`transfers`.
    """
    attacks = [str(name) for name in found.table["attack"].unique() if name != CLEAN]
    stems = unique_slugs(f"transfer_{name}" for name in attacks)
    return {stem: _figure(found, attack) for stem, attack in zip(stems, attacks, strict=True)}


def _figure(found: Transfers, attack: str) -> bytes:
    of_attack = found.table[found.table["attack"] == attack]
    last = of_attack[of_attack["point"] == of_attack["point"].max()]
    clean = found.table[found.table["attack"] == CLEAN]
    at = point_words(str(last["axis"].iloc[0]), float(last["point"].iloc[0]))
    rows = [*found.losses, *([NO_ATTACK] if len(clean) else [])]
    values = np.full((len(rows), len(found.losses)), np.nan)
    small = [["" for _ in found.losses] for _ in rows]
    marked = np.zeros(values.shape, bool)
    for row in pd.concat([last, clean]).to_dict("records"):
        at_row, at_column = rows.index(row["made_on"]), found.losses.index(row["counted_on"])
        if row["made_on"] == row["counted_on"] and not row["white_box"]:
            small[at_row][at_column] = f"other seed {row['dice']:.3f}"
        else:
            values[at_row, at_column] = row["dice"]
            marked[at_row, at_column] = row["white_box"]
    figure = matrix_figure(
        values,
        rows,
        found.losses,
        title=f"Transfer of {attack} at {at}, {found.cases} volumes",
        sides=("made on a network of", "counted on a network of"),
        marked=marked,
        mark=WHITE_BOX,
        small=small,
    )
    return draw(figure)


def _pairs(selection: Selection) -> tuple[list[_Pair], list[str]]:
    """The pairs that belong together, and what is to be said of the others."""
    runs = {compared.run.run_id: compared for compared in selection.runs}
    stored = [
        _Pair(runs[source], victim, counts)
        for victim in selection.runs
        for source, counts in fetch_transfers(victim.run, selection.split).items()
        if source in runs
    ]
    fresh = [pair for pair in stored if _is_of_these_weights(pair)]
    made = Counter(_fingerprints(pair) for pair in fresh).most_common(1)
    alike = [pair for pair in fresh if _fingerprints(pair) == made[0][0]]
    notes = []
    if len(fresh) < len(stored):
        notes.append(
            f"Left out: {len(stored) - len(fresh)} of the pairs of runs, attacked with other "
            "weights or on other data."
        )
    if len(alike) < len(fresh):
        notes.append(
            f"Left out: {len(fresh) - len(alike)} of the pairs of runs, attacked with other "
            "attacks than most."
        )
    if alike and len(alike) < len(runs) ** 2:
        notes.append(f"{len(alike)} of {len(runs) ** 2} pairs of runs were attacked.")
    return alike, notes


def _is_of_these_weights(pair: _Pair) -> bool:
    """Whether the stored counts are of the runs as they are compared; unknown facts don't count."""
    victim, source = pair.victim.counts.metadata, pair.source.counts.metadata
    expected = {
        "made_on_sha256": source.get("checkpoint_sha256"),
        **{name: victim.get(name) for name in ("checkpoint_sha256", "data", "split")},
    }
    found = pair.counts.metadata
    return all(
        value is None or found.get(name) in {None, value} for name, value in expected.items()
    )


def _fingerprints(pair: _Pair) -> tuple[str | None, ...]:
    """What must be the same in all pairs: the attacks and the classes that were counted."""
    classes = ",".join(sorted(pair.counts.frame["class"].unique()))
    return pair.counts.metadata.get("attacks"), classes


def _rows(
    made_on: str, counted_on: str, white_box: bool, scored: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    return point_means(scored).assign(
        made_on=made_on, counted_on=counted_on, white_box=white_box, pairs=len(scored)
    )
