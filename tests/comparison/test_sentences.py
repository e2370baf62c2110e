"""A sentence claims what the seeds show, says what they do not, and never prints a p of 0."""

import numpy as np
import pandas as pd
import pytest

from comparison.case_scores import CaseScores, Question
from comparison.pairs import pair_table
from comparison.ranking import ranking_table
from comparison.sentences import (
    claim_sentence,
    networks_sentence,
    p_words,
    question_sentence,
)

ASKED = Question("dice/topn_at_max@30", "Dice at 30 pixels", "at 30 pixels a slice, topn_at_max")
BASE = np.random.default_rng(2).uniform(0.3, 0.6, 60)


def scores_of(**shifts: tuple[float, ...]) -> CaseScores:
    """Losses whose seeds lie so far above the same cases."""
    noise = np.random.default_rng(3).normal(0, 0.005, 60)
    return CaseScores(
        ASKED,
        {
            loss: {
                (str(seed), "0"): BASE + shift + (noise if index else 0)
                for seed, shift in enumerate(of_seeds)
            }
            for index, (loss, of_seeds) in enumerate(shifts.items())
        },
    )


def said(scores: CaseScores) -> tuple[str, str, str]:
    pairs = pair_table(scores)
    row = pairs.to_dict("records")[0]
    whole = question_sentence(ASKED, pairs, ranking_table(scores))
    return claim_sentence(ASKED, row), networks_sentence(ASKED, row), whole


def test_what_seeds_show_is_claimed_for_the_better_loss() -> None:
    claim, networks, whole = said(scores_of(dice=(0.0, 0.01, 0.02), both=(0.12, 0.13, 0.141)))
    assert claim.startswith("both keeps 0.12")
    assert "] more Dice than dice at 30 pixels a slice, topn_at_max; p < " in claim
    assert claim.endswith("; 60 cases, 3 seeds.")
    assert networks.startswith("These trained networks of both keep 0.12")
    assert "p < 0.0001" in networks
    assert whole.startswith(claim)
    assert whole.endswith("Most often first: both, in 100 % of resamples of cases and seeds.")


def test_what_only_the_networks_show_is_not_claimed() -> None:
    claim, networks, whole = said(scores_of(dice=(0.0, 0.2, -0.1), both=(0.3, -0.1, 0.1)))
    assert claim.startswith("No difference between both and dice is shown at 30 pixels")
    assert "0.067 [-" in claim
    assert networks.startswith("These trained networks of both keep 0.067 [0.0")
    assert claim in whole


def test_one_seed_makes_no_claim_about_the_loss() -> None:
    claim, networks, whole = said(scores_of(dice=(0.0,), both=(0.1, 0.2)))
    assert claim == (
        "No claim about dice and both is made at 30 pixels a slice, topn_at_max: one seed only of "
        "dice."
    )
    assert networks in whole
    assert whole.endswith("of resamples of cases.")
    assert "one seed only of dice and of both" in said(scores_of(dice=(0.0,), both=(0.1,)))[0]


def test_unpaired_seeds_are_said_to_be() -> None:
    scores = scores_of(dice=(0.0, 0.01), both=(0.12, 0.13))
    other = {(f"9{seed}", fold): run for (seed, fold), run in scores.values["both"].items()}
    claim, *_ = said(CaseScores(ASKED, {"dice": scores.values["dice"], "both": other}))
    assert claim.endswith("60 cases, 2 seeds each, unpaired (Welch).")


def test_seeds_that_agree_exactly_claim_nothing() -> None:
    claim, *_ = said(scores_of(dice=(0.0, 0.0), both=(0.1, 0.1)))
    assert "their seeds do not differ" in claim


def test_ranks_alone_do_not_make_a_difference_of_the_means() -> None:
    difference = np.full(60, -0.001)
    difference[:4] = 0.02
    values = {"a": {("0", "0"): BASE + difference}, "b": {("0", "0"): BASE}}
    _, networks, _ = said(CaseScores(ASKED, values))
    assert networks.startswith("Between these trained networks of a and b no difference of the")
    assert "their ranks differ, p < 0.0001" in networks


def test_a_question_names_every_claim_and_counts_the_rest() -> None:
    scores = scores_of(a=(0.0, 0.012, 0.021), b=(0.005, 0.02, 0.011), c=(0.3, 0.31, 0.318))
    _, _, whole = said(scores)
    assert "c keeps 0.298" in whole
    assert whole.count(" keeps ") == 2
    assert "Nothing can be claimed about the other pair." in whole
    none = question_sentence(ASKED, *tables(scores_of(a=(0.1, 0.4), b=(0.3, 0.1), c=(0.2, 0.4))))
    assert "It is the largest of 3 pairs, and no claim stands." in none


def tables(scores: CaseScores) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pair_table(scores), ranking_table(scores)


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.0, "p < 0.0001"),
        (1e-12, "p < 0.0001"),
        (0.0123, "p = 0.012"),
        (1.0, "p = 1.0"),
        (float("nan"), "no p"),
    ],
)
def test_a_p_is_never_said_to_be_zero(p: float, words: str) -> None:
    assert p_words(p) == words
