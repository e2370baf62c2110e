"""The reader that tables of cases share."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from datamodules.case_table import CaseRow, read_case_table
from datamodules.case_weights import read_case_weights
from datamodules.groups import read_case_groups
from errors import InputError
from tests.datamodules.tiny import refusal


def _read(path: Path) -> list[CaseRow]:
    return read_case_table(path, ["a", "b"], option="--data.sizes", column="size")


def test_rows_come_as_they_stand_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "sizes.csv"
    # A byte order mark, a quoted line break, an empty line, another column, Windows line ends.
    text = '\ufeffsize,note,case\r\n 3 ,"over\r\ntwo lines",b\r\n\r\n,,a\r\n'
    path.write_bytes(text.encode())
    at = f"--data.sizes {path}, line"
    assert _read(path) == [CaseRow("b", " 3 ", f"{at} 3"), CaseRow("a", "", f"{at} 5")]


def test_an_empty_table_names_no_case(tmp_path: Path) -> None:
    path = tmp_path / "sizes.csv"
    path.write_text("case,size\n")
    assert _read(path) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found the columns none, expected case and size"),
        ("case,weight\na,1\n", "found the columns case, weight, expected case and size"),
        ("case,size\nc,1\n", "found unknown case 'c'"),
        ("case,size\na,1\n\na,1\n", "found a a second time in line 4"),
        ("size,case\n3\n", "found unknown case 'None'"),
        ("case,size\na," + "1" * 200_000, "field larger than field limit"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sizes.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        _read(path)
    assert refusal(caught).startswith(f"--data.sizes {path}: found")
    assert said in refusal(caught)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a CSV table with the columns case and size"):
        _read(tmp_path)


@pytest.mark.parametrize("read", [read_case_groups, read_case_weights])
def test_a_table_that_is_not_there_or_no_text(
    read: Callable[[Path, Sequence[str]], object], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "none.csv", ["a"])
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "image.csv", ["a"])
