"""Training loss by attack loss: attacks that differ in their objective alone, from known Dice."""

from typing import Any

import pytest

from comparison.attack_losses import COLUMNS, attack_loss_figures, attack_loss_table
from comparison.statistics import loss_curves
from robustness.counts import CLEAN_ROW, Row
from tests.comparison.made import frame_of

EPSILONS = (0.01, 0.02)
DICE = {
    "bce": {"pgd_bce": (0.6, 0.3), "pgd_balanced_bce": (0.5, 0.4), "apgd_bce": (0.2, 0.1)},
    "dice": {"pgd_bce": (0.7, 0.6), "pgd_balanced_bce": (0.8, 0.5), "apgd_bce": (0.2, 0.1)},
}


def attack(name: str, objective: str, **changed: object) -> dict[str, Any]:
    plain = {"class": "PGD", "epsilons": list(EPSILONS), "steps": 20}
    return {"name": name, "objective": objective, **plain, **changed}


SETTINGS = [
    attack("pgd_bce", "bce"),
    attack("apgd_bce", "bce", steps=40),
    attack("pgd_balanced_bce", "balanced_bce"),
    attack("pgd_again", "bce"),
    attack("pgd_unmeasured", "margin"),
    {"class": "Blur", "name": "blur", "severities": [1]},
]
CURVES = {
    loss: loss_curves(
        [
            frame_of(
                {
                    CLEAN_ROW: [0.9, 0.9],
                    **{
                        Row(name, "epsilon", index, epsilon, 0): [
                            dice[index] + 0.1,
                            dice[index] - 0.1,
                        ]
                        for name, dice in attacks.items()
                        for index, epsilon in enumerate(EPSILONS)
                    },
                }
            )
        ]
    )
    for loss, attacks in DICE.items()
}


def test_every_shared_point_of_attacks_that_differ_in_objective_alone() -> None:
    table = attack_loss_table(SETTINGS, CURVES)
    assert list(table.columns) == COLUMNS
    assert set(table["group"]) == {"pgd"}
    objectives = {"bce": "pgd_bce", "balanced_bce": "pgd_balanced_bce"}
    found = table.set_index(["loss", "objective", "point"])["dice"].to_dict()
    assert found == pytest.approx(
        {
            (loss, objective, epsilon): DICE[loss][name][index]
            for loss in DICE
            for objective, name in objectives.items()
            for index, epsilon in enumerate(EPSILONS)
        }
    )
    assert dict(zip(table["objective"], table["attack"], strict=True)) == objectives


def test_a_matrix_a_group() -> None:
    figures = attack_loss_figures(attack_loss_table(SETTINGS, CURVES))
    assert list(figures) == ["attack_loss_pgd"]
    assert figures["attack_loss_pgd"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("second", "group"),
    [
        (attack("pgd_balanced_bce", "balanced_bce"), "pgd"),
        (attack("pgd_balanced_bce", "bce"), None),
        (attack("pgd_balanced_bce", "balanced_bce", steps=21), None),
        (attack("pgd_balanced_bce", "balanced_bce", **{"class": "APGD"}), None),
        (attack("gone", "balanced_bce"), None),
    ],
)
def test_each_setting_but_name_and_objective_counts(
    second: dict[str, Any], group: str | None
) -> None:
    table = attack_loss_table([SETTINGS[0], second], CURVES)
    assert list(table.columns) == COLUMNS
    assert table["group"].unique().tolist() == ([group] if group else [])
    assert bool(attack_loss_figures(table)) == bool(group)


def test_groups_without_a_common_beginning_are_named_after_their_class() -> None:
    settings = [attack("pgd_bce", "bce"), attack("apgd_bce", "balanced_bce")]
    assert set(attack_loss_table(settings, CURVES)["group"]) == {"pgd"}
    words = [attack("pgd_bce", "a", **{"class": "Momentum"})]
    words.append(attack("apgd_bce", "b", **{"class": "Momentum"}))
    assert set(attack_loss_table(words, CURVES)["group"]) == {"momentum"}


def test_without_settings_there_is_nothing() -> None:
    assert attack_loss_table([], CURVES).empty
