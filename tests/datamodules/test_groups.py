"""The table that keeps cases together."""

from pathlib import Path

import pytest

from datamodules.groups import read_case_groups
from datamodules.splits import split_cases
from errors import InputError
from tests.datamodules.tiny import refusal

CASES = [f"tiny_{number:02d}" for number in range(12)]


def _table(folder: Path, text: str) -> Path:
    path = folder / "groups.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_of_groups(tmp_path: Path) -> None:
    path = _table(
        tmp_path, "group,case,note\nJos\u00e9,tiny_01,\n Jos\u00e9 ,tiny_00,again\n7,tiny_05,\n"
    )
    expected = {"tiny_01": "Jos\u00e9", "tiny_00": "Jos\u00e9", "tiny_05": "7"}
    assert read_case_groups(path, CASES) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the columns none"),
        ("case;group\n", "expected case and group"),
        ("case,group\ntiny_77,1\n", "unknown case 'tiny_77'"),
        ("case,group\ntiny_00,1\ntiny_00,2\n", "tiny_00 a second time in line 3"),
        ("case,group\ntiny_00,\n", "line 2: found '', expected the name of a group"),
        ("case,group\ntiny_00, \n", "found ' '"),
        ("case,group\ntiny_00\n", "found None"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_case_groups(_table(tmp_path, text), CASES)
    assert refusal(caught).startswith(f"--data.groups {tmp_path}")
    assert said in refusal(caught)


def test_a_table_keeps_patients_on_one_side(tmp_path: Path) -> None:
    rows = "".join(f"{case},patient {number % 6}\n" for number, case in enumerate(CASES))
    groups = read_case_groups(_table(tmp_path, f"case,group\n{rows}"), CASES)
    images = {case: case for case in CASES}
    parted = 0
    for seed in range(10):
        for given in (groups, None):
            split = split_cases(images, fold=0, split_seed=seed, groups=given)
            sides = [
                {groups[case] for case in part} for part in (split.train, split.val, split.test)
            ]
            shared = sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
            assert given is None or not shared
            parted += given is None and bool(shared)
    assert parted == 10
