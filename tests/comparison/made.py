"""Made counts and runs in a real store, and scores recomputed from counts in plain Python."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd

from lightning_module.ledger_history import LEDGER_COLUMNS
from robustness.calibration import BINS, calibration_frame, write_calibration
from robustness.calibration import FIELDS as BIN_FIELDS
from robustness.counts import (
    CLEAN_ROW,
    FIELDS,
    CountsFile,
    PartialCounts,
    Row,
    counts_frame,
    write_counts,
)
from robustness.pictured import SliceMaps, save_slices
from robustness.snapshots import Snapshot
from robustness.spread import measure_names
from robustness.spread_table import spread_frame, write_spread
from robustness.temperature import OUTPUTS
from robustness.trust import FEW, Evidence, Verdict
from robustness.trust_table import curves_frame, trust_frame, write_trust
from tests.pictures.slices import made_snapshot
from tests.robustness.maps import WORDS
from tracking.logger import RunLogger
from tracking.reading import (
    CALIBRATION_FILE,
    COUNTS_FILE,
    LEDGER_FILE,
    LEDGER_FOLDER,
    MAPS_FILE,
    REPORT_CARD_FILE,
    SNAPSHOTS_FILE,
    SPREAD_FILE,
    TRANSFER_FOLDER,
    TRUST_CURVES_FILE,
    TRUST_FILE,
    StoredRun,
    robustness_folder,
)
from tracking.store import open_client

LEVELS = (0.0, 0.3, 0.6)
PIXELS = (1.0, 10.0, 20.0)
CASES = ("case_000", "case_001", "case_002", "case_003")
ROWS = [
    CLEAN_ROW,
    *(Row("top5_in_range_abs", "level", index, level, 0) for index, level in enumerate(LEVELS)),
    *(Row("topn_random", "pixels", index, n, r) for index, n in enumerate(PIXELS) for r in (0, 1)),
    *(Row("topn_random_control", "pixels", index, n, 0) for index, n in enumerate(PIXELS)),
    *(Row("top5_beyond_range", "level", index, level, 0) for index, level in enumerate(LEVELS)),
]
METADATA = {
    "data": "d" * 64,
    "split": "s" * 64,
    "attacks": "a" * 64,
    "checkpoint_sha256": "c" * 64,
    "split_name": "test",
}
PARAMS = {"task": "Task90_Blob", "fold": "0", "network": "unet", "max_pixel": "0.2"}

Point = tuple[str, float]


def made_frame(
    seed: int,
    *,
    cases: Sequence[str] = CASES,
    classes: Sequence[str] = ("foreground",),
    rows: Sequence[Row] = tuple(ROWS),
    empty: bool = False,
) -> pd.DataFrame:
    """Random counts; with ``empty``, the first case holds nothing and nothing is found in it."""
    generator = np.random.default_rng(seed)
    sums = generator.integers(1, 500, (len(rows), len(cases), len(classes), len(FIELDS)))
    if empty:
        sums[:, 0, :, : FIELDS.index("fn") + 1] = 0
    return counts_frame([PartialCounts(tuple(cases), sums)], rows, classes)


def made_run(number: int, loss: str | None = "bce", seed: int = 0, **params: str) -> StoredRun:
    """A run as the store gives it back; a higher number is newer."""
    named = {} if loss is None else {"loss": loss}
    return StoredRun(
        run_id=f"{number:032d}",
        name=f"run {number}",
        status="FINISHED",
        start_time=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
        params={**PARAMS, **named, "seed": str(seed), **params},
        metrics={},
        tags={},
    )


def made_counts(
    frame: pd.DataFrame | None = None, metadata: Mapping[str, str] | None = None
) -> CountsFile:
    """Counts with the fingerprints that all made runs share, but for those that are given."""
    return CountsFile(made_frame(0) if frame is None else frame, {**METADATA, **(metadata or {})})


def store_run(
    scratch: Path,
    frame: pd.DataFrame | None,
    params: Mapping[str, str],
    *,
    experiment: str = "Task90_Blob",
    metadata: Mapping[str, str] = METADATA,
    snapshots: Iterable[Snapshot] = (),
    ledger: pd.DataFrame | None = None,
    card: pd.DataFrame | None = None,
) -> str:
    """Write a run into the store that ``MLFLOW_TRACKING_URI`` names, as training does.

    Returns:
        Its id.
    """
    logger = RunLogger(experiment, f"{params.get('loss')} seed {params.get('seed')}")
    logger.describe({**PARAMS, **params}, {})
    logger.open()
    if frame is not None:
        write_counts(scratch / COUNTS_FILE, frame, metadata)
        logger.log_file(scratch / COUNTS_FILE, robustness_folder("test"))
    kept = list(snapshots)
    if kept:
        save_slices(scratch / SNAPSHOTS_FILE, kept)
        logger.log_file(scratch / SNAPSHOTS_FILE, robustness_folder("test"))
    if ledger is not None:
        logger.log_text(ledger.to_csv(index=False), f"{LEDGER_FOLDER}/{LEDGER_FILE}")
    if card is not None:
        logger.log_text(card.to_csv(index=False), f"{robustness_folder('test')}/{REPORT_CARD_FILE}")
    logger.finalize("success")
    return str(logger.version)


def store_calibration(
    scratch: Path, run: str, frame: pd.DataFrame, metadata: Mapping[str, str] = METADATA
) -> None:
    """Write the bins of a run into it."""
    write_calibration(scratch / CALIBRATION_FILE, frame, metadata)
    folder = robustness_folder("test")
    open_client().log_artifact(run, str(scratch / CALIBRATION_FILE), folder)


def store_transfer(
    scratch: Path,
    made_on: str,
    counted_on: str,
    frame: pd.DataFrame,
    metadata: Mapping[str, str] = METADATA,
) -> None:
    """Write what attacks made on one run leave of another into the latter."""
    file = scratch / f"{made_on}.parquet"
    write_counts(file, frame, {**metadata, "made_on": made_on})
    folder = f"{robustness_folder('test')}/{TRANSFER_FOLDER}"
    open_client().log_artifact(counted_on, str(file), folder)


SPREAD_METADATA = {
    **METADATA,
    "methods": '[{"method": "gradient"}]',
    "temperature": "1.25",
}


def made_spread(
    seed: int,
    *,
    cases: Sequence[str] = CASES,
    methods: Sequence[str] = ("gradient",),
    outputs: Sequence[str] = OUTPUTS,
) -> pd.DataFrame:
    """Random spread of three slices a case, the last one without foreground; one value is NaN."""
    generator = np.random.default_rng(seed)
    kinds = itertools.product(cases, range(3), outputs, methods, measure_names())
    rows = [
        (case, index, index < 2, output, method, measure, generator.uniform(0, 1))
        for case, index, output, method, measure in kinds
    ]
    columns = ["case", "slice_index", "foreground", "output", "method", "measure", "value"]
    frame = pd.DataFrame(rows, columns=columns)
    frame.loc[(frame["case"] == cases[0]) & (frame["measure"] == "radius"), "value"] = np.nan
    return spread_frame([frame])


def made_verdict(method: str, *failed: str, number: float = 0.25, slices: int = FEW) -> Verdict:
    """A verdict with this rank correlation at random; the other numbers are fixed."""
    return Verdict(method, number, 0.9, 0.125, 0.0625, 0.75, 1.5, failed, slices)


def made_evidence(method: str, number: float = 0.25) -> Evidence:
    """Two layers, the last of this rank correlation, and three points of a curve."""
    layers = [
        ("randomised", f"net.{name}", value, np.nan)
        for name, value in (("head", 0.9), ("stem", number))
    ]
    curves = [
        (check, share, value, chance)
        for check, points in (
            ("deletion", (("0", 1.0, 1.0), ("0.5", 0.2, 0.5), ("1", 0.0, 0.0))),
            ("insertion", (("0", 0.0, 0.0), ("0.5", 0.8, 0.5), ("1", 1.0, 1.0))),
        )
        for share, value, chance in points
    ]
    return Evidence(method, (*layers, *curves))


def store_spread(
    scratch: Path,
    run: str,
    frame: pd.DataFrame,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the spread of a run into it, with ``SPREAD_METADATA`` but for what is given."""
    write_spread(scratch / SPREAD_FILE, frame, {**SPREAD_METADATA, **(metadata or {})})
    open_client().log_artifact(run, str(scratch / SPREAD_FILE), robustness_folder("test"))


