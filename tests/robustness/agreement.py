"""Compares the engine's counts with the reference and bounds what rounding may change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.robustness.reference import Key, Tally


@dataclass
class Agreement:
    """How a table of counts compares with the reference.

    Attributes:
        rows: Rows compared.
        different: Rows of which any number differs.
        flipped: Least number of pixels whose prediction differs.
        borderline: Pixels whose logit lies within rounding of the threshold.
        tied: Slices in whose ranking neighbours tie where it matters.
        unexplained: Rows that differ more than rounding explains.
    """

    rows: int = 0
    different: int = 0
    flipped: int = 0
    borderline: int = 0
    tied: int = 0
    slices: int = 0
    unexplained: list[Key] = field(default_factory=list)


def compare(
    found: Mapping[Key, Sequence[int]], expected: Mapping[Key, Tally], pixels: int
) -> Agreement:
    """Bound each difference by what rounding may decide.

    A pixel near the threshold may change sides. A slice whose ranking ties may lose another pixel,
    after which nothing is known of its ``pixels``; of the others the image is known exactly.
    """
    if found.keys() != expected.keys():
        msg = f"rows differ: {sorted(found.keys() ^ expected.keys())[:5]}"
        raise ValueError(msg)
    result = Agreement()
    for key, tally in expected.items():
        numbers = Tally(*found[key])
        flipped = abs(numbers.tp - tally.tp) + abs(numbers.fp - tally.fp)
        explained = (
            flipped <= tally.borderline + pixels * tally.tied_slices
            and numbers.tp + numbers.fn == tally.tp + tally.fn
            and (numbers.slices, numbers.slices_all) == (tally.slices, tally.slices_all)
            and (numbers.change_q20 == tally.change_q20 or tally.tied_slices > 0)
            and (numbers.degenerate == tally.degenerate or tally.tied_slices > 0)
        )
        result.rows += 1
        result.different += tuple(found[key]) != tally.numbers()
        result.flipped += flipped
        result.borderline += tally.borderline
        result.tied += tally.tied_slices
        result.slices += tally.slices_all
        if not explained:
            result.unexplained.append(key)
    return result
