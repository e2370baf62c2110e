"""How alike maps are: of two methods on one network, and of two trainings with one loss."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from comparison.saliency_files import Stored
from comparison.selection import Selection
from robustness.attribution import METHODS
from robustness.map_agreement import agreement_table
from robustness.pictured import SliceMaps

BETWEEN_METHODS, BETWEEN_SEEDS = "methods", "seeds"
COLUMNS = [
    *("kind", "loss", "method", "first", "second"),
    *("spearman", "overlap", "chance", "slices", "runs"),
]
# How many first pixels are compared; all where a slice has fewer valid ones.
TOP_PIXELS = 50

_PAIR = ["first", "second"]
_NUMBERS = ["spearman", "overlap", "chance"]


def agreements(selection: Selection, stored: Stored[list[SliceMaps]]) -> pd.DataFrame:
    """Agreement of the magnitudes of maps over valid pixels, two maps of a slice at a time.

    Args:
        selection: The runs.
        stored: Their maps.

    Returns:
        Columns ``COLUMNS``. Of kind ``methods`` one row a loss and two methods, ``method`` being
        empty: the mean over the slices of each run, then over ``runs`` runs. Of kind ``seeds`` one
        row a loss, method and two runs, told by their words: the mean over the slices of both.
        ``spearman`` is the rank correlation, ``overlap`` the share that the first 50 pixels have in
        common, ``chance`` the share of two maps drawn by chance. ``slices`` says how many pairs of
        maps told; a map that is the same everywhere tells nothing.
    """
    by_loss: dict[str, dict[str, list[SliceMaps]]] = {}
    for compared, maps in stored.runs:
        by_loss.setdefault(compared.loss, {})[selection.run_words(compared)] = maps
    parts = [pd.DataFrame(columns=COLUMNS)]
    for loss, runs in by_loss.items():
        parts += [
            found.assign(loss=loss)
            for found in (_of_methods(list(runs.values())), *_of_seeds(runs))
            if len(found)
        ]
    return pd.concat(parts[1:], ignore_index=True)[COLUMNS] if parts[1:] else parts[0]


def in_order(methods: Iterable[str]) -> list[str]:
    """Names of methods without repetition, in the order in which they are shown."""
    known = list(METHODS)
    return sorted(
        set(methods), key=lambda name: (known.index(name) if name in METHODS else len(known), name)
    )


def _of_methods(runs: Sequence[Sequence[SliceMaps]]) -> pd.DataFrame:
    of_runs = [
        _mean([_agreement(one, _by_method(one)) for one in slices], "slices") for slices in runs
    ]
    return _mean(of_runs, "runs").assign(kind=BETWEEN_METHODS, method="")


def _of_seeds(runs: Mapping[str, Sequence[SliceMaps]]) -> list[pd.DataFrame]:
    rows = []
    for first, second in combinations(runs, 2):
        others = {(one.case, one.slice_index): _by_method(one) for one in runs[second]}
        by_method: dict[str, list[pd.DataFrame]] = {}
        for one in runs[first]:
            other = others.get((one.case, one.slice_index), {})
            for method, values in _by_method(one).items():
                if method in other:
                    pair = {first: values, second: other[method]}
                    by_method.setdefault(method, []).append(_agreement(one, pair))
        rows += [
            _mean(by_method[method], "slices").assign(kind=BETWEEN_SEEDS, method=method, runs=2)
            for method in in_order(by_method)
        ]
    return rows


def _agreement(shown: SliceMaps, maps: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Of all pairs of maps of one slice: ``first, second, spearman, overlap, slices, chance``."""
    valid = torch.from_numpy(shown.valid)[None, None]
    pixels = int(valid.sum())
    count = min(TOP_PIXELS, pixels)
    batches = {name: torch.from_numpy(values)[None] for name, values in maps.items()}
    found = agreement_table(batches, count=count, counted=valid)
    return found.assign(chance=count / pixels)


def _mean(found: Sequence[pd.DataFrame], counted: str) -> pd.DataFrame:
    """Means by pair of maps, and in the column ``counted`` how many of the tables told.

    No row where there are no pairs.
    """
    filled = [table for table in found if len(table)]
    if not filled:
        return pd.DataFrame()
    every = pd.concat(filled, ignore_index=True)
    groups = every.groupby(_PAIR, sort=False)
    means = groups[_NUMBERS].mean()
    means[counted] = groups["spearman"].count()
    if counted != "slices":
        means["slices"] = groups["slices"].sum()
    return means.reset_index()


def _by_method(one: SliceMaps) -> dict[str, np.ndarray]:
    named = dict(zip((str(name) for name in one.methods), one.maps, strict=True))
    return {name: named[name] for name in in_order(named)}