def store_maps(scratch: Path, run: str, slices: Sequence[SliceMaps]) -> None:
    """Write the maps of a run into it."""
    save_slices(scratch / MAPS_FILE, slices)
    open_client().log_artifact(run, str(scratch / MAPS_FILE), robustness_folder("test"))


def store_trust(
    scratch: Path,
    run: str,
    verdicts: Iterable[Verdict],
    refused: Mapping[str, str] | None = None,
    *,
    explained: str = WORDS,
    checkpoint_sha256: str = METADATA["checkpoint_sha256"],
    evidence: Iterable[Evidence] = (),
) -> None:
    """Write the verdicts on the methods of a run into it, and what they rest on."""
    frame = trust_frame(
        verdicts, refused or {}, explained=explained, checkpoint_sha256=checkpoint_sha256
    )
    tables = {TRUST_FILE: frame, TRUST_CURVES_FILE: curves_frame(evidence)}
    for name, table in tables.items():
        write_trust(scratch / name, table)
        open_client().log_artifact(run, str(scratch / name), robustness_folder("test"))


def frame_of(dice: Mapping[Row, Sequence[float]], classes: Sequence[str] = ("a",)) -> pd.DataFrame:
    """Counts with this Dice of each case (and class, which change fastest), to three decimals.

    Cases are named after ``CASES``; Dice of NaN is undefined, with nothing true and nothing found.
    """
    count = len(next(iter(dice.values()))) // len(classes)
    sums = np.zeros((len(dice), count, len(classes), len(FIELDS)), np.int64)
    for index, values in enumerate(dice.values()):
        of_cases = np.array(values).reshape(count, len(classes))
        sums[index, ..., FIELDS.index("tp")] = np.nan_to_num(of_cases * 1000).round()
        wrong = np.nan_to_num((1 - of_cases) * 1000).round()
        sums[index, ..., FIELDS.index("fp")] = sums[index, ..., FIELDS.index("fn")] = wrong
    sums[..., FIELDS.index("slices") : FIELDS.index("slices_all") + 1] = 1
    return counts_frame([PartialCounts(CASES[:count], sums)], list(dice), classes)


