"""What is far from the others, by a score that is computed again here."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.inspection_facts import CaseFacts, ChannelFacts, ImageFacts
from datamodules.inspection_outliers import LEAST_DEVIATION, compare_cases, robust_scores

VALUES = st.lists(st.floats(-6, 6), min_size=5, max_size=30)


@given(VALUES, st.floats(-3, 3))
def test_scores_do_not_depend_on_the_unit(values: list[float], shift: float) -> None:
    """A factor of all values is a shift of their logarithms."""
    first, second = robust_scores(np.array(values)), robust_scores(np.array(values) + shift)
    np.testing.assert_allclose(first, second, atol=1e-9)


@given(VALUES)
def test_scores_are_distances_from_the_median(values: list[float]) -> None:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    deviation = max((high - low) / 1.349, LEAST_DEVIATION)
    expected = [(value - middle) / deviation for value in values]
    np.testing.assert_allclose(robust_scores(np.array(values)), expected, atol=1e-9)


def case(name: str, high: float, spacing: float = 1.0) -> CaseFacts:
    channel = ChannelFacts(0, 0, high / 2, high, high, 0)
    image = ImageFacts((8, 8, 8), (1, 1, spacing), "RAS", "int16", np.eye(4), (channel,), name)
    return CaseFacts(name, image)


@pytest.mark.parametrize(("factor", "far"), [(1.45, False), (1.55, True), (1 / 1.55, True)])
def test_a_factor_of_one_and_a_half_is_the_least_that_is_far(factor: float, far: bool) -> None:
    cases = [case(str(index), 100.0) for index in range(6)] + [case("last", 100.0 * factor)]
    *others, last = compare_cases(cases, [])
    assert not any(other.problems for other in others)
    assert [problem.kind for problem in last.problems] == ["intensities far from the others"] * far


def test_few_cases_are_not_compared() -> None:
    cases = [case(str(index), 10.0**index, 2.0**index) for index in range(4)]
    assert not any(found.problems for found in compare_cases(cases, []))
    cases = [case(str(index), 1.0, 1.0) for index in range(4)] + [case("last", 1.0, 9.0)]
    assert [found.problems[0].kind for found in compare_cases(cases, []) if found.problems] == [
        "spacing far from the others"
    ]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_what_has_no_logarithm_is_no_outlier_and_spoils_none(value: float) -> None:
    cases = [case(str(index), 100.0) for index in range(5)] + [case("odd", value, value)]
    assert not any(found.problems for found in compare_cases(cases, []))
