"""Verdicts come back from their file, and say at once what a method fails."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from robustness.trust import Evidence, Verdict
from robustness.trust_table import (
    COLUMNS,
    CURVE_COLUMNS,
    curves_frame,
    mark,
    read_trust,
    read_trust_curves,
    trust_frame,
    write_trust,
)

SOUND = Verdict("gradient", 0.1, 0.2, 0.3, 0.4, 0.9, 1.5, ())
UNSOUND = replace(SOUND, method="edges", randomised=1.0, failed=("randomised", "stable"))
UNKNOWN = replace(SOUND, method="blank", stable=math.nan, failed=("stable",))
REFUSED = {"deeplift": "deeplift: group_norm in the module norm,\n has no rule"}


def test_the_table_comes_back_as_it_was(tmp_path: Path) -> None:
    frame = trust_frame(
        [SOUND, UNSOUND, UNKNOWN], REFUSED, explained="sum of p", checkpoint_sha256="0e1" * 20
    )
    write_trust(tmp_path / "trust.csv", frame)
    found = read_trust(tmp_path / "trust.csv")
    assert set(found["explained"]) == {"sum of p"}
    pd.testing.assert_frame_equal(found, frame)
    assert tuple(found.columns) == COLUMNS
    assert found["method"].tolist() == ["blank", "deeplift", "edges", "gradient"]


def test_a_table_of_refused_methods_alone_comes_back(tmp_path: Path) -> None:
    write_trust(tmp_path / "trust.csv", trust_frame([], REFUSED))
    (row,) = read_trust(tmp_path / "trust.csv").to_dict("records")
    assert row["refused"] == "deeplift: group_norm in the module norm, has no rule"
    assert math.isnan(row["stable"])


def test_marks_name_what_fails() -> None:
    few, flat = replace(SOUND, method="few", slices=3), replace(SOUND, method="flat", slices=0)
    frame = trust_frame([SOUND, UNSOUND, UNKNOWN, few, flat], REFUSED)
    found = {row["method"]: mark(row) for row in frame.to_dict("records")}
    assert found == {
        "gradient": "",
        "edges": "fails randomised, stable",
        "blank": "fails stable",
        "deeplift": "refused",
        "few": "checked on 3 slices only",
        "flat": "the same everywhere",
    }


def test_an_empty_table_comes_back_empty(tmp_path: Path) -> None:
    write_trust(tmp_path / "trust.csv", trust_frame([], {}))
    found = read_trust(tmp_path / "trust.csv")
    assert len(found) == 0
    assert tuple(found.columns) == COLUMNS


def test_curves_come_back_as_they_were(tmp_path: Path) -> None:
    rows = (("randomised", "network.head", 0.5, math.nan), ("deletion", "0.05", 0.75, 0.875))
    frame = curves_frame([Evidence("gradient", rows), Evidence("lime", rows[1:])])
    write_trust(tmp_path / "curves.csv", frame)
    found = read_trust_curves(tmp_path / "curves.csv")
    pd.testing.assert_frame_equal(found, frame)
    assert tuple(found.columns) == CURVE_COLUMNS
    assert found["method"].tolist() == ["gradient", "gradient", "lime"]


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trust.csv").write_text("method,stable\ngradient,0.5\n")
    with pytest.raises(ValueError, match=r"columns slices, randomised, .* are missing"):
        read_trust(tmp_path / "trust.csv")


def test_a_number_that_is_none_is_refused(tmp_path: Path) -> None:
    frame = trust_frame([SOUND], {}).assign(stable="much")
    write_trust(tmp_path / "trust.csv", frame)
    with pytest.raises(ValueError, match="much"):
        read_trust(tmp_path / "trust.csv")
