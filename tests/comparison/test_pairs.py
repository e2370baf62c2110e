"""Scores case by case, pairs and ranks are what plain loops over the counts say."""

from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from comparison.case_scores import CaseScores, Question, case_scores
from comparison.intervals import bca_ends
from comparison.pairs import ONE_SEED, PAIRED, UNVARIED, WELCH, pair_table
from comparison.ranking import rank_shares, ranking_table
from comparison.selection import Selection, choose_runs
from tests.comparison.made import (
    CASES,
    area_by_hand,
    made_counts,
    made_frame,
    made_run,
)
from tests.comparison.made import case_scores as scores_by_hand

ASKED = Question("clean", "Dice without attack", "without attack")
MEASURES = (
    "clean",
    "clean/foreground",
    "dice/topn_random@10",
    "auc/topn_random",
    "auc/topn_random_control",
    "auc/top5_beyond_range",
)


def made_selection(*frames: tuple[str, int, pd.DataFrame]) -> Selection:
    found = [
        (made_run(number, loss, seed), made_counts(frame))
        for number, (loss, seed, frame) in enumerate(frames)
    ]
    return choose_runs("trials", "test", found)


def scores_of(**losses: dict[str, list[float]]) -> CaseScores:
    """Scores by loss and seed."""
    return CaseScores(
        ASKED,
        {
            loss: {(seed, "0"): np.array(values) for seed, values in runs.items()}
            for loss, runs in losses.items()
        },
    )


def random_scores(seeds: dict[str, tuple[str, ...]], cases: int = 12) -> CaseScores:
    generator = np.random.default_rng(4)
    return scores_of(
        **{
            loss: {seed: list(generator.beta(6, 2, cases)) for seed in names}
            for loss, names in seeds.items()
        }
    )


@pytest.mark.parametrize("empty", [False, True])
def test_every_question_is_asked_of_every_case(empty: bool) -> None:
    frames = [made_frame(seed, empty=empty) for seed in range(3)]
    selection = made_selection(("bce", 0, frames[0]), ("bce", 1, frames[1]), ("dice", 0, frames[2]))
    found = {scores.question.measure: scores.values for scores in case_scores(selection, MEASURES)}
    # Controls and single classes are no questions about losses.
    assert list(found) == [
        "clean",
        "dice/topn_random@10",
        "auc/topn_random",
        "auc/top5_beyond_range",
    ]
    for loss, seed, frame in (("bce", "0", frames[0]), ("bce", "1", frames[1])):
        by_hand = scores_by_hand([frame])
        for index, case in enumerate(CASES):
            dice = {point: seeds[case][0] for point, seeds in by_hand.items() if seeds[case]}
            values = {measure: runs[loss][seed, "0"][index] for measure, runs in found.items()}
            if not dice:
                assert np.isnan(list(values.values())).all()
                continue
            assert values["clean"] == pytest.approx(dice["clean", 0.0])
            assert values["dice/topn_random@10"] == pytest.approx(dice["topn_random", 10.0])
            for attack in ("topn_random", "top5_beyond_range"):
                assert values[f"auc/{attack}"] == pytest.approx(area_by_hand(dice, attack))


def test_classes_are_averaged_within_a_case() -> None:
    frame = made_frame(0, classes=("front", "back"))
    selection = made_selection(("bce", 0, frame))
    (scores,) = case_scores(selection, ["clean"])
    clean = frame[(frame["attack"] == "clean") & (frame["case"] == CASES[1])]
    dice = [
        2 * row["tp"] / (2 * row["tp"] + row["fp"] + row["fn"]) for row in clean.to_dict("records")
    ]
    assert scores.values["bce"]["0", "0"][1] == pytest.approx(fmean(dice))


def test_pairs_are_tested_over_cases_and_by_seed() -> None:
    scores = random_scores({"a": ("0", "1", "2"), "b": ("1", "2", "0")})
    (row,) = pair_table(scores).to_dict("records")
    ours, theirs = scores.values["a"], scores.values["b"]
    of_cases = np.mean(list(ours.values()), axis=0) - np.mean(list(theirs.values()), axis=0)
    assert row["difference"] == pytest.approx(of_cases.mean())
    assert [row["low"], row["high"]] == pytest.approx(bca_ends(of_cases[:, None])[:, 0].tolist())
    assert row["p_cases"] == pytest.approx(stats.wilcoxon(of_cases).pvalue)
    of_seeds = [ours[key].mean() - theirs[key].mean() for key in ours]
    expected = stats.ttest_1samp(of_seeds, 0.0)
    assert row["design"] == PAIRED
    assert row["p_seeds"] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert [row["seed_low"], row["seed_high"]] == pytest.approx([interval.low, interval.high])
    assert (row["cases"], row["seeds"], row["seeds_other"]) == (12, 3, 3)


