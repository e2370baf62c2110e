"""Losses look the same in every figure, and a figure is the same PNG each time."""

import io
import itertools
from random import Random

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from pictures.style import (
    MARKERS,
    PALETTE,
    figure_style,
    grid_figsize,
    loss_styles,
    order_losses,
    to_png_bytes,
    to_webp_bytes,
    wrap_label,
)

PAPER = ["bce", "batch_dice", "bce+batch_dice", "bce+batch_dice+focal"]

losses = st.lists(
    st.lists(
        st.sampled_from(["bce", "dice", "batch_dice", "focal", "0.5*bce", "a.b:Term"]), min_size=1
    ).map("+".join),
    unique=True,
    max_size=12,
)


def relative_luminance(color: str) -> float:
    """Of a colour as #rrggbb, by WCAG 2.1."""
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in channels
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_losses_stand_in_the_order_of_the_paper() -> None:
    for mixed in itertools.permutations(PAPER):
        assert order_losses(mixed) == PAPER


@given(losses, st.randoms())
def test_the_look_of_a_loss_does_not_hang_on_the_order_in_which_it_comes(
    labels: list[str], random: Random
) -> None:
    mixed = list(labels)
    random.shuffle(mixed)
    assert loss_styles(mixed) == loss_styles(labels)
    assert list(loss_styles(mixed)) == order_losses(labels)
    terms = [label.count("+") for label in order_losses(labels)]
    assert terms == sorted(terms)


def test_as_many_losses_as_colours_times_markers_look_different() -> None:
    labels = [f"term{index:02d}" for index in range(len(PALETTE) * len(MARKERS))]
    styles = loss_styles(labels)
    assert len(set(styles.values())) == len(labels)
    assert len({styles[label].color for label in labels[: len(PALETTE)]}) == len(PALETTE)


@pytest.mark.parametrize("color", PALETTE)
def test_lines_can_be_seen_on_white(color: str) -> None:
    assert 1.05 / (relative_luminance(color) + 0.05) > 2


@given(st.lists(st.sampled_from(["bce", "batch_dice", "focal(gamma=3)"]), min_size=1))
def test_wrapping_breaks_after_a_plus_and_loses_nothing(terms: list[str]) -> None:
    label = "+".join(terms)
    lines = wrap_label(label, 16).split("\n")
    assert "".join(lines) == label
    assert all(line.endswith("+") for line in lines[:-1])
    assert all(len(line) <= 16 or line.count("+") == int(line.endswith("+")) for line in lines)


def test_the_style_ends_with_its_block() -> None:
    before = dict(matplotlib.rcParams)
    with figure_style():
        assert matplotlib.rcParams["axes.spines.top"] is False
    assert dict(matplotlib.rcParams) == before


def test_a_name_with_dollar_signs_is_written_as_it_is() -> None:
    with figure_style():
        figure = Figure()
        text = figure.text(0.5, 0.5, r"$\frac{1}{$ and $")
    assert to_png_bytes(figure)
    assert not text.get_parse_math()


def test_a_grid_leaves_images_their_shape() -> None:
    width, height = grid_figsize(2, 3, (20, 40), extra_inches=(1.0, 0.5), longer_inches=2.0)
    assert width == pytest.approx(3 * (2.0 + 0.12) + 1.0)
    assert height == pytest.approx(2 * (1.0 + 0.12) + 0.5)


def test_a_figure_is_the_same_png_each_time() -> None:
    def draw() -> bytes:
        with figure_style():
            figure = Figure(figsize=(3, 2))
            figure.subplots().plot([0, 1], [1, 0], label="bce")
        return to_png_bytes(figure, dpi=100)

    first = draw()
    assert draw() == first
    image = Image.open(io.BytesIO(first))
    assert (image.format, image.size) == ("PNG", (300, 200))
    assert "Software" not in image.info


def test_webp_holds_the_same_pixels_in_fewer_bytes() -> None:
    with figure_style():
        figure = Figure(figsize=(3, 2))
        figure.subplots().imshow(np.random.default_rng(0).random((20, 30)), cmap="magma")
    png = to_png_bytes(figure)
    webp = to_webp_bytes(png)
    assert webp == to_webp_bytes(png)
    assert len(webp) < len(png)
    first, second = (Image.open(io.BytesIO(data)).convert("RGB") for data in (png, webp))
    assert first.tobytes() == second.tobytes()
