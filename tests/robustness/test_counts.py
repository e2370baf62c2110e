"""The table of counts: whole numbers that add up in any order, and the file they are kept in."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from robustness.counts import (
    FIELDS,
    CountTable,
    PartialCounts,
    Row,
    Truth,
    counts_frame,
    mean_change,
    read_counts,
    slice_counts,
    write_counts,
)
from robustness.plan import make_plan
from tests.robustness.toy import CPU, ConvNet, class_names, count, few_attacks, make_slices

COLUMNS = {
    "attack": "string",
    "axis": "string",
    "point_index": "int32",
    "point": "double",
    "repeat": "int32",
    "case": "string",
    "class": "string",
    "tp": "int64",
    "fp": "int64",
    "fn": "int64",
    "fp_empty": "int64",
    "slices": "int64",
    "slices_all": "int64",
    "slice_dice_q20": "int64",
    "change_q20": "int64",
    "degenerate": "int64",
}
METADATA = {"checkpoint_sha256": "ab12", "data": "d", "split": "s", "attacks": "a"}
ROWS = [
    Row("clean", "clean", 0, 0.0, 0),
    Row("a", "pixels", 0, 1.0, 0),
    Row("a", "pixels", 0, 1.0, 1),
]


def _values(draw: np.random.Generator, slices: int, classes: int) -> torch.Tensor:
    return torch.from_numpy(draw.integers(0, 2**40, (slices, classes, len(FIELDS))))


@given(
    arrays.arrays(
        np.float32, (2, 2, 3, 3), elements=st.sampled_from([-1.0, -0.0, 0.0, 1e-30, 2.0])
    ),
    arrays.arrays(np.bool_, (2, 2, 3, 3)),
    arrays.arrays(np.float32, (2, 1, 3, 3), elements=st.floats(-2, 2, width=32)),
    arrays.arrays(np.bool_, (2,)),
)
def test_the_numbers_of_a_slice_are_those_of_a_plain_loop(
    logits: np.ndarray, truth: np.ndarray, disturbed: np.ndarray, degenerate: np.ndarray
) -> None:
    clean = np.full_like(disturbed, 0.125)
    image, attacked = torch.from_numpy(clean), torch.from_numpy(disturbed)
    known = Truth.of(torch.from_numpy(truth), torch.ones(2, 1, 3, 3, dtype=torch.bool))
    predicted, lost = torch.from_numpy(logits > 0), torch.from_numpy(degenerate)
    both = slice_counts(
        torch.stack([predicted, predicted]),
        known,
        torch.stack([mean_change(image, attacked), mean_change(image, image)]),
        torch.stack([lost, lost]),
    )
    found = both[0]
    assert found.dtype == torch.int64
    unchanged = both[1, ..., FIELDS.index("change_q20")]
    assert (unchanged == 0).all()
    for row in range(2):
        change = sum(abs(float(value) - 0.125) for value in disturbed[row].ravel()) / 9
        for index in range(2):
            pairs = list(
                zip(
                    (logits[row, index] > 0).ravel().tolist(),
                    truth[row, index].ravel().tolist(),
                    strict=True,
                )
            )
            tp, fp = pairs.count((True, True)), pairs.count((True, False))
            fn = pairs.count((False, True))
            numbers = dict(zip(FIELDS, found[row, index].tolist(), strict=True))
            assert abs(numbers.pop("change_q20") - 2**20 * change) <= 0.5 + 2**-3
            dice = Fraction(2 * tp, 2 * tp + fp + fn) if tp + fn else Fraction(0)
            assert numbers == {
                "tp": tp,
                "fp": fp,
                "fn": fn,
                "fp_empty": 0 if tp + fn else fp,
                "slices": int(tp + fn > 0),
                "slices_all": 1,
                "slice_dice_q20": round(2**20 * dice),
                "degenerate": int(degenerate[row]),
            }


def test_numbers_add_up_by_case_and_row_in_any_order() -> None:
    draw = np.random.default_rng(0)
    slices = [(f"case_{number % 5}", _values(draw, 1, 2)) for number in range(23)]
    expected = np.zeros((3, 5, 2, len(FIELDS)), dtype=np.int64)
    for case, values in slices:
        for row in range(3):
            expected[row, int(case[-1])] += values[0].numpy() * (row + 1)
    for order in (range(23), reversed(range(23))):
        table = CountTable(ROWS, CPU)
        shuffled = [slices[number] for number in order]
        for start in range(0, 23, 4):
            some = shuffled[start : start + 4]
            slots = table.slots([case for case, _ in some], 2)
            for row in range(3):
                values = torch.cat([values for _, values in some]) * (row + 1)
                table.add(torch.tensor([row]), slots, values[None])
        partial = table.partial()
        by_name = [partial.cases.index(f"case_{number}") for number in range(5)]
        assert partial.sums.shape == expected.shape
        assert np.array_equal(partial.sums[:, by_name], expected)


def test_a_part_does_not_change_when_counting_goes_on() -> None:
    table = CountTable(ROWS, CPU)
    table.add(torch.tensor([0]), table.slots(["a"], 1), torch.ones(1, 1, 1, len(FIELDS)).long())
    early = table.partial()
    table.add(torch.tensor([0]), table.slots(["a"], 1), torch.ones(1, 1, 1, len(FIELDS)).long())
    assert early.sums[0].sum() == len(FIELDS)
    assert table.partial().sums[0].sum() == 2 * len(FIELDS)


def test_a_table_that_has_seen_nothing_has_a_part_without_cases() -> None:
    partial = CountTable(ROWS, CPU).partial()
    assert partial.cases == ()
    assert partial.sums.shape == (3, 0, 0, len(FIELDS))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_parts_of_several_processes_add_up(owners: list[int]) -> None:
    """Whichever process gets which slice, and in whatever order the parts come."""
    draw = np.random.default_rng(len(owners))
    values = [_values(draw, 1, 2) for _ in owners]
    cases = [f"case_{number // 3}" for number in range(len(owners))]

    def frame(dealt: list[int]) -> pd.DataFrame:
        tables = {owner: CountTable(ROWS, CPU) for owner in sorted(set(dealt), reverse=True)}
        for owner, case, value in zip(dealt, cases, values, strict=True):
            for row in range(3):
                slots = tables[owner].slots([case], 2)
                tables[owner].add(torch.tensor([row]), slots, (value + row)[None])
        return counts_frame([table.partial() for table in tables.values()], ROWS, class_names(2))

    assert frame(owners).equals(frame([0] * len(owners)))


def test_rows_come_by_disturbance_then_case_name_then_class() -> None:
    sums = np.arange(3 * 2 * 2 * len(FIELDS)).reshape(3, 2, 2, len(FIELDS))
    part = PartialCounts(("b", "a"), sums)
    frame = counts_frame([part], ROWS, ["left", "right"])
    assert list(frame.columns) == list(COLUMNS)
    keys = frame[["attack", "axis", "point_index", "point", "repeat", "case", "class"]]
    assert keys.to_numpy().tolist() == [
        [row.attack, row.axis, row.point_index, row.point, row.repeat, case, name]
        for row in ROWS
        for case in ("a", "b")
        for name in ("left", "right")
    ]
    numbers = frame[list(FIELDS)].to_numpy().reshape(3, 2, 2, len(FIELDS))
    assert np.array_equal(numbers, sums[:, ::-1])


def test_parts_with_other_classes_are_refused() -> None:
    part = PartialCounts(("a",), np.zeros((3, 1, 2, len(FIELDS)), dtype=np.int64))
    with pytest.raises(ValueError, match=r"counts of 2 classes, names of 1: \['one'\]"):
        counts_frame([part], ROWS, ["one"])


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return count(ConvNet(classes=2).eval(), make_slices(6, classes=2), few_attacks())


def test_the_file_has_the_columns_types_and_metadata_of_the_contract(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    write_counts(tmp_path / "counts.parquet", frame, METADATA)
    table = pq.read_table(tmp_path / "counts.parquet")
    assert {entry.name: str(entry.type) for entry in table.schema} == COLUMNS
    assert table.column_names == list(COLUMNS)
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata == {**METADATA, "schema_version": "1"}


def test_what_is_written_is_read_back(frame: pd.DataFrame, tmp_path: Path) -> None:
    write_counts(tmp_path / "counts.parquet", frame, METADATA)
    found = read_counts(tmp_path / "counts.parquet")
    pd.testing.assert_frame_equal(found.frame, frame)
    assert found.frame.dtypes.equals(frame.dtypes)
    assert found.metadata == {**METADATA, "schema_version": "1"}
    assert len(found.frame) == len(make_plan(few_attacks()).rows) * 3 * 2


def test_large_numbers_and_odd_names_survive(tmp_path: Path) -> None:
    sums = np.full((3, 1, 1, len(FIELDS)), 2**62 - 1)
    frame = counts_frame([PartialCounts(("hippocampe é/1",), sums)], ROWS, ["gauche"])
    write_counts(tmp_path / "counts.parquet", frame, {})
    pd.testing.assert_frame_equal(read_counts(tmp_path / "counts.parquet").frame, frame)


def test_a_table_without_slices_survives(tmp_path: Path) -> None:
    frame = counts_frame([CountTable(ROWS, CPU).partial()], ROWS, ["one"])
    write_counts(tmp_path / "counts.parquet", frame, METADATA)
    found = read_counts(tmp_path / "counts.parquet")
    assert found.frame.empty
    assert list(found.frame.columns) == list(COLUMNS)


def test_another_schema_version_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "counts.parquet"
    write_counts(path, frame, METADATA)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"schema_version": "0"}), path)
    with pytest.raises(ValueError, match=r"counts.parquet: schema version 0, expected 1; evaluate"):
        read_counts(path)
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(ValueError, match="schema version none, expected 1"):
        read_counts(path)


def test_other_columns_or_types_are_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "counts.parquet"
    write_counts(path, frame, METADATA)
    table = pq.read_table(path)
    index = table.column_names.index("tp")
    for other in (
        table.drop_columns(["slices_all"]),
        table.set_column(index, "tp", table["tp"].cast(pa.float64())),
    ):
        pq.write_table(other, path)
        with pytest.raises(ValueError, match=r"counts.parquet: columns attack, .*expected attack"):
            read_counts(path)


def test_a_file_that_is_no_table_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "counts.parquet"
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_counts(path)
    write_counts(path, frame, METADATA)
    whole = path.read_bytes()
    for broken in (b"", b"no table", whole[: len(whole) // 2], b"PAR1" + whole[4:-8] + b"PAR1"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="not a readable Parquet file") as caught:
            read_counts(path)
        assert str(path) in str(caught.value)
