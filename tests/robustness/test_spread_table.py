from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.objectives import Objective
from robustness.spread import measure_names, spread, truth_regions
from robustness.spread_table import (
    case_means,
    measure_spread,
    read_spread,
    spread_frame,
    write_spread,
)
from robustness.temperature import OUTPUTS, output_objectives
from tests.robustness.toy import CPU, ConvNet, as_batch, batches_of, make_slices

SLICES = make_slices(10, classes=2)
NETWORK = ConvNet(classes=2)


def gradient(batch: AttackBatch, objective: Objective) -> Tensor:
    return batch.ascent(objective, batch.image).gradient


def brightness(batch: AttackBatch, objective: Objective) -> Tensor:
    return batch.image


METHODS = {"gradient": gradient, "brightness": brightness}


def table(*, batch_size: int = 4, valid_only: bool = False) -> pd.DataFrame:
    return measure_spread(
        NETWORK,
        batches_of(SLICES, 3),
        METHODS,
        output_objectives(3.0),
        device=CPU,
        batch_size=batch_size,
        valid_only=valid_only,
    )


def values(frame: pd.DataFrame, **wanted: str) -> pd.Series:
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    return frame.set_index(["case", "slice_index"])["value"]


def test_one_row_for_each_slice_output_method_and_measure() -> None:
    frame = table()
    assert len(frame) == 10 * len(OUTPUTS) * len(METHODS) * len(measure_names())
    key = ["case", "slice_index", "output", "method", "measure"]
    assert not frame.duplicated(key).any()
    assert frame[key].equals(frame[key].sort_values(key, ignore_index=True))


@pytest.mark.parametrize("valid_only", [False, True])
def test_values_are_those_of_the_slice_alone(valid_only: bool) -> None:
    frame = table(valid_only=valid_only)
    for output, objective in output_objectives(3.0).items():
        for number, one in enumerate(SLICES):
            batch = as_batch([one])
            maps = gradient_of(objective, batch["image"], batch["mask"], batch["valid"])
            counted = batch["valid"] if valid_only else None
            expected = spread(maps, truth_regions(batch["mask"]), counted=counted)
            for name in ("effective_pixels", "radius"):
                found = values(frame, output=output, method="gradient", measure=name)
                assert float(found[(one.case, one.index)]) == pytest.approx(
                    float(expected[name]), rel=1e-4, nan_ok=True
                ), number


def gradient_of(objective: Objective, image: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    leaf = image.clone().requires_grad_()
    (found,) = torch.autograd.grad(objective(NETWORK(leaf), mask, valid).sum(), leaf)
    return found


def test_a_map_without_the_network_is_the_same_for_each_output() -> None:
    frame = table()
    for name in measure_names():
        first, *others = (
            values(frame, output=output, method="brightness", measure=name) for output in OUTPUTS
        )
        for other in others:
            pd.testing.assert_series_equal(first, other)


def test_foreground_is_told_and_radius_unknown_without() -> None:
    frame = table()
    truth = {(one.case, one.index): bool(one.mask.any()) for one in SLICES}
    keys = zip(frame["case"], frame["slice_index"], strict=True)
    assert frame["foreground"].tolist() == [truth[key] for key in keys]
    radius = frame[frame["measure"] == "radius"]
    assert (radius["value"].isna() == ~radius["foreground"]).all()
    assert not frame[frame["measure"] == "gini"]["value"].isna().any()


def test_batch_size_does_not_matter() -> None:
    pd.testing.assert_frame_equal(table(batch_size=3), table(batch_size=32), rtol=1e-4)


def test_means_over_the_slices_of_a_case() -> None:
    frame = table()
    means = case_means(frame)
    kept = frame[frame["foreground"] & frame["value"].notna()]
    for keys, part in means.groupby(["case", "output", "method", "measure"]):
        case, output, method, measure = map(str, keys)
        found = values(kept, case=case, output=output, method=method, measure=measure)
        assert len(found) == sum(one.case == case and one.mask.any() for one in SLICES)
        assert part["slices"].tolist() == [len(found)]
        assert part["value"].tolist() == pytest.approx([sum(found.tolist()) / len(found)])
    # The third case has no slice with truth.
    assert len(means) == 2 * 6 * len(measure_names())
    everything = case_means(frame, foreground_only=False)
    assert everything[everything["measure"] == "gini"]["slices"].sum() == 10 * 6
    assert everything[everything["measure"] == "radius"]["slices"].sum() == 7 * 6


def test_parts_of_processes_make_the_same_table() -> None:
    frame = table()
    odd = frame["slice_index"] % 2 == 1
    pd.testing.assert_frame_equal(spread_frame([frame[odd], frame[~odd]]), frame)
    with pytest.raises(ValueError, match="measured more than once"):
        spread_frame([frame, frame[odd]])


def test_the_file_gives_the_table_back(tmp_path: Path) -> None:
    path, frame = tmp_path / "spread.parquet", table()
    write_spread(path, frame, {"temperature": "3.0"})
    stored = read_spread(path)
    pd.testing.assert_frame_equal(stored.frame, frame, check_exact=True)
    assert stored.metadata["temperature"] == "3.0"
    assert stored.metadata["schema_version"] == "1"


def test_no_slices_give_an_empty_table(tmp_path: Path) -> None:
    empty = measure_spread(NETWORK, [], METHODS, output_objectives(1.0), device=CPU)
    assert len(empty) == 0
    path = tmp_path / "spread.parquet"
    write_spread(path, empty, {})
    pd.testing.assert_frame_equal(read_spread(path).frame, empty)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spread.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(path)
    with pytest.raises(ValueError, match="schema version none, expected 1"):
        read_spread(path)
