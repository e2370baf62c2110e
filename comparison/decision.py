"""What a comparison decides: every question with its pairs of losses, ranking and sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from comparison.case_scores import Question, case_scores
from comparison.pairs import pair_table
from comparison.ranking import ranking_table
from comparison.selection import Selection
from comparison.sentences import claim_sentence, networks_sentence, question_sentence
from pictures.drawing import draw
from pictures.ranking import RankPanel, ranking_figure

FIGURE = "ranking"
PAIRS_FILE, RANKING_FILE, QUESTIONS_FILE = TABLES = ("pairs.csv", "ranking.csv", "questions.csv")
_MOST_PANELS = 12


@dataclass(frozen=True)
class Decided:
    """One question with its answer.

    Attributes:
        question: What was asked.
        pairs: From :func:`comparison.pairs.pair_table`, with ``claim`` and ``networks``: what can
            be said about the losses and about the trained networks.
        ranking: From :func:`comparison.ranking.ranking_table`.
        sentence: The answer.
    """

    question: Question
    pairs: pd.DataFrame
    ranking: pd.DataFrame
    sentence: str


def decide(selection: Selection, measures: Sequence[str]) -> list[Decided]:
    """Answer all questions; none where there is one loss only.

    Args:
        selection: The runs.
        measures: Names of measures as in the table of scores.
    """
    if len(selection.by_loss()) == 1:
        return []
    decided = []
    for scores in case_scores(selection, measures):
        question = scores.question
        pairs, ranking = pair_table(scores), ranking_table(scores)
        rows = pairs.to_dict("records")
        pairs["claim"] = [claim_sentence(question, row) for row in rows]
        pairs["networks"] = [networks_sentence(question, row) for row in rows]
        sentence = question_sentence(question, pairs, ranking)
        decided.append(Decided(question, pairs, ranking, sentence))
    return decided


def decision_tables(decided: Sequence[Decided]) -> dict[str, pd.DataFrame]:
    """The tables of all questions by the names of their files; none without a question.

    Args:
        decided: From :func:`decide`.
    """
    if not decided:
        return {}
    questions = [(one.question.measure, one.question.title, one.sentence) for one in decided]
    return {
        PAIRS_FILE: pd.concat([one.pairs for one in decided], ignore_index=True),
        RANKING_FILE: pd.concat([one.ranking for one in decided], ignore_index=True),
        QUESTIONS_FILE: pd.DataFrame(questions, columns=["measure", "question", "sentence"]),
    }


def decision_figures(decided: Sequence[Decided]) -> dict[str, bytes]:
    """The ranking of the first questions by the name of its file; none without a ranking.

    Args:
        decided: From :func:`decide`.
    """
    panels = [
        RankPanel(one.question.title, tuple(one.ranking["loss"]), _shares(one.ranking))
        for one in decided
        if not one.ranking.empty
    ][:_MOST_PANELS]
    if not panels:
        return {}
    title = "Ranks of the losses when cases and seeds are drawn again"
    return {FIGURE: draw(ranking_figure(panels, title=title))}


def _shares(ranking: pd.DataFrame) -> np.ndarray:
    return ranking[[f"rank_{place + 1}" for place in range(len(ranking))]].to_numpy(float)
