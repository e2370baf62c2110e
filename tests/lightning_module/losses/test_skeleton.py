from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses.cldice import SoftclDiceLoss, soft_skel
from torch import Tensor

from lightning_module.losses.overlap import Dice
from lightning_module.losses.skeleton import ClDice, soft_skeleton
from tests.lightning_module.losses.cases import (
    assert_background_can_be_left_out,
    assert_runs_without_values,
    certain,
    drawing,
    everywhere,
)
from tests.lightning_module.losses.references import case
from tests.lightning_module.toy import random_case

seeds = st.integers(0, 10_000)
Grid = dict[tuple[int, int], float]

CROSS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
SQUARE = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))


def grid(values: Tensor, valid: Tensor) -> Grid:
    return {(row, column): values[row, column].item() for row, column in valid.nonzero().tolist()}


def around(mask: Grid, pixel: tuple[int, int], shape: tuple[tuple[int, int], ...]) -> list[float]:
    places = [(pixel[0] + row, pixel[1] + column) for row, column in shape]
    return [mask[place] for place in places if place in mask]


def eroded(mask: Grid) -> Grid:
    return {pixel: min(around(mask, pixel, CROSS)) for pixel in mask}


def opened(mask: Grid) -> Grid:
    small = eroded(mask)
    return {pixel: max(around(small, pixel, SQUARE)) for pixel in mask}


def skeleton(mask: Grid, iterations: int) -> Grid:
    """Algorithm 1 of the paper over the pixels that there are."""
    lines = {pixel: max(mask[pixel] - one, 0.0) for pixel, one in opened(mask).items()}
    for _ in range(iterations):
        mask = eroded(mask)
        further = {pixel: max(mask[pixel] - one, 0.0) for pixel, one in opened(mask).items()}
        lines = {pixel: old + (1 - old) * further[pixel] for pixel, old in lines.items()}
    return lines


def share_within(mask: Grid, other: Grid) -> float:
    lines = skeleton(mask, 2)
    return (sum(lines[pixel] * other[pixel] for pixel in lines) + 1) / (sum(lines.values()) + 1)


@given(seeds)
def test_loss_is_the_formula_over_valid_pixels(seed: int) -> None:
    logits, target, valid = random_case(size=7, seed=seed)

    values = ClDice(iterations=2)(logits, target, valid)

    for image in range(3):
        for one in range(2):
            probs = grid(logits[image, one].sigmoid(), valid[image, 0])
            truth = grid(target[image, one], valid[image, 0])
            precise, found = share_within(probs, truth), share_within(truth, probs)
            expected = 1 - 2 * precise * found / (precise + found)
            assert values[image, one].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("exclusive", [False, True])
@given(seeds)
def test_loss_agrees_with_monai_class_by_class(exclusive: bool, seed: int) -> None:
    logits, target, _ = case(exclusive=exclusive, seed=seed)
    probs = logits.softmax(1) if exclusive else logits.sigmoid()
    # MONAI would add up the classes of an image: it sees each as an image of its own.
    alone = SoftclDiceLoss(smooth=1e-12, reduction="none")(
        probs.flatten(0, 1).unsqueeze(1), target.flatten(0, 1).unsqueeze(1)
    )

    values = ClDice(exclusive=exclusive)(logits, target, everywhere(target))

    torch.testing.assert_close(values, alone.view_as(values), atol=1e-6, rtol=0)


@given(seeds, st.integers(0, 4))
def test_skeletons_are_monais_where_no_pixel_is_left_out(seed: int, iterations: int) -> None:
    logits, _, _ = random_case(size=9, seed=seed)
    probs = logits.sigmoid()

    lines = soft_skeleton(probs, everywhere(probs), iterations)

    torch.testing.assert_close(lines, soft_skel(probs, iterations))


def test_of_two_predictions_with_the_same_dice_the_one_with_a_gap_is_worse() -> None:
    line = drawing("...........", ".#########.", ".#########.", ".#########.", "...........")
    gap, thinner = line.clone(), line.clone()
    gap[0, 0, 1:4, 5] = 0
    thinner[0, 0, 1, 4:7] = 0

    def loss(term: torch.nn.Module, prediction: Tensor) -> float:
        value: float = term(certain(prediction), line, everywhere(line)).item()
        return value

    assert loss(Dice(), gap) == pytest.approx(loss(Dice(), thinner))
    assert loss(ClDice(), gap) > 0.05
    assert loss(ClDice(), thinner) < 1e-6


def test_a_gap_in_a_thin_line_beside_a_wide_mask_counts_more_than_in_dice() -> None:
    truth = drawing(*3 * ("########..",), *3 * ("..........",), "##########", "..........")
    prediction = truth.clone()
    prediction[0, 0, 6, 3:6] = 0

    by_dice, by_cldice = (
        term(certain(prediction), truth, everywhere(truth)).item() for term in (Dice(), ClDice())
    )

    assert by_cldice > 1.5 * by_dice


def test_an_image_without_foreground_prefers_no_predicted_line() -> None:
    truth = torch.zeros(1, 1, 5, 5)
    line = drawing(".....", ".....", "#####", ".....", ".....")

    values = [
        ClDice()(logits, truth, everywhere(truth)).item()
        for logits in (certain(line), 2 * line - 1, certain(truth))
    ]

    assert values == sorted(values, reverse=True)
    assert values[-1] < 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"iterations": 0}, "iterations: found 0, expected a whole number of at least 1"),
        ({"iterations": 2.5}, "iterations: found 2.5, expected a whole number"),
        ({"iterations": True}, "iterations: found True, expected a whole number"),
        ({"smooth": 0}, "smooth: found 0, expected a number of at least 1e-12"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClDice(**arguments)


def test_background_can_be_left_out() -> None:
    assert_background_can_be_left_out("cldice")


@pytest.mark.parametrize("exclusive", [False, True])
def test_runs_without_values(exclusive: bool) -> None:
    assert_runs_without_values(ClDice(exclusive=exclusive))
