"""What is written in pictures of maps stays inside, and apart."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from pictures.maps import maps_figure, maps_grid
from pictures.style import PNG_DPI, to_png_bytes
from robustness.pictured import SliceMaps
from tests.pictures.map_figures import (
    FAILS,
    LONG,
    PER_INTENSITY,
    is_bar,
    scaled,
)
from tests.pictures.slices import HEIGHT, WIDTH
from tests.robustness.maps import WORDS, made_maps


def narrowed(maps: SliceMaps, height: int, width: int) -> SliceMaps:
    rows, columns = np.mgrid[: maps.valid.shape[0], : maps.valid.shape[1]]
    return replace(maps, valid=(rows < height) & (columns < width))


SHAPES = [(HEIGHT, WIDTH), (28, 12), (10, 30)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 4])
def test_words_of_a_method_stay_apart_and_inside(shape: tuple[int, int], count: int) -> None:
    labels = [LONG, "bce", "focal(gamma=3)", LONG + " again"][:count]
    rows = [
        (label, narrowed(scaled(made_maps(seed, classes=2, channels=4), 1e-7), *shape))
        for seed, label in enumerate(labels)
    ]
    marks = dict.fromkeys(labels, FAILS)
    names = ["anterior part of the hippocampus", "posterior part of the hippocampus"]
    check_words(maps_figure(rows, "gradient", marks=marks, class_names=names), [*labels])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 4])
def test_words_of_a_grid_stay_apart_and_inside(shape: tuple[int, int], count: int) -> None:
    labels = [LONG, "bce", "focal(gamma=3)", LONG + " again"][:count]
    methods = ("gradient", "integrated_gradients", "grad_cam", "guided_backprop")
    columns = []
    for seed, label in enumerate(labels):
        maps = narrowed(made_maps(seed, methods=methods, classes=2, channels=4), *shape)
        units = np.array([f"{WORDS} x {PER_INTENSITY}"] * len(methods))
        columns.append((label, replace(maps, units=units, maps=np.float32(1e-7) * maps.maps)))
    marks = {(label, method): FAILS for label in labels for method in methods[1:3]}
    names = ["anterior part of the hippocampus", "posterior part of the hippocampus"]
    check_words(maps_grid(columns, marks=marks, class_names=names), [*labels, *methods])


def check_words(figure: Figure, names: Sequence[str]) -> None:
    """All that is written is inside of the picture, and on no panel and no other words."""
    figure.set_dpi(PNG_DPI)  # letters are not as wide at another resolution
    to_png_bytes(figure)
    texts = [text for text in figure.texts if text.get_text()]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        if is_bar(axes):
            ends = axes.get_ylim()
            texts += [
                tick.label2
                for tick in axes.yaxis.get_major_ticks()
                if ends[0] <= tick.get_loc() <= ends[1]
            ]
            texts.append(axes.yaxis.get_offset_text())
    boxes = {
        f"{number} {text.get_text()!r}": text.get_window_extent()
        for number, text in enumerate(texts)
        if text.get_text()
    }
    assert {*map("".join, map(str.split, names))} <= {
        "".join(text.get_text().split()) for text in texts
    }
    page = figure.bbox
    for name, box in boxes.items():
        assert page.x0 <= box.x0 < box.x1 <= page.x1, name
        assert page.y0 <= box.y0 < box.y1 <= page.y1, name
    for axes in figure.axes:
        panel = axes.get_window_extent()
        assert min(panel.width, panel.height) > (5 if is_bar(axes) else 60)
        for name, box in boxes.items():
            assert not overlap(panel, box), f"{name} on a panel"
    for (one, first), (other, second) in combinations(boxes.items(), 2):
        assert not overlap(first, second), f"{one} on {other}"


def overlap(first: Bbox, second: Bbox) -> bool:
    """Whether boxes share more than their edges."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return bool(width > 1 and height > 1)
