"""Every benchmark measures what its rows say, here on a few slices of the phantom."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import bare, engine, forms, growth, repeats, roofline
from benchmarks.data import Slices, slices
from benchmarks.memory import peak_gigabytes
from robustness.plan import make_plan
from tests.robustness.toy import CallCounter
from tests.tools import needs_compiler

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def given() -> Iterator[Slices]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SEGSTRESS_DATA", raising=False)
        with slices() as found:
            yield found


def test_the_slices_are_those_of_the_first_cases_in_order(given: Slices) -> None:
    batch = given.batch("test", cases=2)
    assert list(dict.fromkeys(batch["case"])) == list(given.data.split_cases("test")[:2])
    assert len(batch["image"]) == len(batch["slice_index"]) == len(batch["case"])
    few = given.batch("test", slices=3)
    assert torch.equal(few["image"], batch["image"][:3])
    assert few["slice_index"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("forward", "backward"), [(3, 0), (2, 2)])
def test_bare_passes_are_as_many_as_asked_for(forward: int, backward: int) -> None:
    image = torch.rand(10, 1, 16, 16)
    network = bare.training_network().eval()
    counter = CallCounter(network)
    alone = bare.Bare(network, 4, "channels_last")
    object.__setattr__(alone, "network", counter)
    alone.passes(image, forward, backward)
    assert counter.forwards == 3 * (forward + backward)
    assert counter.backwards == 3 * backward


def test_each_of_the_papers_attacks_has_a_row(given: Slices) -> None:
    rows = engine.measure(given, number=16, rounds=1, repeats=1)
    names = [attack.name for attack in engine.paper_attacks(1)]
    assert [name in row.name for name, row in zip(names, rows, strict=True)] == [True] * 4
    assert all(0.1 < row.median < 10 for row in rows)


@needs_compiler
def test_each_form_of_the_network_and_early_leave_have_a_row(given: Slices) -> None:
    rows = forms.measure(given, number=32, rounds=1, steps=2)
    words = ["contiguous", "compiled", "bfloat16", "least length"]
    assert [word in row.name for word, row in zip(words, rows, strict=True)] == [True] * 4
    assert all(0 < row.median < 100 for row in rows)


def test_enough_repeats_are_compared_with_all_and_their_means_shown(given: Slices) -> None:
    (passes, share), lines = repeats.measure(given, cases=3, repeats=8, every=1, epochs=1, seeds=2)
    assert passes.median > 0
    assert 0 < share.median < 2
    counts = make_plan(engine.paper_attacks(8)).attacks[-1].points
    assert lines[0].startswith("Repeats of all points together, seed by seed: ")
    assert len(lines) == 4 + len(counts)


def test_time_grows_by_each_axis(given: Slices, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"points": growth.AXES["points"]}
    monkeypatch.setattr(growth, "AXES", few)
    (row,) = growth.measure(given, rounds=1)
    assert "slope by points" in row.name
    assert math.isfinite(row.median)


def test_the_roofline_is_above_what_is_reached(given: Slices) -> None:
    table = roofline.measure(given)
    shares = [line for line in table if "share of the time" in line]
    total = sum(int(line.split("|")[2].strip(" %")) for line in shares)
    assert 97 <= total <= 103
    (reached,) = [line for line in table if "of the matrix limit" in line]
    assert 0 < int(reached.split("|")[2].strip(" %")) <= 100


def test_flop_are_those_of_the_convolutions_by_hand() -> None:
    """Two for each weight and pixel."""
    network = bare.Bare(bare.training_network().eval(), 2, "channels_last")
    by_hand = 0
    for layer, (batch, _, rows, columns) in roofline._convolutions(network, 16, 16):
        # A transposed convolution of stride 2 and kernel 2, too, uses a weight once a pixel.
        weights = sum(one.numel() for one in layer.parameters() if one.ndim > 1)
        by_hand += 2 * batch * rows * columns * weights
    with torch.no_grad():
        found = roofline._flops(partial(network.network, torch.rand(2, 1, 16, 16)))
    assert found == by_hand


def test_the_peak_of_a_small_training_is_that_of_a_process(tmp_path: Path) -> None:
    assert 0.2 < peak_gigabytes(8, tmp_path) < 3
