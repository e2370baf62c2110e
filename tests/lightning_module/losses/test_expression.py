import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InputError
from lightning_module.losses.expression import TermSpec, parse_expression

words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
dotted = st.lists(words, min_size=1, max_size=3).map(".".join)
names = words | st.tuples(dotted, words).map(":".join)
numbers = st.integers(-(10**14), 10**14) | st.floats(allow_nan=False, allow_infinity=False)
values = numbers | st.booleans() | words.filter(lambda word: word.lower() not in {"true", "false"})
weights = st.floats(min_value=1e-300, allow_infinity=False)
specs = st.builds(TermSpec, names, weights, st.dictionaries(words, values, max_size=3))


@given(st.lists(specs, min_size=1, max_size=4))
def test_what_specs_write_is_read_as_the_same_specs(written: list[TermSpec]) -> None:
    assert parse_expression("+".join(map(str, written))) == tuple(written)


@given(st.lists(specs, min_size=1, max_size=4))
def test_blanks_between_parts_do_not_matter(written: list[TermSpec]) -> None:
    spaced = " + ".join(map(str, written))
    for symbol in ("*", "(", ",", "=", ")"):
        spaced = spaced.replace(symbol, f"  {symbol} ")

    assert parse_expression(f"  {spaced}  ") == tuple(written)


@given(st.text(alphabet=string.ascii_letters + string.digits + "+-*/().,:=_ é\n", max_size=20))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    message = ""
    found: tuple[TermSpec, ...] = ()
    try:
        found = parse_expression(text)
    except InputError as error:
        message = str(error)

    if found:
        assert parse_expression("+".join(map(str, found))) == found
    else:
        assert all(word in message for word in ("found", "expected", "; "))
        assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bce", [TermSpec("bce")]),
        ("bce+dice", [TermSpec("bce"), TermSpec("dice")]),
        ("1e-3*bce", [TermSpec("bce", 1e-3)]),
        ("1e+3*bce + .5*dice", [TermSpec("bce", 1e3), TermSpec("dice", 0.5)]),
        ("focal()", [TermSpec("focal")]),
        (
            "focal(gamma=3,alpha=0.5)+a.b:Term(flag=True, mode=hard, low=-1)",
            [
                TermSpec("focal", 1.0, {"gamma": 3, "alpha": 0.5}),
                TermSpec("a.b:Term", 1.0, {"flag": True, "mode": "hard", "low": -1}),
            ],
        ),
    ],
)
def test_examples_are_read(text: str, expected: list[TermSpec]) -> None:
    assert parse_expression(text) == tuple(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "loss '': found the end, expected the name of a term"),
        ("bce+", "found the end, expected the name of a term"),
        ("bce++dice", r"found '\+', expected the name of a term"),
        ("bce dice", r"found 'dice', expected '\+' or the end"),
        ("bce*2", r"found '\*', expected '\+' or the end"),
        ("bce-dice", "found '-' at position 4"),
        ("bce/2", "found '/' at position 4"),
        ("2bce", "found '2' at position 1"),
        ("2 bce", r"found 'bce', expected '\*' after a weight"),
        ("0*bce", "found weight 0, expected a finite number above 0"),
        ("-1*bce", "found weight -1, expected a finite number above 0"),
        ("1e999*bce", "found weight inf, expected a finite number above 0"),
        ("focal(3)", "found '3', expected the name of an argument"),
        ("focal(gamma)", r"found '\)', expected '=' after 'gamma'"),
        ("focal(gamma=)", r"found '\)', expected a value for 'gamma'"),
        ("focal(gamma=3", r"found the end, expected ',' or '\)'"),
        ("focal(gamma=3,)", r"found '\)', expected the name of an argument"),
        ("focal(gamma=1,gamma=2)", "found argument 'gamma' twice"),
        ("focal(gamma=__import__('os'))", r"found '\(', expected ',' or '\)'|found \"'\" at"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_expression(text)
