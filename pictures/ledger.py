"""Where the loss of a split comes from: heat maps of epoch by class, all terms and each of them."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lightning_module.ledger_history import LossHistory
from pictures.style import figure_style

SHARE_MAP = "viridis"
UNDEFINED_COLOR = "#D9DCE0"

_COLUMNS = 4
_TITLE = 26  # characters that fit over a panel
_PANEL_WIDTH, _CLASS_HEIGHT, _LEAST_HEIGHT = 2.3, 0.3, 0.75  # inches


def ledger_figure(history: LossHistory, *, title: str, limit: float | None = None) -> Figure:
    """A panel for all terms together, where there are classes, and one for each of several terms.

    The colour is the share of the loss of its epoch. Epochs in which no share is defined are grey;
    a line crosses the epochs in which a class's share and its Dice part ways.

    Args:
        history: What the loss was made of.
        title: What it is the loss of.
        limit: End of the scale, a share, to match other figures; chosen from the shares where None.

    Returns:
        A figure of panels that share a scale and its colour bar.
    """
    limit = share_limit([history]) if limit is None else limit
    shares = history.shares()
    by_term = {name: shares[:, index] for index, name in enumerate(history.term_names)}
    maps = by_term if len(by_term) > 1 else {}
    if len(history.class_names) > 1 or not maps:
        maps = {"all terms": shares.sum(1), **maps}
    columns = min(len(maps), _COLUMNS)
    rows = math.ceil(len(maps) / columns)
    height = max(_LEAST_HEIGHT, _CLASS_HEIGHT * len(history.class_names))
    names_width = 0.075 * max(len(name) for name in history.class_names)
    width = max(columns * _PANEL_WIDTH + names_width + 1.1, 0.1 * len(title) + 0.2)
    with figure_style():
        figure = Figure(figsize=(width, rows * (height + 0.5) + 0.8), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, (name, values) in zip(panels.flat, maps.items(), strict=False):
            image = _show(axes, values, limit)
            axes.set_title(name if len(name) <= _TITLE else name.replace(".", ".\n", 1))
        for axes in panels.flat[len(maps) :]:
            axes.remove()
        _label(panels, history, len(maps))
        _add_bar(figure, panels, image, history)
        if _mark(panels[0, 0], history):
            key = _line([], [], label="share of the loss and Dice part ways")
            figure.legend(handles=[key], loc="outside lower center", frameon=False)
        figure.suptitle(title)
    return figure


def share_limit(histories: Sequence[LossHistory]) -> float:
    """End of a scale that holds the shares of classes of all histories, in steps of 5 %.

    Args:
        histories: Those that are drawn on one scale.

    Returns:
        A share from 0.05 to 1; 1 where no share is defined.
    """
    shares = np.concatenate([history.class_shares().ravel() for history in histories])
    shares = shares[~np.isnan(shares)]
    if not len(shares):
        return 1.0
    # Less a rounding error: a share of 0.2 ends the scale at 0.2.
    return min(1.0, max(0.05, math.ceil(float(shares.max()) * 20 - 1e-6) / 20))


def _show(axes: Axes, values: np.ndarray, limit: float) -> AxesImage:
    """Draw shares of shape ``(E, K)`` in percent, epochs to the right."""
    axes.set_facecolor(UNDEFINED_COLOR)
    return axes.imshow(100 * values.T, cmap=SHARE_MAP, vmin=0, vmax=100 * limit, aspect="auto")


def _label(panels: np.ndarray, history: LossHistory, count: int) -> None:
    """Name the classes on the left, and the epochs under the lowest panel of each column."""
    epochs = history.epochs
    columns = panels.shape[1]
    for axes in panels[:, 0]:
        axes.set_yticks(range(len(history.class_names)), history.class_names)
    for index in range(count):
        axes = panels[index // columns, index % columns]
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.xaxis.set_major_formatter(
            FuncFormatter(
                lambda at, _: f"{epochs[round(at)]}" if 0 <= round(at) < len(epochs) else ""
            )
        )
        is_lowest = index + columns >= count
        axes.tick_params(labelbottom=is_lowest, left=index % columns == 0)
        if is_lowest:
            axes.set_xlabel("epoch")


def _add_bar(figure: Figure, panels: np.ndarray, image: AxesImage, history: LossHistory) -> None:
    rows, columns = panels.shape
    shown = [axes for axes in panels.flat if axes.figure is not None]
    bar = figure.colorbar(
        image, ax=shown, fraction=0.06 / columns, pad=0.03 / columns, aspect=12 * rows
    )
    classes = len(history.class_names)
    even = f"\n(an even share: {100 / classes:.3g})" if classes > 1 else ""
    bar.set_label(f"share of the loss in %{even}", fontsize=8)


def _mark(axes: Axes, history: LossHistory) -> bool:
    """Draw a line over the classes and epochs that part ways; False where there are none."""
    parted = np.zeros((len(history.class_names), len(history.epochs) + 2), bool)
    for epoch in range(len(history.epochs)):
        for parting in history.partings(epoch):
            parted[history.class_names.index(parting.name), epoch + 1] = True
    for row, name in enumerate(parted):
        edges = np.flatnonzero(name[1:] != name[:-1])
        for begin, end in edges.reshape(-1, 2):
            axes.add_line(_line([begin - 0.5, end - 0.5], [row, row]))
    return bool(parted.any())


def _line(epochs: list[float], classes: list[int], label: str = "") -> Line2D:
    """A white line with a dark edge, seen on every colour of the map."""
    return Line2D(
        epochs,
        classes,
        color="white",
        linewidth=2,
        solid_capstyle="butt",
        path_effects=[withStroke(linewidth=4, foreground="black")],
        label=label,
    )
