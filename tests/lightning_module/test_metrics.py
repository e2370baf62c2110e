import json
import math
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import distributed

from lightning_module.metrics import VolumeOverlap

CLASSES = ("anterior", "posterior")
Mask = NDArray[np.bool_]


@st.composite
def slices(draw: st.DrawFn) -> tuple[Mask, Mask, list[str]]:
    """Prediction, truth and case of some slices; masks are empty often."""
    count = draw(st.integers(1, 8))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    density = random.choice([0.0, 0.1, 0.6], size=(2, count, 2, 1, 1))
    pred, truth = random.random((2, count, 2, 3, 4)) < density
    cases = draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    return pred, truth, cases


def in_a_loop(pred: Mask, truth: Mask, cases: list[str]) -> dict[str, float]:
    """The protocol's scores, one volume and class at a time."""
    dice: dict[str, list[float]] = {name: [] for name in CLASSES}
    iou: dict[str, list[float]] = {name: [] for name in CLASSES}
    left_out = 0
    for case in sorted(set(cases)):
        own = np.array([name == case for name in cases])
        for index, name in enumerate(CLASSES):
            found, true = pred[own, index], truth[own, index]
            if not found.any() and not true.any():
                left_out += 1
                continue
            dice[name].append(2 * np.sum(found & true) / (np.sum(found) + np.sum(true)))
            iou[name].append(np.sum(found & true) / np.sum(found | true))
    result: dict[str, float] = {"volumes": len(set(cases)), "left_out": left_out}
    for score, values in (("dice", dice), ("iou", iou)):
        means = {name: sum(own) / len(own) if own else math.nan for name, own in values.items()}
        known = [mean for mean in means.values() if not math.isnan(mean)]
        result[score] = sum(known) / len(known) if known else math.nan
        result |= {f"{score}/{name}": mean for name, mean in means.items()}
    return result


def measure(pred: Mask, truth: Mask, cases: list[str], batch_size: int = 3) -> dict[str, float]:
    overlap = VolumeOverlap(CLASSES)
    for start in range(0, len(cases), batch_size):
        part = slice(start, start + batch_size)
        mask = torch.from_numpy(truth[part]).float()
        overlap.update(torch.from_numpy(pred[part]), mask, cases[part])
    return overlap.compute()


@given(slices())
def test_scores_are_those_of_a_loop_over_volumes(data: tuple[Mask, Mask, list[str]]) -> None:
    assert measure(*data) == pytest.approx(in_a_loop(*data), abs=1e-12, nan_ok=True)


@given(slices(), st.integers(1, 8))
def test_order_and_batches_do_not_matter_to_the_last_bit(
    data: tuple[Mask, Mask, list[str]], batch_size: int
) -> None:
    pred, truth, cases = data
    order = list(reversed(range(len(cases))))

    moved = measure(pred[order], truth[order], [cases[i] for i in order], batch_size)

    assert json.dumps(moved) == json.dumps(measure(pred, truth, cases))


def test_truth_alone_empty_scores_nothing_and_both_empty_is_left_out() -> None:
    pred, truth = torch.zeros(2, 3, 1, 4, 4, dtype=torch.bool)
    pred[0, :, 0, 0] = truth[0, :, 0, 0] = True
    pred[1, :, 0, 0] = True
    overlap = VolumeOverlap(["foreground"])

    overlap.update(pred, truth, ["hit", "false_alarm", "silent"])

    assert overlap.compute() == {
        "volumes": 3.0,
        "left_out": 1.0,
        "dice": 0.5,
        "dice/foreground": 0.5,
        "iou": 0.5,
        "iou/foreground": 0.5,
    }


def test_slices_of_a_volume_are_added_before_the_ratio() -> None:
    pred, truth = torch.zeros(2, 2, 1, 2, 2, dtype=torch.bool)
    truth[:] = True
    pred[0] = True
    overlap = VolumeOverlap(["foreground"])

    for index in range(2):
        overlap.update(pred[index : index + 1], truth[index : index + 1], ["case"])

    assert overlap.compute()["dice"] == pytest.approx(2 * 4 / (4 + 8))


def test_reset_forgets() -> None:
    overlap = VolumeOverlap(["foreground"])
    overlap.update(torch.ones(1, 1, 2, 2).bool(), torch.zeros(1, 1, 2, 2), ["before"])
    overlap.reset()

    overlap.update(torch.ones(1, 1, 2, 2).bool(), torch.ones(1, 1, 2, 2), ["after"])

    assert (overlap.compute()["volumes"], overlap.compute()["dice"]) == (1.0, 1.0)


@pytest.mark.parametrize("classes", [1, 3])
def test_shapes_that_do_not_fit_are_refused(classes: int) -> None:
    pred = torch.ones(2, classes, 4, 4, dtype=torch.bool)

    with pytest.raises(ValueError, match=rf"pred has shape \(2, {classes}, 4, 4\)"):
        VolumeOverlap(CLASSES).update(pred, pred.float(), ["a", "b"])


@pytest.mark.filterwarnings(
    # Python 3.12 says so of any fork beside torch's threads; the children start no parallel work.
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
@pytest.mark.filterwarnings("ignore:The ``compute`` method .* called before:UserWarning")
@pytest.mark.parametrize("first_rank_has", [8, 5, 9])
def test_two_processes_with_unequal_shares_give_the_scores_of_one(
    first_rank_has: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    pred, truth = random.random((2, 9, 2, 3, 4)) < 0.4
    cases = ["b", "b", "a", "c", "a", "b", "c", "c", "d"]

    data = (tmp_path, first_rank_has, pred, truth, cases)

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_share, args=(rank, *data)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0]

    expected = json.dumps(measure(pred, truth, cases))
    assert [(tmp_path / f"{rank}.json").read_text() for rank in range(2)] == [expected] * 2


def _share(
    rank: int, folder: Path, first_rank_has: int, pred: Mask, truth: Mask, cases: list[str]
) -> None:
    """Measure the share of one of two processes and write down what it comes to."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    share = slice(0, first_rank_has) if rank == 0 else slice(first_rank_has, None)
    scores = measure(pred[share], truth[share], cases[share])
    (folder / f"{rank}.json").write_text(json.dumps(scores))
    distributed.destroy_process_group()
