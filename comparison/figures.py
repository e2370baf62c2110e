"""The figures of a comparison: curves with a line a loss, pictures with a row a loss."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd

from comparison.selection import Selection
from comparison.table import CONTROL
from pictures.curves import Curve, axis_words, curves_figure
from pictures.drawing import Undrawn, draw, drawing_aside
from pictures.margins import margins_figure
from pictures.masks import masks_figure
from pictures.panels import Row
from pictures.saliency import saliency_figure
from pictures.shrinking import shrinking_figure
from pictures.style import loss_styles
from robustness.counts import CLEAN
from robustness.curves import THRESHOLD
from tracking.reading import fetch_snapshots

BAND = "95 % over volumes"
BARS = "95 % over seeds"

_TITLES = {
    "top5_in_range": "Figure 2: the 5 top pixels at levels inside the range",
    "top5_beyond_range": "Figure 3: the 5 top pixels at levels beyond the range",
    "topn_at_max": "Figure 5: the N top pixels at the maximum",
    "topn_random": "Figure 6: the N top pixels at random values",
}


@dataclass(frozen=True)
class PictureCase:
    """The slice of a case that is pictured.

    Attributes:
        case: Name of the volume.
        slice_index: Index of the slice in it.
        rows: A loss and its raw maps for each row.
        missing: Losses without raw maps of this slice.
    """

    case: str
    slice_index: int
    rows: tuple[Row, ...]
    missing: tuple[str, ...]


def attack_names(curves: Mapping[str, pd.DataFrame]) -> list[str]:
    """The attacks of a comparison, the paper's first; controls go with their attack.

    Attacks that go as far as a threshold asks have no curve, and are left out.

    Args:
        curves: Curves of each loss.
    """
    first = next(iter(curves.values()))
    budgeted = first.loc[first["axis"] != THRESHOLD, "attack"]
    names = [str(name) for name in budgeted.unique() if name != CLEAN]
    shown = [
        name
        for name in names
        if not (name.endswith(CONTROL) and name.removesuffix(CONTROL) in names)
    ]
    paper = [name for name in _TITLES if name in shown]
    return paper + [name for name in shown if name not in paper]


def attack_title(attack: str) -> str:
    """What an attack does, with the number of the paper's figure where it has one."""
    return f"{_TITLES[attack]} ({attack})" if attack in _TITLES else attack


def file_stem(attack: str) -> str:
    """The name of an attack's figure among the files, such as ``figure2_top5_in_range``."""
    if attack not in _TITLES:
        return f"curve_{attack}"
    return f"{_TITLES[attack].partition(':')[0].replace(' ', '').lower()}_{attack}"


def axis_label(selection: Selection, curve: pd.DataFrame) -> str:
    """What the points of a curve are, with the brightest intensity where all runs agree on it."""
    brightest = {compared.run.params.get("max_pixel") for compared in selection.runs}
    try:
        max_pixel = float(brightest.pop() or "") if len(brightest) == 1 else None
    except ValueError:
        max_pixel = None
    axis = str(curve["axis"].iloc[0])
    if axis == "epsilon" and max_pixel:
        longest = float(curve["point"].iloc[-1])
        share = f"{longest:.3g} is {100 * longest / max_pixel:.3g} % of the range"
        return axis_words(axis).replace("image units", f"image units; {share}")
    return axis_words(axis, max_pixel)


def point_words(axis: str, point: float) -> str:
    """A point of an attack with its unit: ``epsilon 0.02 (image units)``, ``5 pixels a slice``."""
    if axis == "pixels":
        return f"{point:g} pixels a slice"
    return f"{axis} {point:.3g}" + (" (image units)" if axis in {"epsilon", "level"} else "")


def attack_curves(curves: Mapping[str, pd.DataFrame], attack: str) -> list[Curve]:
    """What the figure of an attack shows of each loss.

    Args:
        curves: Curves of each loss.
        attack: Name of the attack.

    Returns:
        One curve a loss: bands over cases, error bars over seeds where there are several, and the
        control where it was measured at the same points.
    """
    return [_curve(loss, found, attack) for loss, found in curves.items()]


