"""Which loss is the best, the second, ...: and how often that stays so when it is drawn again."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from comparison.case_scores import CaseScores
from comparison.intervals import drawn_weights

DRAWS = 2000
_COLUMNS = ("measure", "loss", "value", "rank", "seeds", "cases")


def ranking_table(scores: CaseScores, *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """The losses of one question from the best on, with the stability of their ranks.

    Cases and seeds are drawn with replacement. The cases are the same for all losses, and the
    seeds too where all losses have the same ones; a loss with one seed keeps it, and its share
    then says nothing about trainings.

    Args:
        scores: Of one question.
        draws: How often cases and seeds are drawn.
        seed: Of the draws.

    Returns:
        One row a loss, ``measure, loss, value`` (the mean over seeds and cases), ``rank`` (equal
        losses share the better one), ``seeds``, ``cases`` (with a score under all runs) and
        ``rank_1, rank_2, ...``: the share of draws in which it has this rank; equal losses share
        the ranks between them. Empty where no case has a score under all runs.
    """
    stacked = {loss: np.stack(list(runs.values())) for loss, runs in scores.values.items()}
    known = ~np.isnan(np.vstack(list(stacked.values()))).any(axis=0)
    if not known.any():
        return pd.DataFrame(columns=list(_COLUMNS))
    values = {loss: runs[:, known] for loss, runs in stacked.items()}
    means = np.array([[runs.mean() for runs in values.values()]])
    ranks = 1 + np.sum(means[0] > means[0][:, None], axis=1)
    shares = rank_shares(_drawn_means(scores, values, draws, seed))
    table = pd.DataFrame(
        {
            "measure": scores.question.measure,
            "loss": list(values),
            "value": means[0],
            "rank": ranks,
            "seeds": [len(runs) for runs in values.values()],
            "cases": int(known.sum()),
            **{f"rank_{place + 1}": shares[:, place] for place in range(len(values))},
        }
    )
    return table.sort_values("rank", kind="stable", ignore_index=True)


def rank_shares(means: np.ndarray) -> np.ndarray:
    """The share of draws in which each loss has each rank, the largest mean being the first.

    Args:
        means: Shape ``(draws, losses)``.

    Returns:
        Shape ``(losses, ranks)``; rows and columns add up to 1.
    """
    count = means.shape[1]
    better = np.sum(means[:, None, :] > means[:, :, None], axis=2)
    equal = np.sum(means[:, None, :] == means[:, :, None], axis=2)
    places = np.arange(count)
    holds = (places >= better[..., None]) & (places < (better + equal)[..., None])
    shares: np.ndarray = np.mean(holds / equal[..., None], axis=0)
    return shares


def _drawn_means(
    scores: CaseScores, values: Mapping[str, np.ndarray], draws: int, seed: int
) -> np.ndarray:
    """Means of the losses in each draw of cases and seeds, shape ``(draws, losses)``."""
    cases = next(iter(values.values())).shape[1]
    of_cases = drawn_weights(cases, draws, seed)
    keys = [list(runs) for runs in scores.values.values()]
    together = all(found == keys[0] for found in keys)
    columns = []
    for index, runs in enumerate(values.values()):
        of_seeds = drawn_weights(len(runs), draws, seed + 1 + (0 if together else index))
        columns.append(np.sum((of_cases @ runs.T) * of_seeds, axis=1))
    return np.stack(columns, axis=1)
