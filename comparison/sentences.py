"""What a comparison decides, in plain sentences: one a pair of losses, and one a question."""

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from comparison.case_scores import Question
from comparison.pairs import ONE_SEED, PAIRED, UNVARIED

STANDS = 0.05
_LEAST_SAID = 0.0001

Pair = Mapping[Hashable, Any]


def p_words(p: float) -> str:
    """A p in words, never 0: ``p = 0.012``, ``p < 0.0001``."""
    if math.isnan(p):
        return "no p"
    return f"p < {_LEAST_SAID:.4f}" if p < _LEAST_SAID else f"p = {p:#.2g}"


def claim_sentence(question: Question, pair: Pair) -> str:
    """What can be claimed about two losses, with seeds as the unit.

    Args:
        question: What was asked.
        pair: A row of :func:`comparison.pairs.pair_table`.
    """
    loss, other = str(pair["loss"]), str(pair["other"])
    if pair["design"] == ONE_SEED:
        single = [
            name
            for name, seeds in ((loss, pair["seeds"]), (other, pair["seeds_other"]))
            if seeds == 1
        ]
        return (
            f"No claim about {loss} and {other} is made {question.end}: one seed only of "
            f"{' and of '.join(single)}."
        )
    if pair["design"] == UNVARIED:
        return (
            f"No claim about {loss} and {other} is made {question.end}: "
            "their seeds do not differ, or no case has a score under all runs."
        )
    better, worse, ends = _oriented(pair, "seed_low", "seed_high")
    facts = f"{p_words(pair['p_seeds_holm'])}; {_cases(pair)}, {_seeds(pair)}"
    if pair["p_seeds_holm"] < STANDS:
        return f"{better} keeps {ends} more Dice than {worse} {question.end}; {facts}."
    return f"No difference between {better} and {worse} is shown {question.end}: {ends}; {facts}."


def networks_sentence(question: Question, pair: Pair) -> str:
    """What is seen on the trained networks, over cases: nothing that a loss can claim.

    Args:
        question: What was asked.
        pair: A row of :func:`comparison.pairs.pair_table`.
    """
    if math.isnan(pair["difference"]):
        return f"No case has a score under all runs of {pair['loss']} and {pair['other']}."
    better, worse, ends = _oriented(pair, "low", "high")
    p, cases = pair["p_cases_holm"], _cases(pair)
    excludes_zero = pair["low"] > 0 or pair["high"] < 0
    if p < STANDS and excludes_zero:
        return (
            f"These trained networks of {better} keep {ends} more Dice than those of {worse} "
            f"{question.end}; {p_words(p)}; {cases}."
        )
    ranks = "their ranks differ, " if p < STANDS else ""
    return (
        f"Between these trained networks of {better} and {worse} no difference of the means is "
        f"shown {question.end}: {ends}; {ranks}{p_words(p)}; {cases}."
    )


def question_sentence(question: Question, pairs: pd.DataFrame, ranking: pd.DataFrame) -> str:
    """The answer to a question: every claim that stands, or that none does, and the ranking.

    Args:
        question: What was asked.
        pairs: From :func:`comparison.pairs.pair_table`.
        ranking: From :func:`comparison.ranking.ranking_table`.
    """
    rows = pairs.to_dict("records")
    stands = [row for row in rows if row["p_seeds_holm"] < STANDS]
    tested = [row for row in rows if not math.isnan(row["p_seeds_holm"])]
    if stands:
        stands.sort(key=lambda row: -abs(row["difference"]))
        said = " ".join(claim_sentence(question, row) for row in stands)
        if len(stands) < len(rows):
            said += f" Nothing can be claimed about the other {_count(len(rows) - len(stands))}."
    elif tested:
        largest = max(tested, key=lambda row: abs(row["difference"]))
        said = claim_sentence(question, largest)
        if len(rows) > 1:
            said += f" It is the largest of {_count(len(rows))}, and no claim stands."
    else:
        largest = max(rows, key=lambda row: abs(row["difference"]))
        said = f"{claim_sentence(question, largest)} {networks_sentence(question, largest)}"
    return f"{said} {_ranking_words(ranking)}".strip()


def _oriented(pair: Pair, low: str, high: str) -> tuple[str, str, str]:
    """The better loss, the other one, and how much better it is with the interval's ends."""
    loss, other, value = str(pair["loss"]), str(pair["other"]), pair["difference"]
    if value >= 0:
        return loss, other, _number(value, pair[low], pair[high])
    return other, loss, _number(-value, -pair[high], -pair[low])


def _number(value: float, low: float, high: float) -> str:
    ends = "" if math.isnan(low) else f" [{_plain(low)}, {_plain(high)}]"
    return _plain(value) + ends


def _plain(value: float) -> str:
    """Three decimals, and never minus zero."""
    return f"{round(value, 3) + 0.0:.3f}"


def _cases(pair: Pair) -> str:
    left = pair["cases_left_out"]
    return f"{pair['cases']} cases" + (f" ({left} without Dice left out)" if left else "")


def _seeds(pair: Pair) -> str:
    if pair["design"] == PAIRED:
        return f"{pair['seeds']} seeds"
    if pair["seeds"] == pair["seeds_other"]:
        return f"{pair['seeds']} seeds each, unpaired (Welch)"
    return f"{pair['seeds']} and {pair['seeds_other']} seeds, unpaired (Welch)"


def _count(number: int) -> str:
    return "pair" if number == 1 else f"{number} pairs"


def _ranking_words(ranking: pd.DataFrame) -> str:
    if len(ranking) < 2:  # noqa: PLR2004 (a rank needs another)
        return ""
    best = ranking.iloc[int(ranking["rank_1"].argmax())]
    drawn = "cases and seeds" if int(ranking["seeds"].min()) > 1 else "cases"
    return (
        f"Most often first: {best['loss']}, in {100 * best['rank_1']:.0f} % of resamples of "
        f"{drawn}."
    )
