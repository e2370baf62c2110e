"""Hands what an evaluation measured to the run: counts, curves, scalars and pictures."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from callbacks.report_card import Card
from pictures.margins import margins_figure
from pictures.masks import masks_figure
from pictures.preview import saliency_preview, shrinking_preview
from pictures.saliency import saliency_figure
from pictures.shrinking import shrinking_figure
from pictures.style import to_png_bytes
from robustness.calibration import ece, write_calibration
from robustness.counts import CLEAN, write_counts
from robustness.curves import areas, mean_curves
from robustness.distances import distances_frame, median_distances, write_distances
from robustness.pictured import save_slices
from robustness.snapshots import Snapshot
from tracking.logger import RunLogger
from tracking.reading import (
    CALIBRATION_FILE,
    CARD_COUNTS_FILE,
    COUNTS_FILE,
    DISTANCES_FILE,
    REPORT_CARD_FILE,
    SNAPSHOTS_FILE,
    robustness_folder,
)


@dataclass(frozen=True)
class Evaluation:
    """What was measured on one split.

    Attributes:
        split: ``val`` or ``test``.
        epoch: Epoch of the weights, from 0.
        frame: The table of counts.
        metadata: Fingerprints of what it was measured on.
        snapshots: Raw maps for the pictures.
        distances: Table of distances, without rows where no attack measures any.
        calibration: Table of how probabilities fit the truth; without rows where it is not kept.
        epsilon_shares: Points of norm-bounded attacks in parts of the intensity range, by attack.
    """

    split: str
    epoch: int
    frame: pd.DataFrame
    metadata: dict[str, str]
    snapshots: list[Snapshot]
    distances: pd.DataFrame = field(default_factory=lambda: distances_frame([]))
    calibration: pd.DataFrame = field(default_factory=pd.DataFrame)
    epsilon_shares: Mapping[str, Sequence[float]] = field(default_factory=dict)


def record_evaluation(logger: RunLogger, found: Evaluation) -> None:
    """Write an evaluation into a run: counts, raw maps, scalars and pictures.

    Args:
        logger: The run.
        found: What was measured.
    """
    curves = mean_curves(found.frame)
    scalars = {
        **_scalars(found.split, curves),
        **_distance_scalars(found),
        **_calibration_scalars(found),
        **_repeat_scalars(found),
    }
    logger.log_metrics(scalars, found.epoch)
    with tempfile.TemporaryDirectory() as scratch:
        counts = Path(scratch, COUNTS_FILE)
        write_counts(counts, found.frame, found.metadata)
        logger.log_file(counts, robustness_folder(found.split))
        if len(found.distances):
            distances = Path(scratch, DISTANCES_FILE)
            write_distances(distances, found.distances, found.metadata)
            logger.log_file(distances, robustness_folder(found.split))
        if len(found.calibration):
            calibration = Path(scratch, CALIBRATION_FILE)
            write_calibration(calibration, found.calibration, found.metadata)
            logger.log_file(calibration, robustness_folder(found.split))
        if found.snapshots:
            maps = Path(scratch, SNAPSHOTS_FILE)
            save_slices(maps, found.snapshots)
            logger.log_file(maps, robustness_folder(found.split))
    for snapshot in found.snapshots:
        _log_pictures(logger, snapshot, logger.run_name or "")


def record_curves(logger: RunLogger | None, found: Evaluation) -> None:
    """Log the curves of an evaluation; once a run, since one logged twice is drawn as a sawtooth.

    Args:
        logger: The run; nothing is logged without one.
        found: What was measured last on its split.
    """
    if logger is None:
        return
    curves = mean_curves(found.frame)
    for attack, curve in curves[curves["attack"] != CLEAN].groupby("attack", sort=False):
        columns = {
            "dice": curve["dice"].tolist(),
            "slice_dice": curve["slice_dice"].tolist(),
            "change": curve["change"].tolist(),
            str(curve["axis"].iloc[0]): curve["point"].tolist(),
        }
        if str(attack) in found.epsilon_shares:
            columns["epsilon_share"] = list(found.epsilon_shares[str(attack)])
        logger.log_curve(f"{found.split}/{attack}", columns)


def _repeat_scalars(found: Evaluation) -> dict[str, float]:
    """How often each random attack was repeated, at the point where it was most often."""
    repeats = found.frame.groupby("attack", sort=False, observed=True)["repeat"].nunique()
    return {
        f"{found.split}/{attack}/repeats": float(count)
        for attack, count in repeats.items()
        if count > 1
    }


def _distance_scalars(found: Evaluation) -> dict[str, float]:
    """Medians by threshold, and the share of slices that were never broken."""
    scalars = {}
    for row in median_distances(found.distances).to_dict("records"):
        at, median = f"{row['threshold']:g}", float(row["median"])
        key = f"{found.split}/{row['attack']}"
        scalars[f"{key}/never_broken_at_{at}"] = row["never_broken"] / row["slices"]
        # A store of metrics takes no infinite number: then half of the slices were never broken.
        if math.isfinite(median):
            scalars[f"{key}/median_distance_at_{at}"] = median
    return scalars


def _calibration_scalars(found: Evaluation) -> dict[str, float]:
    """Expected calibration error, clean and at each attack's last point."""
    if not len(found.calibration):
        return {}
    errors = ece(found.calibration)
    last = errors.groupby("attack", sort=False).tail(1)
    pairs = zip(last["attack"], last["ece"], strict=True)
    return {
        f"{found.split}/ece" if attack == CLEAN else f"{found.split}/{attack}/ece": float(value)
        for attack, value in pairs
        if math.isfinite(value)
    }


def record_card(logger: RunLogger, split: str, card: Card, metadata: Mapping[str, str]) -> None:
    """Write a report card into a run: its lines, and the counts that it was judged by.

    Args:
        logger: The run.
        split: ``val`` or ``test``.
        card: The card.
        metadata: Fingerprints of what it was measured on.
    """
    with tempfile.TemporaryDirectory() as scratch:
        counts, verdicts = Path(scratch, CARD_COUNTS_FILE), Path(scratch, REPORT_CARD_FILE)
        write_counts(counts, card.counts, {**metadata, **card.metadata})
        card.verdicts.to_csv(verdicts, index=False)
        for file in (counts, verdicts):
            logger.log_file(file, robustness_folder(split))


def _scalars(split: str, curves: pd.DataFrame) -> dict[str, float]:
    found = {f"{split}/{attack}/auc": area for attack, area in areas(curves).items()}
    attacked = curves[curves["attack"] != CLEAN]
    columns = (attacked[name].tolist() for name in ("attack", "point", "dice"))
    for attack, point, dice in zip(*columns, strict=True):
        found[f"{split}/{attack}/dice_at_{point:g}"] = dice
    return found


def _log_pictures(logger: RunLogger, snapshot: Snapshot, label: str) -> None:
    row = [(label, snapshot)]
    figures = {
        "saliency": saliency_figure(row),
        "attacks": shrinking_figure(row),
        "masks": masks_figure(row),
        "margins": margins_figure(row),
    }
    figures |= {
        "grid/saliency": saliency_preview(snapshot),
        "grid/attacks": shrinking_preview(snapshot),
    }
    for folder, figure in figures.items():
        logger.log_picture(to_png_bytes(figure), f"{folder}/{snapshot.case}")
