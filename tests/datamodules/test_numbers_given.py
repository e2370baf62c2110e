"""Numbers that an option may take, and those it may not."""

import pytest

from datamodules.numbers_given import check_above_zero, check_numbers, check_share
from errors import InputError
from tests.datamodules.tiny import refusal

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(("number", "least"), [(0, 0), (1, 0), (1, 1), (900, 1)])
def test_whole_numbers_that_are_large_enough(number: int, least: int) -> None:
    check_numbers(batch_size=(number, least))
    with pytest.raises(InputError) as caught:
        check_numbers(seed=(number, least), batch_size=(least - 1, least))
    message = refusal(caught)
    assert message.startswith(f"--data.batch_size: found {least - 1}, expected {least} or more; ")


@pytest.mark.parametrize(("number", "is_fine"), [(1e-9, True), (7.0, True), (0.0, False)])
def test_numbers_above_zero(number: float, is_fine: bool) -> None:
    if is_fine:
        check_above_zero("max_pixel", number)
    for wrong in (-1e-9, NAN, INFINITY, -INFINITY, *([] if is_fine else [number])):
        with pytest.raises(InputError) as caught:
            check_above_zero("max_pixel", wrong)
        assert refusal(caught).startswith(f"--data.max_pixel: found {wrong}, expected a number ")


@pytest.mark.parametrize("number", [0.0, 0.3, 1.0])
def test_shares(number: float) -> None:
    check_share("keep_empty", number)
    for wrong in (number - 1.001, number + 1.001, NAN, INFINITY):
        with pytest.raises(InputError) as caught:
            check_share("keep_empty", wrong)
        assert refusal(caught).startswith(f"--data.keep_empty: found {wrong}, expected a share ")
