import re

from hypothesis import given
from hypothesis import strategies as st

from lightning_module.keys import unique_slugs


@given(st.lists(st.text(max_size=6), max_size=8))
def test_slugs_hold_allowed_characters_only_and_differ(names: list[str]) -> None:
    slugs = unique_slugs(names)

    assert len(slugs) == len(names) == len(set(slugs))
    assert all(re.fullmatch(r"[a-z0-9_.-]+", slug) for slug in slugs)


def test_repeats_are_numbered_past_names_that_look_numbered() -> None:
    assert unique_slugs(["bce", "bce_2", "bce", "bce"]) == ("bce", "bce_2", "bce_3", "bce_4")


@given(st.lists(st.from_regex(r"[a-z][a-z0-9.-]{0,5}", fullmatch=True), unique=True))
def test_slugs_stay_as_they_are(names: list[str]) -> None:
    assert unique_slugs(names) == tuple(names)
