"""Numbers in the report have three significant digits and read as numbers do."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparison.report_html import breakable, left_out_notes, number, span


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1234.5, "1230"),
        (999.6, "1000"),
        (417.4, "417"),
        (51.0, "51.0"),
        (0.5844, "0.584"),
        (0.000123456, "0.000123"),
        (0.0, "0"),
        (-0.0, "0"),
        (-12.34, "-12.3"),
        (math.nan, "none"),
    ],
)
def test_three_digits_and_no_exponent(value: float, words: str) -> None:
    assert number(value) == words


@given(st.floats(1e-6, 1e9) | st.floats(-1e9, -1e-6))
def test_the_words_are_the_number_to_half_of_its_third_digit(value: float) -> None:
    words = number(value)
    assert "e" not in words
    assert abs(float(words) - value) <= 0.5001 * 10 ** (math.floor(math.log10(abs(value))) - 2)
    assert len(words.replace("-", "").replace(".", "").strip("0")) <= 3


def test_ends_that_read_the_same_stand_once() -> None:
    assert span(0.1, 0.25) == "0.100 to 0.250"
    assert span(0.5, 0.50001) == "0.500"
    assert span(math.nan, 1.0) == ""


def test_names_and_reasons_are_escaped() -> None:
    assert breakable("<b>a+b") == "&lt;b&gt;a+<wbr>b"
    assert "<i>" not in left_out_notes("the maps", {"<i>x": "other <i>"})
    assert left_out_notes("the maps", {}) == ""
