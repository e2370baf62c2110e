"""Training loss by attack loss: the same attack raising one objective after another."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from comparison.figures import point_words
from lightning_module.keys import unique_slugs
from pictures.drawing import draw
from pictures.matrix import matrix_figure

_SCORES = ["dice", "low", "high", "seed_low", "seed_high"]
COLUMNS = ["group", "axis", "point", "loss", "objective", "attack", *_SCORES]


def attack_loss_table(
    settings: Sequence[Mapping[str, Any]], curves: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Dice of each training loss under each objective that the same attack raises.

    Args:
        settings: Of each attack.
        curves: Of each loss, from :func:`comparison.statistics.loss_curves`.

    Returns:
        One row a group of attacks that differ in name and objective alone, point, loss and
        objective, with columns ``COLUMNS``; none where no attack raises two objectives.
    """
    measured = set(next(iter(curves.values()))["attack"])
    rows = [
        curve[curve["attack"] == attack].assign(group=group, loss=loss, objective=objective)
        for group, attacks in _groups(settings, measured).items()
        for loss, curve in curves.items()
        for objective, attack in attacks.items()
    ]
    return pd.concat(rows, ignore_index=True)[COLUMNS] if rows else pd.DataFrame(columns=COLUMNS)


def attack_loss_figures(table: pd.DataFrame) -> dict[str, bytes]:
    """PNG of the matrix of each group at its largest point, by the name of its file.

    Args:
        table: From :func:`attack_loss_table`.
    """
    figures: dict[str, bytes] = {}
    for group, found in table.groupby("group", sort=False):
        last = found[found["point"] == found["point"].max()]
        wide = last.pivot_table(
            index="loss", columns="objective", values="dice", sort=False, dropna=False
        )
        at = point_words(str(last["axis"].iloc[0]), float(last["point"].iloc[0]))
        dice = wide.to_numpy(float)
        figure = matrix_figure(
            dice,
            [str(loss) for loss in wide.index],
            [str(objective) for objective in wide.columns],
            title=f"Dice by the loss that {group} raises, at {at}",
            sides=("trained with", "raised by the attack"),
            marked=dice == np.fmin.reduce(dice, axis=1, keepdims=True),
            mark="what harms a network most",
        )
        figures[f"attack_loss_{group}"] = draw(figure)
    return figures


def _groups(settings: Sequence[Mapping[str, Any]], measured: set[str]) -> dict[str, dict[str, str]]:
    """Attacks by objective, by what names of the same attack begin with."""
    alike: dict[str, dict[str, str]] = {}
    for attack in settings:
        if attack.get("objective") and attack["name"] in measured:
            rest = {key: attack[key] for key in attack if key not in {"name", "objective"}}
            group = alike.setdefault(json.dumps(rest, sort_keys=True), {})
            group.setdefault(str(attack["objective"]), str(attack["name"]))
    found = {rest: group for rest, group in alike.items() if len(group) > 1}
    names = unique_slugs(
        _beginning(list(group.values())) or str(json.loads(rest)["class"])
        for rest, group in found.items()
    )
    return dict(zip(names, found.values(), strict=True))


def _beginning(names: Sequence[str]) -> str:
    """The words that all names begin with: ``pgd`` of ``pgd_bce`` and ``pgd_balanced_bce``."""
    words = []
    for found in zip(*(name.split("_") for name in names), strict=False):
        if len(set(found)) > 1:
            break
        words.append(found[0])
    return "_".join(words)
