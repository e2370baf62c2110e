"""What runs have stored of their saliency, and which of it can stand side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pandas as pd

from comparison.selection import ComparedRun, Selection
from robustness.pictured import SliceMaps
from robustness.spread_table import SpreadFile
from tracking.reading import StoredRun, fetch_maps, fetch_spread, fetch_trust

# A run's own facts. All others say on what and how its spread was measured, and are compared.
_OF_RUN = {"checkpoint_sha256", "temperature"}
_OF_COUNTS = ("checkpoint_sha256", "data", "split")
_WORDS = {
    "checkpoint_sha256": "weights",
    "split": "cases of the split",
    "methods": "methods or settings",
}

_T = TypeVar("_T")


@dataclass(frozen=True)
class Stored(Generic[_T]):
    """One kind of file of all runs.

    Attributes:
        runs: Each run that can be put together with the others, and what it has stored, by loss
            and seed.
        without: Runs that have stored none, such as ``bce, seed 0``.
        left_out: Runs that were measured otherwise, by their words, with the reason.
    """

    runs: tuple[tuple[ComparedRun, _T], ...]
    without: tuple[str, ...]
    left_out: dict[str, str]


def run_name(selection: Selection, compared: ComparedRun) -> str:
    """What a run is called in notes: ``bce, seed 0``."""
    return f"{compared.loss}, {selection.run_words(compared)}"


def stored_spreads(selection: Selection) -> Stored[SpreadFile]:
    """The tables of spread that were measured on the same data in the same way.

    A table has to be of the weights, data and cases that its run's counts are of; in all else that
    its metadata say, but for the temperature, it has to agree with that of the newest run.

    Args:
        selection: The runs.

    Raises:
        InputError: If a stored table cannot be read.
    """
    return _stored(
        selection,
        lambda run: fetch_spread(run, selection.split),
        own=_unlike_counts,
        other=_other_spread,
    )


def stored_maps(selection: Selection) -> Stored[list[SliceMaps]]:
    """The maps that explain the same of the same slices.

    Args:
        selection: The runs.

    Raises:
        InputError: If stored maps cannot be read.
    """

    def fetch(run: StoredRun) -> list[SliceMaps] | None:
        return [one for one in fetch_maps(run, selection.split) if len(one.methods)] or None

    return _stored(selection, fetch, other=_other_maps)


def stored_trust(selection: Selection) -> Stored[pd.DataFrame]:
    """The verdicts on the methods of all runs.

    Args:
        selection: The runs.

    Raises:
        InputError: If a stored table cannot be read.
    """
    return _stored(selection, lambda run: fetch_trust(run, selection.split))


def _stored(
    selection: Selection,
    fetch: Callable[[StoredRun], _T | None],
    *,
    own: Callable[[_T, ComparedRun], str] = lambda _file, _compared: "",
    other: Callable[[_T, _T], str] = lambda _file, _newest: "",
) -> Stored[_T]:
    """The files of all runs, but those that do not fit their run or differ from the newest's."""
    found: list[tuple[ComparedRun, _T]] = []
    without, left_out = [], {}
    for compared in (run for runs in selection.by_loss().values() for run in runs):
        file = fetch(compared.run)
        if file is None:
            without.append(run_name(selection, compared))
        elif reason := own(file, compared):
            left_out[run_name(selection, compared)] = reason
        else:
            found.append((compared, file))
    alike = []
    if found:
        newest, reference = max(found, key=lambda pair: pair[0].run.start_time)
        for compared, file in found:
            if reason := other(file, reference):
                of_newest = f"{reason} than those of {run_name(selection, newest)}, the newest"
                left_out[run_name(selection, compared)] = of_newest
            else:
                alike.append((compared, file))
    return Stored(tuple(alike), tuple(without), left_out)


def _unlike_counts(found: SpreadFile, compared: ComparedRun) -> str:
    counted = compared.counts.metadata
    keys = [key for key in _OF_COUNTS if found.metadata.get(key) != counted.get(key)]
    return f"its spread was measured with other {_in_words(keys)} than its attacks" if keys else ""


def _other_spread(found: SpreadFile, newest: SpreadFile) -> str:
    mine, others = found.metadata, newest.metadata
    keys = [key for key in sorted({*mine, *others} - _OF_RUN) if mine.get(key) != others.get(key)]
    return f"its gradients were measured with other {_in_words(keys)}" if keys else ""


def _other_maps(found: list[SliceMaps], newest: list[SliceMaps]) -> str:
    explained = {one.explained for one in newest}
    if other := sorted({one.explained for one in found} - explained):
        return f"its maps explain something else ({', '.join(other)})"
    units = _units(newest)
    if any(units.get(method, unit) != unit for method, unit in _units(found).items()):
        return "its maps have other units"
    shown = {(one.case, one.slice_index): one for one in newest}
    for one in found:
        like = shown.get((one.case, one.slice_index))
        if like is not None and not _same_slice(one, like):
            return f"its maps are of other images or truths (slice {one.slice_index} of {one.case})"
    return ""


def _units(slices: Sequence[SliceMaps]) -> dict[str, str]:
    return {
        str(method): str(unit)
        for one in slices
        for method, unit in zip(one.methods, one.units, strict=True)
    }


def _in_words(keys: Sequence[str]) -> str:
    return " and ".join(_WORDS.get(key, key.replace("_", " ")) for key in keys)


def _same_slice(one: SliceMaps, other: SliceMaps) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("image", "mask", "valid")
    )
