"""What runs have stored of their saliency, and which of it can stand side by side."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from comparison.saliency_settings import Settings, differing, map_settings, spread_settings
from comparison.selection import ComparedRun, Selection
from robustness.pictured import SliceMaps
from robustness.spread_table import SpreadFile
from tracking.reading import (
    StoredRun,
    fetch_maps,
    fetch_spread,
    fetch_trust,
    fetch_trust_curves,
)

# A run's own facts, and what is compared method by method. All others say on what and how the
# spread of a run was measured, and are compared.
_NOT_COMPARED = {"checkpoint_sha256", "temperature", "methods"}
_OF_COUNTS = ("checkpoint_sha256", "data", "split")
_WORDS = {"checkpoint_sha256": "weights", "split": "cases of the split"}
_PER_METHOD = ("methods", "units", "signed", "settings", "maps")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Stored(Generic[_T]):
    """One kind of file of all runs.

    Attributes:
        runs: Each run that can be put together with the others, and what it has stored, by loss
            and seed.
        without: Runs that have stored none, such as ``bce, seed 0``.
        left_out: Runs that were measured otherwise, by their words, with the reason.
        methods_left_out: By run and method why a method alone is left out of what a run has stored;
            runs of which nothing is left stand in ``left_out`` too.
    """

    runs: tuple[tuple[ComparedRun, _T], ...]
    without: tuple[str, ...]
    left_out: dict[str, str]
    methods_left_out: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def notes(self) -> dict[str, str]:
        """All that is left out, by run, with the reason."""
        partly = {
            name: "; ".join(f"{method} {reason}" for method, reason in reasons.items())
            for name, reasons in self.methods_left_out.items()
        }
        return partly | self.left_out


def run_name(selection: Selection, compared: ComparedRun) -> str:
    """What a run is called in notes: ``bce, seed 0``."""
    return f"{compared.loss}, {selection.run_words(compared)}"


def stored_spreads(selection: Selection) -> Stored[SpreadFile]:
    """The tables of spread that were measured on the same data in the same way.

    A table has to be of the weights, data and cases that its run's counts are of; in all else that
    its metadata say, but for the temperature, it has to agree with that of the newest run. A method
    is compared with the newest run that has it: where its settings differ, it alone is left out.

    Args:
        selection: The runs.

    Raises:
        InputError: If a stored table cannot be read.
    """
    stored = _stored(
        selection,
        lambda run: fetch_spread(run, selection.split),
        own=_unlike_counts,
        other=_other_spread,
    )
    return _like_methods(selection, stored, spread_settings, _spread_of)


def stored_maps(selection: Selection) -> Stored[list[SliceMaps]]:
    """The maps of a run's own weights that explain the same of the same slices.

    A method is compared with the newest run that has it: where its settings, its seed or its unit
    differ, it alone is left out.

    Args:
        selection: The runs.

    Raises:
        InputError: If stored maps cannot be read.
    """

    def fetch(run: StoredRun) -> list[SliceMaps] | None:
        return [one for one in fetch_maps(run, selection.split) if len(one.methods)] or None

    stored = _stored(selection, fetch, own=_maps_of_others, other=_other_maps)
    return _like_methods(selection, stored, map_settings, _maps_of)


def stored_trust(
    selection: Selection, maps: Stored[list[SliceMaps]] | None = None
) -> Stored[pd.DataFrame]:
    """The verdicts on the methods of each run, of its own weights.

    Args:
        selection: The runs.
        maps: What is shown. Verdicts on maps that explain something else are left out, and those on
            methods whose maps are. Without maps, verdicts have to agree with the newest run's.

    Raises:
        InputError: If a stored table cannot be read.
    """
    shown = {one.explained for _, slices in maps.runs for one in slices} if maps else set()

    def fetch(run: StoredRun) -> pd.DataFrame | None:
        found = fetch_trust(run, selection.split)
        return None if found is None or found.empty else found

    def own(found: pd.DataFrame, compared: ComparedRun) -> str:
        if set(found["checkpoint_sha256"]) != {_weights(compared)}:
            return "its verdicts are on maps of other weights than its attacks"
        other = sorted(set(found["explained"]) - shown) if shown else []
        return f"its verdicts are on maps of something else ({', '.join(other)})" if other else ""

    def unlike(found: pd.DataFrame, newest: pd.DataFrame) -> str:
        other = sorted(set(found["explained"]) - set(newest["explained"]))
        return f"its verdicts are on maps of something else ({', '.join(other)})" if other else ""

    stored = _stored(selection, fetch, own=own, other=unlike)
    return _without(selection, stored, maps.methods_left_out if maps else {})


def stored_curves(
    selection: Selection, trust: Stored[pd.DataFrame]
) -> tuple[tuple[ComparedRun, pd.DataFrame], ...]:
    """What the verdicts rest on, of the runs and methods whose verdicts are shown.

    Args:
        selection: The runs.
        trust: Their verdicts, which are of one call with the curves.

    Raises:
        InputError: If a stored table cannot be read.
    """
    found = []
    for compared, verdicts in trust.runs:
        curves = fetch_trust_curves(compared.run, selection.split)
        if curves is not None:
            curves = curves[curves["method"].isin(verdicts["method"])]
            if len(curves):
                found.append((compared, curves.reset_index(drop=True)))
    return tuple(found)


def _stored(
    selection: Selection,
    fetch: Callable[[StoredRun], _T | None],
    *,
    own: Callable[[_T, ComparedRun], str],
    other: Callable[[_T, _T], str],
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


def _like_methods(
    selection: Selection,
    stored: Stored[_T],
    settings: Callable[[_T], Mapping[str, Settings]],
    keep: Callable[[_T, Collection[str]], _T],
) -> Stored[_T]:
    """Leave methods out that are set otherwise than by the newest run that has them."""
    newest_first = sorted(stored.runs, key=lambda pair: pair[0].run.start_time, reverse=True)
    asked: dict[str, tuple[str, Settings]] = {}
    for compared, file in newest_first:
        for method, found in settings(file).items():
            asked.setdefault(method, (run_name(selection, compared), found))
    kept: list[tuple[ComparedRun, _T]] = []
    left_out, methods_left_out = dict(stored.left_out), {}
    for compared, file in stored.runs:
        mine = settings(file)
        reasons = {
            method: words
            for method, found in mine.items()
            if (words := differing(found, asked[method][1], asked[method][0]))
        }
        name = run_name(selection, compared)
        if reasons:
            methods_left_out[name] = reasons
        if not reasons or len(reasons) < len(mine):
            kept.append((compared, keep(file, set(mine) - set(reasons)) if reasons else file))
        else:
            left_out[name] = "; ".join(f"{one} {reason}" for one, reason in reasons.items())
    return Stored(tuple(kept), stored.without, left_out, methods_left_out)


def _without(
    selection: Selection, stored: Stored[pd.DataFrame], dropped: Mapping[str, Mapping[str, str]]
) -> Stored[pd.DataFrame]:
    """Leave verdicts out on methods whose maps are left out of the same run."""
    kept: list[tuple[ComparedRun, pd.DataFrame]] = []
    methods_left_out = {}
    for compared, found in stored.runs:
        of_run = dropped.get(run_name(selection, compared), {})
        reasons = {name: why for name, why in of_run.items() if name in set(found["method"])}
        if reasons:
            methods_left_out[run_name(selection, compared)] = reasons
        rest = found[~found["method"].isin(list(reasons))].reset_index(drop=True)
        if len(rest):
            kept.append((compared, rest))
    return Stored(tuple(kept), stored.without, stored.left_out, methods_left_out)


def _weights(compared: ComparedRun) -> str:
    return compared.counts.metadata.get("checkpoint_sha256", "")


def _unlike_counts(found: SpreadFile, compared: ComparedRun) -> str:
    counted = compared.counts.metadata
    keys = [key for key in _OF_COUNTS if found.metadata.get(key) != counted.get(key)]
    return f"its spread was measured with other {_in_words(keys)} than its attacks" if keys else ""


def _other_spread(found: SpreadFile, newest: SpreadFile) -> str:
    mine, others = found.metadata, newest.metadata
    compared = sorted({*mine, *others} - _NOT_COMPARED)
    keys = [key for key in compared if mine.get(key) != others.get(key)]
    return f"its gradients were measured with other {_in_words(keys)}" if keys else ""


def _spread_of(found: SpreadFile, methods: Collection[str]) -> SpreadFile:
    rows = found.frame[found.frame["method"].isin(list(methods))]
    return SpreadFile(rows.reset_index(drop=True), found.metadata)


def _maps_of_others(found: list[SliceMaps], compared: ComparedRun) -> str:
    if {one.checkpoint_sha256 for one in found} != {_weights(compared)}:
        return "its maps are of other weights than its attacks"
    return ""


def _other_maps(found: list[SliceMaps], newest: list[SliceMaps]) -> str:
    explained = {one.explained for one in newest}
    if other := sorted({one.explained for one in found} - explained):
        return f"its maps explain something else ({', '.join(other)})"
    shown = {(one.case, one.slice_index): one for one in newest}
    for one in found:
        like = shown.get((one.case, one.slice_index))
        if like is not None and not _same_slice(one, like):
            return f"its maps are of other images or truths (slice {one.slice_index} of {one.case})"
    return ""


def _maps_of(found: list[SliceMaps], methods: Collection[str]) -> list[SliceMaps]:
    kept = []
    for one in found:
        where = np.isin(one.methods, list(methods))
        fields: dict[str, Any] = {name: getattr(one, name)[where] for name in _PER_METHOD}
        if where.any():
            kept.append(SliceMaps(**{**vars(one), **fields}))
    return kept


def _in_words(keys: Sequence[str]) -> str:
    return " and ".join(_WORDS.get(key, key.replace("_", " ")) for key in keys)


def _same_slice(one: SliceMaps, other: SliceMaps) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("image", "mask", "valid")
    )
