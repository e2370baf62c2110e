"""Slices of cases come together whatever batches and processes they come in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from callbacks.case_volumes import CaseVolumes

DEPTHS = {"a": 3, "b": 1, "c": 4}
SLICES = [(case, index) for case, depth in DEPTHS.items() for index in range(depth)]


def value(case: str, index: int) -> NDArray[np.float32]:
    return np.full((2, 3, 3), ord(case) + index / 10, dtype=np.float32)


def batch(slices: list[tuple[str, int]]) -> tuple[list[str], list[int], NDArray[np.float32]]:
    return (
        [case for case, _ in slices],
        [index for _, index in slices],
        np.stack([value(*one) for one in slices]),
    )


def check(found: dict[str, NDArray[np.float32]]) -> None:
    assert found.keys() == DEPTHS.keys()
    for case, values in found.items():
        expected = np.stack([value(case, index) for index in range(DEPTHS[case])])
        np.testing.assert_array_equal(values, expected)


@given(st.permutations(SLICES), st.integers(1, 8))
def test_every_order_and_size_of_batches_gives_every_case_once(
    order: list[tuple[str, int]], size: int
) -> None:
    volumes = CaseVolumes(DEPTHS)
    found: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(order), size):
        for case, values in volumes.add(*batch(order[start : start + size])):
            assert case not in found
            found[case] = values
    check(found)
    assert volumes.rest() == {}


@given(st.permutations(SLICES), st.integers(1, 7))
def test_processes_share_cases(order: list[tuple[str, int]], cut: int) -> None:
    found: dict[str, NDArray[np.float32]] = {}
    processes = [CaseVolumes(DEPTHS), CaseVolumes(DEPTHS)]
    for process, mine in zip(processes, (order[:cut], order[cut:]), strict=True):
        found |= dict(process.add(*batch(mine)))
    found |= dict(processes[0].take_in([process.rest() for process in processes]))
    check(found)


def test_a_case_that_lacks_a_slice_is_left_over() -> None:
    volumes = CaseVolumes(DEPTHS)
    assert [case for case, _ in volumes.add(*batch(SLICES[:-1]))] == ["a", "b"]
    (name,) = volumes.rest()
    assert name == "c"
    assert volumes.rest()["c"].there.tolist() == [True, True, True, False]
