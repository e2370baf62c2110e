"""What all pictures of a slice share: cropping to what is no padding, outlines, words."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from pictures.panels import (
    check_rows,
    class_key,
    crop,
    map_scale,
    names_of_classes,
    outline,
    padding_note,
    point_title,
    show_masks,
    valid_box,
)
from tests.pictures.slices import made_snapshot


def new_axes() -> Axes:
    axes: Axes = Figure().subplots()
    return axes


def contours(axes: Axes) -> list[QuadContourSet]:
    return [artist for artist in axes.collections if isinstance(artist, QuadContourSet)]


@given(arrays(bool, (6, 9)))
def test_the_box_is_the_smallest_that_holds_all_valid_pixels(valid: np.ndarray) -> None:
    rows, columns = valid_box(valid)
    inside = crop(valid, (rows, columns))
    if not valid.any():
        assert inside.shape == valid.shape
        return
    assert inside.sum() == valid.sum()
    assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_scale_is_that_of_all_maps_together_without_padding() -> None:
    generator = np.random.default_rng(0)
    maps = generator.normal(0, 1, (2, 30, 40)) * [[[1.0]], [[5.0]]]
    valid = np.tile(np.arange(40) < 25, (30, 1))
    maps[:, :, 25:] = 100.0
    inside = np.abs(maps[:, :, :25])
    scale = map_scale([(one, valid) for one in maps])
    assert (inside > scale).sum() == 2  # one in a thousand of 1500, rounded up
    assert scale == pytest.approx(np.quantile(inside, 0.999))


def test_a_scale_never_ends_at_0() -> None:
    sparse = np.zeros((50, 50))
    sparse[3, 4] = -0.25
    everywhere = np.ones((50, 50), bool)
    assert map_scale([(sparse, everywhere)]) == 0.25
    assert map_scale([(0 * sparse, everywhere)]) == 1
    assert map_scale([(sparse + 2, ~everywhere)]) == 2


def test_what_lies_in_padding_is_noted_where_it_counts() -> None:
    values = np.zeros((4, 4))
    values[0, 0], values[3, 3] = -3.0, 1.0
    box = (slice(0, 2), slice(0, 2))
    assert padding_note(values, box, "|map|") == "25% of |map| in padding"
    values[3, 3] = 0.01
    assert padding_note(values, box, "|map|") == ""
    assert padding_note(0 * values, box, "|map|") == ""


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_nothing_above_one_half_has_no_outline(value: float) -> None:
    axes = new_axes()
    outline(axes, np.full((4, 5), value), color="red")
    assert not contours(axes)


def test_an_outline_runs_midway_and_closes_at_the_border() -> None:
    mask = np.zeros((5, 6), bool)
    mask[1:3, 0:2] = True
    axes = new_axes()
    outline(axes, mask, color="red")
    (drawn,) = contours(axes)
    (path,) = drawn.get_paths()
    corners = np.asarray(path.vertices)
    assert corners.min(axis=0).tolist() == [-0.5, 0.5]
    assert corners.max(axis=0).tolist() == [1.5, 2.5]
    assert corners[0].tolist() == corners[-1].tolist()


def test_an_outline_at_the_border_does_not_move_the_image() -> None:
    axes = new_axes()
    mask = np.ones((4, 6), bool)
    show_masks(axes, mask[None])
    outline(axes, mask, color="red")
    assert axes.get_xlim() == (-0.5, 5.5)
    assert axes.get_ylim() == (3.5, -0.5)


@given(st.integers(1, 8))
def test_masks_keep_their_classes_apart(classes: int) -> None:
    masks = np.zeros((classes, 3, classes + 1), bool)
    for index in range(classes):
        masks[index, 1, index] = True
    axes = new_axes()
    show_masks(axes, masks)
    shown = np.asarray(axes.images[0].get_array())
    assert not shown[0].any()
    assert not shown[1, -1].any()
    colors = {tuple(pixel) for pixel in shown[1, :-1]}
    assert len(colors) == min(classes, 6)
    if classes == 1:
        assert shown[1, 0].tolist() == [1, 1, 1]


def test_overlapping_masks_mix_their_colours() -> None:
    axes = new_axes()
    show_masks(axes, np.array([[[True, False, True]], [[False, True, True]]]))
    first, second, both = np.asarray(axes.images[0].get_array())[0]
    np.testing.assert_allclose(both, (first + second) / 2)


@pytest.mark.parametrize(
    ("unit", "point", "words"),
    [
        ("image intensity", 0.4, "level 0.4"),
        ("pixels per slice", 30.0, "30 pixels"),
        ("mm", 1.5, "1.5 mm"),
        ("{odd} %", 2.0, "2 {odd} %"),
    ],
)
def test_points_are_put_in_words(unit: str, point: float, words: str) -> None:
    assert point_title(unit, point) == words


def test_classes_are_named_or_numbered() -> None:
    snapshot = made_snapshot(classes=2)
    assert names_of_classes(snapshot, []) == ["class 1", "class 2"]
    names = names_of_classes(snapshot, ["front", "back"])
    assert [entry.get_label() for entry in class_key(names, "white")] == ["front", "back"]
    with pytest.raises(ValueError, match="1 class names"):
        names_of_classes(snapshot, ["front"])


def test_rows_of_different_slices_are_refused() -> None:
    snapshot = made_snapshot()
    check_rows([("bce", snapshot), ("dice", snapshot)])
    with pytest.raises(ValueError, match="no rows"):
        check_rows([])
    for other in (replace(snapshot, case="b"), replace(snapshot, slice_index=3)):
        with pytest.raises(ValueError, match="different slices"):
            check_rows([("bce", snapshot), ("dice", other)])
