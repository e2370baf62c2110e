"""Pictures of the maps of all losses on one scale: a grid of methods, and each method at large."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from comparison.agreement import in_order
from comparison.saliency_files import Stored
from comparison.selection import ComparedRun, Selection
from comparison.trust import UNCHECKED
from lightning_module.keys import unique_slugs
from pictures.maps import maps_figure, maps_grid
from pictures.style import to_png_bytes
from robustness.pictured import SliceMaps

Marks = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class MapCase:
    """The maps of one pictured slice.

    Attributes:
        case: Name of the volume.
        slice_index: Index of the slice in it.
        columns: A loss and its maps, of several seeds the first that holds the slice.
        shown: What tells the shown run of each loss from its others: its seed.
        marks: What must stand beside the map of a loss and method; only where it must.
        missing: Losses without maps of this slice.
    """

    case: str
    slice_index: int
    columns: tuple[tuple[str, SliceMaps], ...]
    shown: dict[str, str]
    marks: dict[tuple[str, str], str]
    missing: tuple[str, ...]

    @property
    def explained(self) -> str:
        """What the maps explain, in words."""
        return self.columns[0][1].explained

    @property
    def methods(self) -> list[str]:
        """The methods of any of the losses, in the order in which they are shown."""
        return in_order(str(name) for _, one in self.columns for name in one.methods)


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
    by_slice: dict[tuple[str, int], dict[str, tuple[ComparedRun, SliceMaps]]] = {}
    for compared, maps in stored.runs:
        for one in maps:
            of_slice = by_slice.setdefault((one.case, one.slice_index), {})
            of_slice.setdefault(compared.loss, (compared, one))
    losses = list(selection.by_loss())
    return [
        MapCase(
            *at,
            columns=tuple((loss, one) for loss, (_, one) in found.items()),
            shown={loss: selection.run_words(compared) for loss, (compared, _) in found.items()},
            marks={
                (loss, method): words
                for loss, (compared, one) in found.items()
                for method, words in _words(one, marks.get(compared.run.run_id, {})).items()
                if words
            },
            missing=tuple(loss for loss in losses if loss not in found),
        )
        for at, found in sorted(by_slice.items())
    ]


def map_pictures(selection: Selection, cases: Sequence[MapCase]) -> list[CasePictures]:
    """The pictures of each slice: a grid of method by loss, and for each method a row a loss.

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
    return [_pictures(case, counted, stems) for case in cases]


def _words(one: SliceMaps, checked: Mapping[str, str]) -> dict[str, str]:
    """What stands beside each map of a slice; a method without a map may have been refused."""
    return {**checked, **{str(name): checked.get(str(name), UNCHECKED) for name in one.methods}}


def _pictures(case: MapCase, counted: Sequence[str], stems: Iterator[str]) -> CasePictures:
    classes = counted if len(counted) == len(case.columns[0][1].mask) else []

    def large(method: str) -> bytes:
        marks = {loss: words for (loss, name), words in case.marks.items() if name == method}
        figure = maps_figure(case.columns, method, marks=marks, class_names=classes)
        return to_png_bytes(figure)

    grid = to_png_bytes(maps_grid(case.columns, marks=case.marks, class_names=classes))
    return CasePictures(
        (next(stems), grid), {method: (next(stems), large(method)) for method in case.methods}
    )
