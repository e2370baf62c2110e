"""Numbers that an option may take."""

import math

from datamodules.wrong_input import wrong_input


def check_numbers(**options: tuple[int, int]) -> None:
    """Refuse whole numbers that are too small.

    Args:
        options: For each option of ``--data`` its value and the least that it may be.

    Raises:
        InputError: If one is smaller.
    """
    for name, (number, least) in options.items():
        if number < least:
            raise wrong_input(
                at=f"--data.{name}",
                found=number,
                expected=f"{least} or more",
                do="set a larger one",
            )


def check_above_zero(name: str, number: float) -> None:
    """Refuse what is not a finite number above 0.

    Raises:
        InputError: If it is none.
    """
    if not (math.isfinite(number) and number > 0):
        raise wrong_input(
            at=f"--data.{name}",
            found=number,
            expected="a number above 0",
            do="set for example 0.2",
        )


def check_share(name: str, number: float) -> None:
    """Refuse what is no share.

    Raises:
        InputError: If it is not from 0 to 1.
    """
    if not 0 <= number <= 1:
        raise wrong_input(
            at=f"--data.{name}", found=number, expected="a share from 0 to 1", do="set 1 for all"
        )
