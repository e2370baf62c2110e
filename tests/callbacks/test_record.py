"""What is written of an evaluation follows from its counts alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from callbacks.record import Evaluation, record_curves, record_evaluation
from robustness.calibration import calibration_frame
from robustness.counts import counts_frame
from robustness.directed import Fgsm
from robustness.distances import distances_frame
from robustness.engine import evaluate
from robustness.minimum_norm import MinimumNormAttack
from robustness.plan import make_plan
from robustness.scores import valid_pixels_q20
from robustness.snapshots import LargestSlices, Snapshot, take_snapshots
from tests.callbacks.toy import ATTACKS, ToyModule, val_loader
from tests.places import NewLogger, Place
from tracking.reading import (
    fetch_calibration,
    fetch_counts,
    fetch_distances,
    fetch_snapshots,
    list_runs,
)

METADATA = {"data": "d", "split": "s", "attacks": "a", "split_name": "test"}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    plan = make_plan(ATTACKS)
    device = torch.device("cpu")
    measured = evaluate(ToyModule().eval(), val_loader(), plan, device=device, batch_size=16)
    return counts_frame([measured.counts.partial()], plan.rows, ["foreground"])


@pytest.fixture(scope="module")
def snapshots() -> list[Snapshot]:
    chooser = LargestSlices(1)
    for batch in val_loader():
        chooser.look(batch)
    return take_snapshots(
        ToyModule().eval(), chooser.samples(), ATTACKS[0], device=torch.device("cpu"), batch_size=16
    )


def dice_by_hand(frame: pd.DataFrame, attack: str) -> dict[float, float]:
    """Mean Dice by point: over repeats, then over cases, in plain Python."""
    points: dict[float, dict[str, list[float]]] = {}
    for _, row in frame[frame["attack"] == attack].iterrows():
        dice = 2 * row["tp"] / (2 * row["tp"] + row["fp"] + row["fn"])
        points.setdefault(row["point"], {}).setdefault(row["case"], []).append(dice)
    return {
        point: float(np.mean([np.mean(repeats) for repeats in cases.values()]))
        for point, cases in points.items()
    }


def test_scalars_and_curves_are_those_of_the_counts(
    place: Place, new_logger: NewLogger, frame: pd.DataFrame
) -> None:
    logger = new_logger()
    record_evaluation(logger, Evaluation("test", 7, frame, METADATA, []))
    record_curves(logger, Evaluation("test", 7, frame, METADATA, []))
    logger.send()
    stored = place.client.get_run(str(logger.version)).data.metrics
    clean = dice_by_hand(frame, "clean")[0.0]
    levels = dice_by_hand(frame, "top5_beyond_range")
    pixels = dice_by_hand(frame, "topn_random")
    for point, dice in levels.items():
        assert stored[f"test/top5_beyond_range/dice_at_{point:g}"] == pytest.approx(dice)
    for point, dice in pixels.items():
        assert stored[f"test/topn_random/dice_at_{point:g}"] == pytest.approx(dice)
    # Trapezoids: levels 0, 0.4, 1; pixels 2, 8 after 0, the clean image.
    area = (levels[0.0] + levels[0.4]) / 2 * 0.4 + (levels[0.4] + levels[1.0]) / 2 * 0.6
    assert stored["test/top5_beyond_range/auc"] == pytest.approx(area)
    area = ((clean + pixels[2]) / 2 * 2 + (pixels[2] + pixels[8]) / 2 * 6) / 8
    assert stored["test/topn_random/auc"] == pytest.approx(area)

    history = place.stored(str(logger.version)).metrics
    assert [step for step, _ in history["test/topn_random/auc"]] == [7]
    curve = [float.fromhex(value) for _, value in history["test/top5_beyond_range/dice"]]
    assert curve == pytest.approx(list(levels.values()))
    axis = [float.fromhex(value) for _, value in history["test/top5_beyond_range/level"]]
    assert axis == [0.0, 0.4, 1.0]


def test_nothing_in_the_keys_needs_escaping(
    place: Place, new_logger: NewLogger, frame: pd.DataFrame
) -> None:
    logger = new_logger()
    record_evaluation(logger, Evaluation("test", 0, frame, METADATA, []))
    record_curves(logger, Evaluation("test", 0, frame, METADATA, []))
    keys = {key for key, *_ in logger.unsent}
    assert keys
    for key in keys:
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-/"), key


def test_an_evaluation_that_is_not_the_last_draws_no_curves(
    place: Place, new_logger: NewLogger, frame: pd.DataFrame
) -> None:
    logger = new_logger()
    record_evaluation(logger, Evaluation("val", 0, frame, METADATA, []))
    keys = {key for key, *_ in logger.unsent}
    assert "val/topn_random/auc" in keys
    assert "val/topn_random/dice" not in keys
    assert "val/topn_random/pixels" not in keys


def test_counts_and_maps_come_back(
    place: Place, new_logger: NewLogger, frame: pd.DataFrame, snapshots: list[Snapshot]
) -> None:
    logger = new_logger()
    found = Evaluation("test", 0, frame, METADATA, snapshots)
    record_evaluation(logger, found)
    record_curves(logger, found)
    (run,) = list_runs("trials")
    counts = fetch_counts(run, "test")
    assert counts is not None
    pd.testing.assert_frame_equal(counts.frame, frame)
    assert METADATA.items() <= counts.metadata.items()
    (stored,) = fetch_snapshots(run, "test")
    np.testing.assert_array_equal(stored.attacked_probs, snapshots[0].attacked_probs)


def test_each_figure_is_a_picture_of_its_case(
    place: Place, new_logger: NewLogger, frame: pd.DataFrame, snapshots: list[Snapshot]
) -> None:
    logger = new_logger()
    found = Evaluation("test", 3, frame, METADATA, snapshots)
    record_evaluation(logger, found)
    record_curves(logger, found)
    record_evaluation(logger, found)
    paths = place.paths(str(logger.version))
    case = snapshots[0].case
    small = ("grid/attacks", "grid/saliency")
    pictures = [
        f"{folder}/{case}.png" for folder in ("attacks", *small, "margins", "masks", "saliency")
    ]
    assert [path for path in paths if path.endswith(f"/{case}.png")] == pictures
    grid = [path for path in paths if path.startswith("images/")]
    # A large and a small one each, and none twice.
    assert len(grid) == 2 * len(pictures)
    for path in pictures:
        picture = place.artifact(str(logger.version), path)
        assert picture.read_bytes().startswith(b"\x89PNG")
        # Small ones have few colours and no words.
        assert len(Path(picture).read_bytes()) > (1_000 if path.startswith("grid/") else 5_000)


def test_distances_and_parts_of_the_range_go_with_the_run(
    place: Place, new_logger: NewLogger
) -> None:
    attacks = [
        Fgsm("fgsm", (0.01, 0.05)),
        MinimumNormAttack("minimum", thresholds=(0.3,), steps=5, tighten=1),
    ]
    plan, network = make_plan(attacks), ToyModule().eval()
    measured = evaluate(network, val_loader(), plan, device=torch.device("cpu"), batch_size=16)
    frame = counts_frame([measured.counts.partial()], plan.rows, ["class_0"])
    distances = distances_frame([measured.distances.partial()])
    shares = {"fgsm": [0.05, 0.25]}
    logger = new_logger()
    found = Evaluation("test", 0, frame, METADATA, [], distances, epsilon_shares=shares)
    record_evaluation(logger, found)
    record_curves(logger, found)
    logger.send()

    (run,) = list_runs("trials")
    stored = fetch_distances(run, "test")
    assert stored is not None
    pd.testing.assert_frame_equal(stored.frame, distances)
    assert METADATA.items() <= stored.metadata.items()
    assert len(distances) == 12
    never = run.metrics["test/minimum/never_broken_at_0.3"]
    known = distances["distance"].dropna()
    assert never == np.isinf(known).mean()
    if never < 0.5:
        assert run.metrics["test/minimum/median_distance_at_0.3"] == np.median(known)
    history = place.stored(run.run_id).metrics
    logged = [float.fromhex(value) for _, value in history["test/fgsm/epsilon_share"]]
    assert logged == [0.05, 0.25]
    # A threshold is no budget.
    assert "test/minimum/auc" not in run.metrics
    assert "test/fgsm/auc" in run.metrics


def test_calibration_goes_with_the_run(place: Place, new_logger: NewLogger) -> None:
    plan, network = make_plan(ATTACKS), ToyModule().eval()
    measured = evaluate(network, val_loader(), plan, device=torch.device("cpu"), batch_size=16)
    frame = counts_frame([measured.counts.partial()], plan.rows, ["class_0"])
    calibration = calibration_frame([measured.calibration.partial()], plan.rows, ["class_0"])
    logger = new_logger()
    found = Evaluation("test", 0, frame, METADATA, [], calibration=calibration)
    record_evaluation(logger, found)
    logger.send()
    (run,) = list_runs("trials")
    stored = fetch_calibration(run, "test")
    assert stored is not None
    pd.testing.assert_frame_equal(stored.frame, calibration)

    # The clean error by hand: 15 bins over the probabilities of all pixels.
    with torch.no_grad():
        probs = torch.cat([network(batch["image"]) for batch in val_loader()]).sigmoid().numpy()
    truth = np.concatenate([batch["mask"].numpy() for batch in val_loader()])
    bins = np.minimum((probs * 15).astype(int), 14)
    gaps = [abs(truth[bins == index].sum() - probs[bins == index].sum()) for index in range(15)]
    assert run.metrics["test/ece"] == pytest.approx(sum(gaps) / probs.size, abs=1e-5)
    assert 0 <= run.metrics["test/topn_random/ece"] <= 1
    # Every slice of these has 16 x 16 valid pixels.
    assert valid_pixels_q20(calibration, frame) == str(2**20 * 256)
