"""The table of distances: its rows, its summary and its file."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustness.counts import write_counts
from robustness.distances import (
    DistanceTable,
    distances_frame,
    median_distances,
    read_distances,
    share_broken,
    write_distances,
)
from tests.robustness.toy import CPU, ConvNet, count, few_attacks, make_slices

NAN, INF = math.nan, math.inf
COLUMNS = [
    *("attack", "norm", "point_index", "threshold", "repeat", "case", "slice_index"),
    *("distance", "clean_dice"),
]


@dataclass(frozen=True)
class Known:
    """Stands where an attack would."""

    name: str
    norm: str = "linf"
    points: tuple[float, ...] = (0.25, 0.5)


def table(*rows: tuple[str, int, float], attack: str = "a", point: int = 1) -> DistanceTable:
    """One batch of (case, slice, distance)."""
    made = DistanceTable()
    cases, slices, distances = zip(*rows, strict=True)
    made.add(
        Known(attack),
        point_index=point,
        repeat=0,
        cases=cases,
        slice_index=torch.tensor(slices),
        distances=torch.tensor(distances, dtype=torch.float64),
        clean_dice=torch.tensor([0.75] * len(rows), dtype=torch.float64),
    )
    return made


def frame_of(distances: list[float]) -> pd.DataFrame:
    return distances_frame([table(*(("x", i, d) for i, d in enumerate(distances))).partial()])


def test_a_row_says_whose_slice_it_is_and_how_far() -> None:
    frame = distances_frame([table(("y", 3, 0.1), ("x", 7, INF)).partial()])
    assert list(frame.columns) == COLUMNS
    assert frame.to_numpy().tolist() == [
        ["a", "linf", 1, 0.5, 0, "x", 7, INF, 0.75],
        ["a", "linf", 1, 0.5, 0, "y", 3, 0.1, 0.75],
    ]


def test_slices_that_fill_up_a_batch_are_left_out() -> None:
    made = DistanceTable()
    values = torch.tensor([0.1, 0.2, 0.2], dtype=torch.float64)
    made.add(
        Known("a"),
        point_index=0,
        repeat=0,
        cases=["x", "y"],
        slice_index=torch.tensor([4, 5, 5]),
        distances=values,
        clean_dice=values,
    )
    assert made.partial()["slice_index"].tolist() == [4, 5]
    assert made.partial()["distance"].tolist() == [0.1, 0.2]


def test_the_order_of_processes_does_not_matter() -> None:
    rows = [("z", 0, 0.3), ("x", 1, NAN), ("x", 0, 0.0), ("y", 2, INF)]
    parts = [table(row, attack=name).partial() for row in rows for name in ("b", "a")]
    parts.append(DistanceTable().partial())
    frame = distances_frame(parts)
    pd.testing.assert_frame_equal(frame, distances_frame(parts[::-1]))
    keys = frame[["attack", "case", "slice_index"]].to_numpy().tolist()
    assert keys == sorted(keys)
    assert len(keys) == 8


def test_a_slice_that_two_processes_measured_is_refused() -> None:
    part = table(("x", 3, 0.1)).partial()
    with pytest.raises(ValueError, match="slice 3 of x was measured more than once by a"):
        distances_frame([part, part])


def test_nothing_measured_gives_an_empty_table() -> None:
    frame = distances_frame([])
    assert list(frame.columns) == COLUMNS
    assert len(frame) == len(share_broken(frame, [0.1])) == len(median_distances(frame)) == 0


def test_the_share_of_broken_slices_counts_those_with_truth() -> None:
    found = share_broken(frame_of([0.0, 0.1, 0.3, INF, NAN]), [0.0, 0.05, 0.1, 0.3, 1.0])
    assert found["share"].tolist() == [0.25, 0.25, 0.5, 0.75, 0.75]
    assert set(found["slices"]) == {4}
    assert set(found["threshold"]) == {0.5}


@given(
    st.lists(st.floats(0, 1) | st.sampled_from([INF, NAN]), min_size=1, max_size=20),
    st.lists(st.floats(0, 1), min_size=2, max_size=5),
)
def test_the_share_rises_with_the_distance(distances: list[float], epsilons: list[float]) -> None:
    shares = share_broken(frame_of(distances), sorted(epsilons))["share"]
    assert shares.is_monotonic_increasing
    assert shares.between(0, 1).all()


@pytest.mark.parametrize(
    ("distances", "median"),
    [
        ([0.3, 0.1, 0.2], 0.2),
        ([0.4, 0.1, 0.2, 0.0], 0.15),
        ([0.1, 0.2, INF], 0.2),
        ([0.1, 0.2, INF, INF], INF),
        ([INF, INF, INF, 0.1], INF),
        ([INF, INF], INF),
        ([NAN, 0.1, NAN], 0.1),
    ],
)
def test_the_median_is_infinite_where_half_never_breaks(
    distances: list[float], median: float
) -> None:
    (found,) = median_distances(frame_of(distances)).to_dict("records")
    assert found["median"] == pytest.approx(median)
    assert found["slices"] == sum(not math.isnan(one) for one in distances)
    assert found["never_broken"] == distances.count(INF)
    assert found["already_broken"] == distances.count(0.0)


def test_attacks_and_thresholds_are_summed_up_apart() -> None:
    parts = [
        table(("x", 0, 0.1 * number), attack=name, point=point).partial()
        for number, (name, point) in enumerate([("a", 0), ("a", 1), ("b", 0)])
    ]
    found = median_distances(distances_frame(parts))
    assert found[["attack", "threshold"]].to_numpy().tolist() == [
        ["a", 0.25],
        ["a", 0.5],
        ["b", 0.25],
    ]
    assert found["median"].tolist() == pytest.approx([0.0, 0.1, 0.2])


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    frame, path = frame_of([0.0, 0.1, INF, NAN]), tmp_path / "distances.parquet"
    write_distances(path, frame, {"data": "d"})
    found = read_distances(path)
    pd.testing.assert_frame_equal(found.frame, frame)
    assert found.metadata == {"data": "d", "schema_version": "1"}
    column = pq.read_table(path)["distance"]
    assert column.null_count == 0
    assert np.isnan(column.to_numpy()[3])


def test_an_empty_table_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "distances.parquet"
    write_distances(path, distances_frame([]), {})
    assert list(read_distances(path).frame.columns) == COLUMNS


def test_files_that_are_no_such_table_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "distances.parquet"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_distances(path)
    pq.write_table(pa.table({"attack": ["a"]}), path)
    with pytest.raises(ValueError, match="schema version none, expected 1"):
        read_distances(path)
    slices = make_slices(2, size=12)
    write_counts(path, count(ConvNet().eval().to(CPU), slices, few_attacks()[:1]), {})
    with pytest.raises(ValueError, match=r"columns attack, axis, .*expected attack, norm"):
        read_distances(path)