def bins_of(errors: Mapping[Row, float], classes: Sequence[str] = ("a",)) -> pd.DataFrame:
    """Bins of 1000 pixels with this calibration error: all are true, and that much less is said."""
    sums = np.zeros((len(errors), len(classes), BINS, len(BIN_FIELDS)), np.int64)
    for index, error in enumerate(errors.values()):
        place = min(int((1 - error) * BINS), BINS - 1)
        sums[index, :, place] = (1000, 1000, round(1000 * (1 - error) * 2**20))
    return calibration_frame([sums], list(errors), classes)


def made_ledger(
    shares: Mapping[str, float],
    dice: Mapping[str, float],
    *,
    epochs: int = 3,
    splits: Sequence[str] = ("train", "val"),
) -> pd.DataFrame:
    """A ledger of one term, in which classes have these shares in every epoch."""
    rows = [
        (split, epoch, "bce", name, len(shares) * share / (epoch + 1), 1.0, dice.get(name, np.nan))
        for epoch in range(epochs)
        for split in splits
        for name, share in shares.items()
    ]
    return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS))


def snapshots_of(seed: int, cases: Sequence[str] = CASES[:1]) -> list[Snapshot]:
    return [replace(made_snapshot(seed), case=case) for case in cases]


def case_scores(frames: Sequence[pd.DataFrame]) -> dict[Point, dict[str, dict[int, float]]]:
    """Dice by point, case and seed, for one class: the mean over repeats in which it is defined."""
    tried: dict[Point, dict[str, dict[int, list[float]]]] = {}
    for seed, frame in enumerate(frames):
        for row in frame.to_dict("records"):
            point = row["attack"], row["point"]
            kept = tried.setdefault(point, {}).setdefault(row["case"], {}).setdefault(seed, [])
            if row["tp"] + row["fp"] + row["fn"]:
                kept.append(2 * row["tp"] / (2 * row["tp"] + row["fp"] + row["fn"]))
    return {
        point: {
            case: {seed: fmean(repeats) for seed, repeats in seeds.items() if repeats}
            for case, seeds in cases.items()
        }
        for point, cases in tried.items()
    }


def mean_dice(frames: Sequence[pd.DataFrame]) -> dict[Point, float]:
    """Dice by point, for one class: the mean over seeds of each case, then over cases."""
    return {
        point: fmean(fmean(seeds.values()) for seeds in cases.values() if seeds)
        for point, cases in case_scores(frames).items()
    }


def area_by_hand(dice: Mapping[Point, float], attack: str) -> float:
    """Trapezoids over the true axis, from the clean image where it counts pixels."""
    curve = sorted((point, value) for (name, point), value in dice.items() if name == attack)
    if attack.startswith("topn"):
        curve.insert(0, (0.0, dice["clean", 0.0]))
    total = 0.0
    for (left, high), (right, low) in itertools.pairwise(curve):
        total += (right - left) * (high + low) / 2
    return total / (curve[-1][0] - curve[0][0])
