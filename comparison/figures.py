"""The figures of a comparison: curves with a line a loss, pictures with a row a loss."""

from collections.abc import Mapping, Sequence

import pandas as pd

from comparison.selection import Selection
from pictures.curves import Curve, axis_words, curves_figure
from pictures.margins import margins_figure
from pictures.masks import masks_figure
from pictures.panels import Row
from pictures.saliency import saliency_figure
from pictures.shrinking import shrinking_figure
from pictures.style import order_losses, to_png_bytes
from robustness.counts import CLEAN
from tracking.reading import fetch_snapshots

CONTROL = "_control"
_TITLES = {
    "top5_in_range": "Figure 2: the 5 top pixels at levels inside the range",
    "top5_beyond_range": "Figure 3: the 5 top pixels at levels beyond the range",
    "topn_at_max": "Figure 5: the N top pixels at the maximum",
    "topn_random": "Figure 6: the N top pixels at random values",
}


def attack_names(curves: Mapping[str, pd.DataFrame]) -> list[str]:
    """The attacks of a comparison in the order of their table; controls go with their attack."""
    first = next(iter(curves.values()))
    names = [str(name) for name in first["attack"].unique() if name != CLEAN]
    return [
        name
        for name in names
        if not (name.endswith(CONTROL) and name.removesuffix(CONTROL) in names)
    ]


def attack_title(attack: str) -> str:
    """What an attack does, with the number of the paper's figure where it has one."""
    return _TITLES.get(attack, attack)


def attack_figure(curves: Mapping[str, pd.DataFrame], attack: str) -> bytes:
    """PNG of Dice against an attack, one line a loss with its band over cases, the control dashed.

    Args:
        curves: Curves of each loss.
        attack: Name of the attack.
    """
    drawn = []
    for loss, found in curves.items():
        curve = found[found["attack"] == attack]
        control = found[found["attack"] == attack + CONTROL]
        drawn.append(
            Curve(
                label=loss,
                points=curve["point"].to_numpy(),
                dice=curve["dice"].to_numpy(),
                low=curve["low"].to_numpy(),
                high=curve["high"].to_numpy(),
                clean=float(found.loc[found["attack"] == CLEAN, "dice"].iloc[0]),
                control=control["dice"].to_numpy() if len(control) == len(curve) else None,
            )
        )
    first = next(iter(curves.values()))
    figure = curves_figure(
        drawn,
        title=attack_title(attack),
        axis_label=axis_words(str(first.loc[first["attack"] == attack, "axis"].iloc[0])),
        volumes=int(first["cases"].iloc[0]),
        band="95 % over cases",
    )
    return to_png_bytes(figure)


def picture_rows(selection: Selection) -> dict[str, list[Row]]:
    """The raw maps of each picture case, one row a loss.

    Args:
        selection: The runs; of several seeds the first one is shown.

    Returns:
        Rows by case, for the cases that all losses have.
    """
    groups = selection.by_loss()
    by_case: dict[str, list[Row]] = {}
    for loss in order_losses(groups):
        for snapshot in fetch_snapshots(groups[loss][0].run, selection.split):
            by_case.setdefault(snapshot.case, []).append((loss, snapshot))
    return {case: rows for case, rows in sorted(by_case.items()) if len(rows) == len(groups)}


def case_figures(rows: Sequence[Row]) -> dict[str, bytes]:
    """PNGs of the pictures of one case, all losses on one scale.

    Args:
        rows: A loss and its raw maps for each row.

    Returns:
        PNGs by name: the paper's figures 1, 4 and 7, and the margins.
    """
    figures = {
        "figure1_saliency": saliency_figure(rows, shared_scale=True),
        "figure4_shrinking": shrinking_figure(rows),
        "figure7_masks": masks_figure(rows),
        "margins": margins_figure(rows),
    }
    return {name: to_png_bytes(figure) for name, figure in figures.items()}
