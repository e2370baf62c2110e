"""Hands what an evaluation measured to the run: counts, curves, scalars and pictures."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pictures.margins import margins_figure
from pictures.masks import masks_figure
from pictures.saliency import saliency_figure
from pictures.shrinking import shrinking_figure
from pictures.style import to_png_bytes
from robustness.counts import CLEAN, write_counts
from robustness.curves import areas, mean_curves
from robustness.snapshots import Snapshot, save_snapshots
from tracking.logger import RunLogger
from tracking.reading import COUNTS_FILE, SNAPSHOTS_FILE, robustness_folder


@dataclass(frozen=True)
class Evaluation:
    """What was measured on one split.

    Attributes:
        split: ``val`` or ``test``.
        epoch: Epoch of the weights, from 0.
        frame: The table of counts.
        metadata: Fingerprints of what it was measured on.
        snapshots: Raw maps for the pictures.
    """

    split: str
    epoch: int
    frame: pd.DataFrame
    metadata: dict[str, str]
    snapshots: list[Snapshot]


def record_evaluation(logger: RunLogger, found: Evaluation) -> None:
    """Write an evaluation into a run: counts, raw maps, scalars and pictures.

    Args:
        logger: The run.
        found: What was measured.
    """
    curves = mean_curves(found.frame)
    logger.log_metrics(_scalars(found.split, curves), found.epoch)
    with tempfile.TemporaryDirectory() as scratch:
        counts = Path(scratch, COUNTS_FILE)
        write_counts(counts, found.frame, found.metadata)
        logger.log_file(counts, robustness_folder(found.split))
        if found.snapshots:
            maps = Path(scratch, SNAPSHOTS_FILE)
            save_snapshots(maps, found.snapshots)
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
        logger.log_curve(f"{found.split}/{attack}", columns)


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
    for folder, figure in figures.items():
        logger.log_picture(to_png_bytes(figure), f"{folder}/{snapshot.case}")
