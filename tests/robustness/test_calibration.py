"""The table of bins gives the same calibration error as one computed from all pixels at once."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustness.calibration import (
    BINS,
    CalibrationTable,
    bin_places,
    calibration_frame,
    ece,
    read_calibration,
    write_calibration,
)
from robustness.counts import CLEAN_ROW, Row

CPU = torch.device("cpu")
ROWS = [CLEAN_ROW, *(Row("pgd", "epsilon", 0, 0.02, repeat) for repeat in (0, 1))]
CLASSES = ("left", "right")
SHAPE = (5, 2, 6, 7)

Pixels = tuple[Tensor, Tensor, Tensor]


def made(seed: int, batch: int = SHAPE[0]) -> Pixels:
    """Probabilities, of which some are exactly 0 and 1, truth, and what is counted."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, *SHAPE[1:])
    probs = (4 * torch.randn(shape, generator=generator)).sigmoid()
    probs[:, :, 0, :2] = torch.tensor([0.0, 1.0])
    truth = torch.rand(shape, generator=generator) < 0.3 + 0.4 * probs
    counted = torch.rand((batch, 1, *SHAPE[2:]), generator=generator) < 0.8
    return probs, truth, counted


def by_hand(pixels: list[Pixels]) -> float:
    """ECE of all pixels of several batches, bin by bin in float64; the mean over classes."""
    edges = np.linspace(0, 1, 16)
    errors = []
    for name in range(pixels[0][0].shape[1]):
        probs = np.concatenate([p[:, name][c[:, 0]].double().numpy() for p, _, c in pixels])
        truth = np.concatenate([t[:, name][c[:, 0]].double().numpy() for _, t, c in pixels])
        error = 0.0
        for low, high in pairwise(edges):
            inside = (probs >= low) & ((probs < high) | (high == 1.0))
            if inside.any():
                gap = abs(truth[inside].mean() - probs[inside].mean())
                error += inside.sum() / len(probs) * gap
        errors.append(error)
    return float(np.mean(errors))


def table_of(pixels: dict[int, list[Pixels]]) -> CalibrationTable:
    table = CalibrationTable(ROWS, CPU)
    for row, batches in pixels.items():
        for probs, truth, counted in batches:
            table.add(torch.tensor([row]), probs[None], bin_places(truth, counted))
    return table


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_the_error_is_that_of_all_pixels_at_once(seed: int) -> None:
    pixels = {0: [made(seed), made(seed + 1, batch=2)], 1: [made(seed + 2)], 2: [made(seed + 3)]}
    found = ece(calibration_frame([table_of(pixels).partial()], ROWS, CLASSES))
    assert found["attack"].tolist() == ["clean", "pgd"]
    assert found["point"].tolist() == [0.0, 0.02]
    expected = [by_hand(pixels[0]), by_hand(pixels[1] + pixels[2])]
    # Probabilities are rounded to 2**-20, on both sides of a bin's edge as well.
    assert found["ece"].tolist() == pytest.approx(expected, abs=1e-5)
    counted = [sum(int(c.sum()) for _, _, c in pixels[0])]
    counted += [sum(int(c.sum()) for _, _, c in pixels[1] + pixels[2])]
    assert found["pixels"].tolist() == counted


def test_the_bins_hold_every_counted_pixel_once() -> None:
    probs, truth, counted = made(0)
    partial = table_of({0: [(probs, truth, counted)]}).partial()
    assert partial.shape == (len(ROWS), len(CLASSES), BINS, 3)
    for name in range(len(CLASSES)):
        chosen = probs[:, name][counted[:, 0]]
        pixels, true, total = partial[0, name].T
        assert pixels.sum() == len(chosen)
        assert true.sum() == truth[:, name][counted[:, 0]].sum()
        assert total.sum() == (chosen.double() * 2**20).round().sum()
        expected, _ = np.histogram(chosen.double().numpy(), np.linspace(0, 1, BINS + 1))
        assert pixels.tolist() == expected.tolist()
    assert not partial[1:].any()


def test_the_table_does_not_depend_on_how_slices_are_dealt_out() -> None:
    probs, truth, counted = made(3)
    whole = calibration_frame([table_of({1: [(probs, truth, counted)]}).partial()], ROWS, CLASSES)
    halves = [
        table_of({1: [(probs[part], truth[part], counted[part])]}).partial()
        for part in (slice(0, 1), slice(1, None))
    ]
    idle = CalibrationTable(ROWS, CPU).partial()
    assert calibration_frame([*halves, idle], ROWS, CLASSES).equals(whole)


@pytest.mark.parametrize(("share", "answer"), [(0.75, 0.75), (0.5, 0.9), (0.0, 1.0), (1.0, 1.0)])
def test_a_constant_answer_is_off_by_what_it_is_off(share: float, answer: float) -> None:
    truth = torch.arange(16).reshape(1, 1, 4, 4) < 16 * share
    probs = torch.full(truth.shape, answer)
    table = CalibrationTable([CLEAN_ROW], CPU)
    table.add(torch.tensor([0]), probs[None], bin_places(truth, torch.ones_like(truth)))
    found = ece(calibration_frame([table.partial()], [CLEAN_ROW], ["a"]))
    assert found["ece"].tolist() == pytest.approx([abs(share - answer)], abs=1e-6)


def test_nothing_counted_has_no_error() -> None:
    probs, truth, counted = made(0)
    table = table_of({0: [(probs, truth, counted & False)]})
    found = ece(calibration_frame([table.partial()], ROWS, CLASSES))
    assert found["ece"].isna().all()
    assert found["pixels"].tolist() == [0, 0]


def test_half_precision_is_counted_as_the_numbers_that_it_holds() -> None:
    probs, truth, counted = made(5)
    half = probs.half()
    found = table_of({0: [(half, truth, counted)]}).partial()
    assert (found == table_of({0: [(half.float(), truth, counted)]}).partial()).all()


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    frame = calibration_frame([table_of({0: [made(0)], 2: [made(1)]}).partial()], ROWS, CLASSES)
    path = tmp_path / "calibration.parquet"
    write_calibration(path, frame, {"data": "d"})
    found = read_calibration(path)
    assert found.frame.equals(frame)
    assert found.metadata == {"data": "d", "schema_version": "1"}


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.parquet"
    path.write_text("none")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_calibration(path)


def test_another_number_of_classes_is_refused() -> None:
    partial = table_of({0: [made(0)]}).partial()
    with pytest.raises(ValueError, match="calibration of 2 classes, names of 1"):
        calibration_frame([partial], ROWS, ["left"])
