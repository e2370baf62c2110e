"""Tests of how errors are worded."""

from pathlib import Path

from datamodules.wrong_input import counted, listed, unknown_name, wrong_input


def test_the_message_is_one_line_whatever_is_in_it() -> None:
    error = wrong_input(at="a\nb", found="c\r\n  d", expected="e\tf", do="g")
    assert str(error) == "a b: found c d, expected e f; g"


def test_what_is_not_printable_is_escaped_and_a_path_stays_as_it_is() -> None:
    error = wrong_input(at=Path("a\nb  c"), found="\x1b[2J", expected="e\u202e", do="g\ud800")
    assert str(error) == r"a\nb c: found \x1b[2J, expected e\u202e; g\ud800"


def test_one_thing_is_no_plural() -> None:
    assert [counted(n, "voxel") for n in (0, 1, 2)] == ["0 voxels", "1 voxel", "2 voxels"]


def test_an_unknown_name_is_answered_with_the_nearest_and_all() -> None:
    error = unknown_name(
        option="--data.task",
        kind="task",
        name="task04_hipocampus",
        known=["Task04_Hippocampus", "B"],
    )
    assert "(nearest: Task04_Hippocampus)" in str(error)
    assert "one of Task04_Hippocampus, B;" in str(error)


def test_a_name_like_no_other_has_no_nearest() -> None:
    error = unknown_name(option="--o", kind="label", name="zzz", known=["Anterior"])
    assert "nearest" not in str(error)


def test_long_lists_are_cut_and_counted() -> None:
    assert listed("abc", most=3) == "a, b, c"
    assert listed("abcd", most=3) == "a, b, c, ... (4 in all)"
