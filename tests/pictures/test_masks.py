"""Figure 7: masks at p > 0.5 with the Dice that a count by hand gives."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from pictures.masks import masks_figure, slice_dice
from pictures.style import to_png_bytes
from tests.pictures.slices import cropped, made_snapshot


def dice_by_hand(predicted: np.ndarray, truth: np.ndarray) -> float | None:
    both = either = 0
    for one, other in zip(predicted.ravel().tolist(), truth.ravel().tolist(), strict=True):
        both += one and other
        either += one + other
    return 2 * both / either if either else None


@given(arrays(bool, (2, 3, 4)), arrays(bool, (2, 3, 4)))
def test_slice_dice_is_twice_the_overlap_over_the_sizes(
    predicted: np.ndarray, truth: np.ndarray
) -> None:
    found = slice_dice(predicted, truth)
    for index in range(2):
        expected = dice_by_hand(predicted[index], truth[index])
        assert found[index] == pytest.approx(np.nan if expected is None else expected, nan_ok=True)


def test_a_row_shows_image_prediction_and_truth() -> None:
    snapshot = made_snapshot()
    figure = masks_figure([("bce", snapshot)])
    image, predicted, truth = figure.axes
    np.testing.assert_array_equal(image.images[0].get_array(), cropped(snapshot.image[0]))
    for axes, mask in ((predicted, snapshot.probs[0] > 0.5), (truth, snapshot.mask[0])):
        np.testing.assert_array_equal(np.asarray(axes.images[0].get_array())[..., 0], cropped(mask))
    expected = dice_by_hand(snapshot.probs[0] > 0.5, snapshot.mask[0])
    assert predicted.get_title() == f"prediction, Dice {expected:.3f}"


def test_dice_counts_what_is_predicted_in_padding() -> None:
    snapshot = made_snapshot()
    probs = snapshot.mask.astype(np.float32)
    probs[:, ~snapshot.valid] = 1
    title = masks_figure([("bce", replace(snapshot, probs=probs))]).axes[1].get_title()
    expected = dice_by_hand(probs[0] > 0.5, snapshot.mask[0])
    assert expected is not None
    assert expected < 1
    assert title == f"prediction, Dice {expected:.3f}"


def test_classes_have_a_dice_each() -> None:
    snapshot = made_snapshot(classes=2)
    mask, probs = snapshot.mask.copy(), snapshot.mask.astype(np.float32)
    mask[1] = probs[1] = 0
    empty = replace(snapshot, mask=mask, probs=probs)
    figure = masks_figure([("bce", empty)], class_names=["front", "back"])
    assert figure.axes[1].get_title() == "prediction, Dice\n1.000 / none"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["front", "back"]


def test_a_mask_without_background_is_framed() -> None:
    snapshot = made_snapshot()
    full = replace(snapshot, probs=np.ones_like(snapshot.probs))
    predicted = masks_figure([("bce", full)]).axes[1]
    assert np.asarray(predicted.images[0].get_array()).min() == 1
    assert all(spine.get_visible() for spine in predicted.spines.values())


def test_both_empty_has_no_dice() -> None:
    snapshot = made_snapshot()
    empty = replace(snapshot, mask=snapshot.mask & False, probs=snapshot.probs * 0)
    assert (
        masks_figure([("bce", empty)]).axes[1].get_title() == "prediction, Dice none (both empty)"
    )


def test_the_words_of_many_classes_have_room() -> None:
    snapshot = made_snapshot(classes=7, channels=4)
    figure = masks_figure([("bce", replace(snapshot, probs=snapshot.probs * 0))])
    to_png_bytes(figure)
    extents = [axes.title.get_window_extent() for axes in figure.axes]
    for left, right in itertools.pairwise(extents):
        assert left.x1 <= right.x0 + 1  # the pixels of the PNG are smaller
    legend, page = figure.legends[0].get_window_extent(), figure.get_window_extent()
    assert page.x0 <= legend.x0
    assert legend.x1 <= page.x1


def test_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        masks_figure([])
