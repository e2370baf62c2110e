"""The worst case of each case over attacks of equal budget, and which attack was the worst."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from comparison.figures import attack_figure
from comparison.selection import ComparedRun, Selection
from comparison.statistics import point_means, scored_curves
from lightning_module.keys import unique_slugs
from robustness.counts import CLEAN
from robustness.curves import case_dice
from robustness.repeated_attack import FIRST_REPEATS
from robustness.worst_case import ensembles, lowest_dice, worst_case

_SCORES = ["dice", "low", "high", "seed_low", "seed_high", "seeds", "cases"]


@dataclass(frozen=True)
class WorstCases:
    """What attackers who may choose among attacks leave of each loss.

    Attributes:
        members: The attacks of each ensemble, by the words of their budget.
        curves: Of each loss the clean point and the worst case of each ensemble, as from
            :func:`comparison.statistics.scored_curves`, ``attack`` being the ensemble.
        table: One row an ensemble, point, loss and attack, with ``dice`` of the worst case and its
            intervals, ``attack_dice`` of the attack alone (likewise in the repeat that leaves each
            case least), and ``worst_share``: of how many cases (and classes and seeds) it was the
            worst, the first named where several were.
    """

    members: dict[str, list[str]]
    curves: dict[str, pd.DataFrame]
    table: pd.DataFrame


def worst_cases(selection: Selection) -> WorstCases | None:
    """The worst cases over each ensemble; None where no two attacks have the same budget.

    Args:
        selection: The runs.
    """
    members = _measured(selection)
    if not members:
        return None
    curves, rows = {}, []
    stopping = {
        str(settings["name"])
        for settings in selection.attack_settings()
        if settings.get("half_width")
    }
    for loss, runs in selection.by_loss().items():
        tried = [_equal_tries(compared.counts.frame, stopping) for compared in runs]
        worst = {
            name: [worst_case(frame, attacks) for frame in tried]
            for name, attacks in members.items()
        }
        curves[loss] = scored_curves(
            [_scored(compared, worst, index) for index, compared in enumerate(runs)]
        )
        alone = point_means([lowest_dice(frame) for frame in tried])
        rows += [
            _rows(loss, name, curves[loss], pd.concat(found), alone[alone["attack"].isin(attacks)])
            for (name, attacks), found in zip(members.items(), worst.values(), strict=True)
        ]
    table = pd.concat(rows, ignore_index=True)
    order = {name: index for index, name in enumerate(members)}
    by_ensemble = table["ensemble"].map(order).sort_values(kind="stable").index
    return WorstCases(members, curves, table.loc[by_ensemble].reset_index(drop=True))


def worst_case_figures(selection: Selection, found: WorstCases) -> dict[str, bytes]:
    """PNG of the worst case against the budget, a line a loss, by the name of its file.

    Args:
        selection: The runs.
        found: From :func:`worst_cases`.
    """
    stems = unique_slugs(f"worst_case_{name}" for name in found.members)
    return {
        stem: attack_figure(
            selection,
            found.curves,
            name,
            title=f"Worst of {len(attacks)} attacks: {name}",
        )
        for stem, (name, attacks) in zip(stems, found.members.items(), strict=True)
    }


def _equal_tries(frame: pd.DataFrame, stopping: Collection[str]) -> pd.DataFrame:
    """The counts; of attacks that stop by themselves the repeats that all runs and points have.

    The lowest of many tries is lower than that of few, whatever the loss.
    """
    return frame[~frame["attack"].isin(stopping) | (frame["repeat"] < FIRST_REPEATS)]


def _measured(selection: Selection) -> dict[str, list[str]]:
    """The ensembles of two or more attacks that were counted and have a point in common.

    Those that lack the point which most of an ensemble have, the largest such point, are left out.
    """
    frame = selection.runs[0].counts.frame
    points = {str(name): set(found["point"]) for name, found in frame.groupby("attack")}
    found = {}
    for name, attacks in ensembles(selection.attack_settings()).items():
        tried = Counter(point for attack in attacks for point in points.get(attack, ()))
        if tried and max(tried.values()) > 1:
            most = max(tried, key=lambda point: (tried[point], point))
            found[name] = [attack for attack in attacks if most in points.get(attack, ())]
    return found


def _scored(
    compared: ComparedRun, worst: Mapping[str, Sequence[pd.DataFrame]], index: int
) -> pd.DataFrame:
    """Dice of each case of a run: clean, and the worst of each ensemble in place of an attack."""
    frame = compared.counts.frame
    parts = [case_dice(frame[frame["attack"] == CLEAN])]
    for name, runs in worst.items():
        found = runs[index].assign(attack=name)
        found["point_index"] = found["point"].rank(method="dense").astype(int) - 1
        parts.append(found)
    return pd.concat(parts, ignore_index=True)


def _rows(
    loss: str, name: str, curves: pd.DataFrame, worst: pd.DataFrame, alone: pd.DataFrame
) -> pd.DataFrame:
    curve = curves[curves["attack"] == name].drop(columns="attack")
    defined = worst[worst["dice"].notna()]
    shares = (
        defined.groupby("point")["attack"]
        .value_counts(normalize=True)
        .rename("worst_share")
        .reset_index()
    )
    rows = curve.merge(
        alone[["attack", "point", "dice"]].rename(columns={"dice": "attack_dice"}), on="point"
    ).merge(shares, on=["point", "attack"], how="left")
    rows["worst_share"] = rows["worst_share"].fillna(0.0)
    rows = rows.assign(ensemble=name, loss=loss)
    columns = ["ensemble", "axis", "point", "loss", *_SCORES, "attack", "attack_dice"]
    return rows[[*columns, "worst_share"]]
