"""What a comparison asks of each run, case by case: clean Dice, areas, Dice at named points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from comparison.figures import point_words
from comparison.selection import Selection
from comparison.statistics import area_weights
from comparison.table import CONTROL
from robustness.counts import CLEAN

RunKey = tuple[str, str]
"""Seed and fold of a run."""


@dataclass(frozen=True)
class Question:
    """Something that losses are compared by, larger being better.

    Attributes:
        measure: Its column in the table of scores: ``clean``, ``auc/<attack>``,
            ``dice/<attack>@<point>``.
        title: What is asked, in words.
        end: How a sentence ends that says who has more Dice than whom.
    """

    measure: str
    title: str
    end: str


@dataclass(frozen=True)
class CaseScores:
    """One score of each case under each run.

    Attributes:
        question: What is asked.
        values: By loss and by seed and fold, shape ``(cases,)`` in the order of their names: the
            mean over classes, NaN where no class has Dice.
    """

    question: Question
    values: Mapping[str, Mapping[RunKey, np.ndarray]]


def case_scores(selection: Selection, measures: Sequence[str]) -> list[CaseScores]:
    """The scores of all cases, question by question.

    Args:
        selection: The runs.
        measures: Names of measures as in the table of scores. Those of single classes and of
            controls are no questions about losses, and are left out.
    """
    pivots = [_pivot(compared.dice) for compared in selection.runs]
    points = _points(selection.runs[0].dice)
    found = []
    for measure in measures:
        kind, _, rest = measure.partition("/")
        attack, _, point = rest.partition("@")
        if attack.endswith(CONTROL) or (kind == CLEAN and rest):
            continue
        question, weights = _asked(kind, attack, point, points)
        values: dict[str, dict[RunKey, np.ndarray]] = {loss: {} for loss in selection.by_loss()}
        for compared, (dice, classes) in zip(selection.runs, pivots, strict=True):
            score = (dice[list(weights)].to_numpy() @ list(weights.values())).reshape(-1, classes)
            values[compared.loss][compared.seed, compared.fold] = _mean_over_classes(score)
        found.append(CaseScores(question, values))
    return found


def _pivot(scored: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Dice with a row a case and class and a column a point, and the number of classes."""
    dice = scored.pivot_table(
        index=["case", "class"],
        columns=["attack", "point_index"],
        values="dice",
        dropna=False,
        observed=True,
    )
    return dice, int(scored["class"].nunique())


def _points(scored: pd.DataFrame) -> pd.DataFrame:
    columns = ["attack", "axis", "point_index", "point"]
    return scored[columns].drop_duplicates().sort_values(["attack", "point_index"])


def _asked(
    kind: str, attack: str, point: str, points: pd.DataFrame
) -> tuple[Question, dict[tuple[str, int], float]]:
    """A question, and the weights that turn the Dice of each point into its score."""
    if kind == CLEAN:
        return Question(CLEAN, "Dice without attack", "without attack"), {(CLEAN, 0): 1.0}
    curve = points[points["attack"] == attack]
    axis = str(curve["axis"].iloc[0])
    if kind == "dice":
        nearest = curve.iloc[int(np.argmin(np.abs(curve["point"].to_numpy() - float(point))))]
        at = f"{point_words(axis, float(nearest['point']))}, {attack}"
        question = Question(f"dice/{attack}@{point}", f"Dice at {at}", f"at {at}")
        return question, {(attack, int(nearest["point_index"])): 1.0}
    question = Question(
        f"auc/{attack}",
        f"Area under the curve of {attack} (mean Dice over its axis)",
        f"on average over the axis of {attack}",
    )
    return question, area_weights(points, attack)


def _mean_over_classes(score: np.ndarray) -> np.ndarray:
    known = ~np.isnan(score)
    count = known.sum(axis=1)
    total = np.where(known, score, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
