"""Pictures of the maps of all losses on one scale: a grid of methods, and each method at large."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from comparison.agreement import in_order
from comparison.saliency_files import Stored, run_name
from comparison.selection import Selection
from comparison.trust import marks_in_words
from lightning_module.keys import unique_slugs
from pictures.drawing import Undrawn, draw, draw_png, drawn_apart
from pictures.maps import maps_figure, maps_grid
from robustness.pictured import SliceMaps
from robustness.trust_table import UNCHECKED

# Of runs in the picture of one method, lest it be too tall to be looked at as one.
MOST_ROWS = 12

Marks = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class MapRow:
    """The maps of one run of a slice.

    Attributes:
        name: Of the run: ``bce, seed 0``.
        loss: Of its training.
        words: What tells it from the other runs of its loss: its seed.
        maps: The maps.
        marks: What must stand beside a method's map, by its name; only where it must.
    """

    name: str
    loss: str
    words: str
    maps: SliceMaps
    marks: dict[str, str]

    @property
    def label(self) -> str:
        """The name for a picture, where a line does not end between ``seed`` and its number."""
        return re.sub(r" (?=\d)", "\N{NO-BREAK SPACE}", self.name)

    def has(self, method: str) -> bool:
        """Whether the run has a map by a method."""
        return method in self.maps.methods


@dataclass(frozen=True)
class MapCase:
    """The maps of one pictured slice.

    Attributes:
        case: Name of the volume.
        slice_index: Index of the slice in it.
        rows: All runs that have maps of it, by loss and seed.
        missing: Losses without maps of this slice.
    """

    case: str
    slice_index: int
    rows: tuple[MapRow, ...]
    missing: tuple[str, ...]

    @property
    def explained(self) -> str:
        """What the maps explain, in words."""
        return self.rows[0].maps.explained

    @property
    def methods(self) -> list[str]:
        """The methods of any of the runs, in the order in which they are shown."""
        return in_order(str(name) for row in self.rows for name in row.maps.methods)

    @property
    def first_rows(self) -> list[MapRow]:
        """Of each loss the first run: the columns of the grid."""
        first: dict[str, MapRow] = {}
        for row in self.rows:
            first.setdefault(row.loss, row)
        return list(first.values())

    def shown_rows(self, method: str) -> list[MapRow]:
        """The runs that have a map by a method, ``MOST_ROWS`` at most.

        Where there are more, each loss keeps as many of its first ones as any other.
        """
        places: dict[str, int] = {}
        ranked = []
        for index, row in enumerate(row for row in self.rows if row.has(method)):
            places[row.loss] = places.get(row.loss, -1) + 1
            ranked.append((places[row.loss], index, row))
        kept = sorted(ranked, key=lambda one: one[:2])[:MOST_ROWS]
        return [row for *_, row in sorted(kept, key=lambda one: one[1])]

    def hidden(self, method: str) -> int:
        """How many runs have a map by a method that is not shown."""
        return sum(row.has(method) for row in self.rows) - len(self.shown_rows(method))

    def marked(self, method: str) -> str:
        """What is wrong with a method and where: ``bce: fails stable (1 of 2 runs)``."""
        by_loss: dict[str, list[str]] = {}
        for row in self.rows:
            if row.has(method) or method in row.marks:
                by_loss.setdefault(row.loss, []).append(row.marks.get(method, ""))
        found = [
            f"{loss}: {marks_in_words(marks)}" for loss, marks in by_loss.items() if any(marks)
        ]
        return "; ".join(found)


@dataclass(frozen=True)
class CasePictures:
    """The pictures of one slice, by the names of their files without ending.

    Attributes:
        grid: Name and PNG of all methods.
        methods: Name and PNG of each method.
    """

    grid: tuple[str, bytes]
    methods: dict[str, tuple[str, bytes]]

    @property
    def files(self) -> dict[str, bytes]:
        """All of them."""
        return dict([self.grid, *self.methods.values()])


def map_cases(selection: Selection, stored: Stored[list[SliceMaps]], marks: Marks) -> list[MapCase]:
    """The pictured slices by name of the case and index.

    Args:
        selection: The runs.
        stored: Their maps.
        marks: By run and method, from :func:`comparison.trust.run_marks`; a method of a run that
            was not checked is marked so.
    """
    by_slice: dict[tuple[str, int], list[MapRow]] = {}
    for compared, maps in stored.runs:
        name = run_name(selection, compared)
        dropped = stored.methods_left_out.get(name, {})
        checked = marks.get(compared.run.run_id, {})
        of_run = {method: words for method, words in checked.items() if method not in dropped}
        for one in maps:
            row = MapRow(
                name, compared.loss, selection.run_words(compared), one, _words(one, of_run)
            )
            by_slice.setdefault((one.case, one.slice_index), []).append(row)
    losses = list(selection.by_loss())
    return [
        MapCase(
            *at,
            rows=tuple(rows),
            missing=tuple(loss for loss in losses if loss not in {row.loss for row in rows}),
        )
        for at, rows in sorted(by_slice.items())
    ]


def map_pictures(selection: Selection, cases: Sequence[MapCase]) -> list[CasePictures]:
    """The pictures of each slice: a grid of method by loss, and for each method a row a run.

    Args:
        selection: The runs.
        cases: From :func:`map_cases`.
    """
    stems = iter(
        unique_slugs(
            f"maps_{case.case}_slice{case.slice_index}{end}"
            for case in cases
            for end in ("", *(f"_{method}" for method in case.methods))
        )
    )
    counted = [str(name) for name in selection.runs[0].counts.frame["class"].unique()]
    wanted = [(case, method, counted) for case in cases for method in case.methods]
    # As PNG alone: of all figures these take the longest, and none goes into a paper.
    large = iter(drawn_apart(_large, wanted))
    return [
        CasePictures(
            (next(stems), draw(_grid(case, counted))),
            {method: (next(stems), next(large)) for method in case.methods},
        )
        for case in cases
    ]


def _words(one: SliceMaps, checked: Mapping[str, str]) -> dict[str, str]:
    """What stands beside each map of a slice; a method without a map may have been refused."""
    words = {**checked, **{str(name): checked.get(str(name), UNCHECKED) for name in one.methods}}
    return {method: found for method, found in words.items() if found}


def _large(wanted: tuple[MapCase, str, Sequence[str]]) -> bytes:
    """One method on one slice, a row a run."""
    case, method, counted = wanted
    rows = case.shown_rows(method)
    figure = maps_figure(
        [(row.label, row.maps) for row in rows],
        method,
        marks={row.label: row.marks.get(method, "") for row in rows},
        class_names=_classes(case, counted),
    )
    return draw_png(figure)


def _grid(case: MapCase, counted: Sequence[str]) -> Undrawn:
    """All methods on one slice, a row a loss."""
    first = case.first_rows
    return maps_grid(
        [(row.label, row.maps) for row in first],
        marks={(row.label, method): words for row in first for method, words in row.marks.items()},
        class_names=_classes(case, counted),
    )


def _classes(case: MapCase, counted: Sequence[str]) -> Sequence[str]:
    return counted if len(counted) == len(case.rows[0].maps.mask) else []