def attack_figure(
    selection: Selection, curves: Mapping[str, pd.DataFrame], attack: str, title: str = ""
) -> bytes:
    """PNG of Dice against an attack: a line and a band a loss, the control dashed.

    Args:
        selection: The runs.
        curves: Curves of each loss.
        attack: Name of the attack.
        title: What is shown; what the attack does where empty.
    """
    first = next(iter(curves.values()))
    seeds = max(int(found["seeds"].iloc[0]) for found in curves.values())
    figure = curves_figure(
        attack_curves(curves, attack),
        title=title or attack_title(attack),
        axis_label=axis_label(selection, first[first["attack"] == attack]),
        volumes=int(first["cases"].iloc[0]),
        band=BAND,
        bars=BARS if seeds > 1 else None,
    )
    return draw(figure)


def picture_cases(selection: Selection) -> list[PictureCase]:
    """The raw maps of each pictured slice, one row a loss, by name of the case.

    Args:
        selection: The runs; of several seeds the first one is shown.

    Returns:
        Every slice that one loss or more have; what is missing is named.
    """
    groups = selection.by_loss()
    by_slice: dict[tuple[str, int], list[Row]] = {}
    for loss, runs in groups.items():
        for snapshot in fetch_snapshots(runs[0].run, selection.split):
            by_slice.setdefault((snapshot.case, snapshot.slice_index), []).append((loss, snapshot))
    cases = []
    for (case, slice_index), rows in sorted(by_slice.items()):
        missing = tuple(sorted(set(groups) - {loss for loss, _ in rows}))
        cases.append(PictureCase(case, slice_index, tuple(rows), missing))
    return cases


@contextmanager
def drawn_cases(
    selection: Selection,
) -> Iterator[Callable[[], list[tuple[PictureCase, dict[str, bytes]]]]]:
    """Draw the pictures of all cases while other work is done.

    Args:
        selection: The runs.

    Yields:
        A function that waits for them: the pictured slices, each with its PNGs by name.
    """
    cases = picture_cases(selection)
    figures = [case_figures(selection, case.rows) for case in cases]
    with drawing_aside([figure for of_case in figures for figure in of_case.values()]) as drawings:

        def wait() -> list[tuple[PictureCase, dict[str, bytes]]]:
            found = iter(drawings())
            return [
                (case, {name: next(found) for name in of_case})
                for case, of_case in zip(cases, figures, strict=True)
            ]

        yield wait


def case_figures(selection: Selection, rows: Sequence[Row]) -> dict[str, Undrawn]:
    """The pictures of one slice, all losses on one scale.

    Args:
        selection: The runs.
        rows: A loss and its raw maps for each row.

    Returns:
        Figures by name: the paper's figures 1, 4 (one an attack, where the runs picture several)
        and 7, and the margins.
    """
    counted = list(selection.runs[0].counts.frame["class"].unique())
    classes = counted if len(counted) == rows[0][1].mask.shape[0] else []
    by_attack: dict[str, list[Row]] = {}
    for loss, snapshot in rows:
        by_attack.setdefault(snapshot.attack, []).append((loss, snapshot))
    return {
        "figure1_saliency": saliency_figure(rows, shared_scale=True, class_names=classes),
        **{
            "figure4_shrinking" + (f"_{attack}" if len(by_attack) > 1 else ""): shrinking_figure(
                shown, class_names=classes
            )
            for attack, shown in by_attack.items()
        },
        "figure7_masks": masks_figure(rows, class_names=classes),
        "margins": margins_figure(rows, styles=loss_styles(selection.by_loss())),
    }


def _curve(loss: str, found: pd.DataFrame, attack: str) -> Curve:
    curve = found[found["attack"] == attack]
    control = found[found["attack"] == attack + CONTROL]
    repeated = int(found["seeds"].iloc[0]) > 1
    return Curve(
        label=loss,
        points=curve["point"].to_numpy(),
        dice=curve["dice"].to_numpy(),
        low=curve["low"].to_numpy(),
        high=curve["high"].to_numpy(),
        bar_low=curve["seed_low"].to_numpy() if repeated else None,
        bar_high=curve["seed_high"].to_numpy() if repeated else None,
        clean=float(found.loc[found["attack"] == CLEAN, "dice"].iloc[0]),
        control=control["dice"].to_numpy()
        if control["point"].tolist() == curve["point"].tolist()
        else None,
    )
