"""Names from files cannot lead anywhere, and two stay two."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.safe_name import safe_name


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_safe_name_is_one_part_of_a_path(one: str, other: str) -> None:
    safe = safe_name(one)
    assert Path("folder", f"{safe}_x").parent == Path("folder")
    assert safe.isprintable()
    assert not set(safe) & set("/\\[] \n\0:")
    assert not safe.startswith((".", "-"))
    assert (safe == safe_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["..", "../up", "/etc/x", "a/b", "a\\b", "-rf", ".hidden", "a\n"])
def test_names_that_lead_elsewhere_are_changed(name: str) -> None:
    assert safe_name(name) != name
    assert not set(safe_name(name)) & set("/\\\n")
    assert not safe_name(name).startswith((".", "-"))