@pytest.mark.parametrize(
    ("ours", "theirs", "design", "used"),
    [
        (("0", "1", "2"), ("0", "1"), PAIRED, (2, 2)),
        (("0", "1", "2"), ("2", "3"), WELCH, (3, 2)),
        (("0", "1"), ("5", "6", "7"), WELCH, (2, 3)),
        (("0", "1"), ("0",), ONE_SEED, (2, 1)),
        (("0",), ("0",), ONE_SEED, (1, 1)),
    ],
)
def test_the_design_follows_the_seeds(
    ours: tuple[str, ...], theirs: tuple[str, ...], design: str, used: tuple[int, int]
) -> None:
    scores = random_scores({"a": ours, "b": theirs})
    (row,) = pair_table(scores).to_dict("records")
    assert row["design"] == design
    assert (row["seeds"], row["seeds_other"]) == used
    assert np.isnan(row["p_seeds"]) == (design == ONE_SEED)
    if design == WELCH:
        means = [[run.mean() for run in scores.values[loss].values()] for loss in ("a", "b")]
        expected = stats.ttest_ind(*means, equal_var=False).pvalue
        assert row["p_seeds"] == pytest.approx(expected)


def test_a_case_counts_where_all_runs_have_it() -> None:
    nan = float("nan")
    scores = scores_of(
        a={"0": [0.9, nan, 0.5, 0.7], "1": [0.8, 0.4, 0.6, 0.7]},
        b={"0": [0.7, 0.3, 0.5, nan], "1": [0.7, 0.2, 0.3, 0.6]},
    )
    (row,) = pair_table(scores).to_dict("records")
    assert (row["cases"], row["cases_left_out"]) == (2, 2)
    assert row["difference"] == pytest.approx((0.85 + 0.55 - 0.7 - 0.4) / 2)
    alike = scores_of(a={"0": [0.5, 0.6], "1": [0.5, 0.6]}, b={"0": [0.4, 0.5], "1": [0.4, 0.5]})
    assert pair_table(alike)["design"].tolist() == [UNVARIED]
    nothing = scores_of(a={"0": [nan], "1": [nan]}, b={"0": [0.1], "1": [0.2]})
    assert np.isnan(pair_table(nothing)["difference"].iloc[0])


def test_every_pair_is_there_once_and_adjusted_for_all() -> None:
    scores = random_scores(dict.fromkeys("abcd", ("0", "1", "2")))
    table = pair_table(scores)
    assert len(table) == 6
    assert len(set(zip(table["loss"], table["other"], strict=True))) == 6
    smallest = table.sort_values("p_cases").to_dict("records")[0]
    assert smallest["p_cases_holm"] == pytest.approx(min(1.0, 6 * smallest["p_cases"]))


def test_ranks_are_those_of_the_means_and_their_shares_those_of_the_draws() -> None:
    scores = scores_of(
        low={"0": [0.1, 0.2, 0.3], "1": [0.2, 0.1, 0.3]},
        high={"0": [0.7, 0.8, 0.9], "1": [0.8, 0.9, 0.7]},
    )
    table = ranking_table(scores)
    assert table["loss"].tolist() == ["high", "low"]
    assert table["rank"].tolist() == [1, 2]
    assert table["value"].tolist() == pytest.approx([0.8, 0.2])
    assert table[["rank_1", "rank_2"]].to_numpy().tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_rank_that_hangs_on_the_seed_is_not_stable() -> None:
    # Better by 0.10 under three seeds of four, worse by 0.15 under the last, which may come once
    # at most among four draws.
    seeds = [str(seed) for seed in range(4)]
    scores = scores_of(
        a={seed: [0.5 + (0.1 if seed != "3" else -0.15)] * 5 for seed in seeds},
        b={seed: [0.5] * 5 for seed in seeds},
    )
    shares = ranking_table(scores, draws=20000).set_index("loss")["rank_1"].to_dict()
    assert shares["a"] == pytest.approx(0.75**4 + 4 * 0.25 * 0.75**3, abs=0.015)


def test_shares_of_ranks_are_counted_and_ties_shared() -> None:
    means = np.array([[0.9, 0.5, 0.1], [0.5, 0.5, 0.1], [0.2, 0.2, 0.2], [0.1, 0.2, 0.3]])
    shares = rank_shares(means)
    third = 1 / 3
    expected = np.array(
        [
            [1 + 0.5 + third, 0.5 + third, third + 1],
            [0.5 + third, 1 + 0.5 + third + 1, third],
            [third + 1, third, 1 + 1 + third],
        ]
    )
    assert shares == pytest.approx(expected / 4)
    assert shares.sum(axis=0) == pytest.approx(np.ones(3))


def test_without_a_common_case_there_is_no_ranking() -> None:
    scores = scores_of(a={"0": [float("nan"), 0.5]}, b={"0": [0.5, float("nan")]})
    assert ranking_table(scores).empty
