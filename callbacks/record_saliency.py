"""Hands what a network looks at to the run: spread, raw maps, verdicts, scalars and pictures."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pictures.maps import maps_figure
from pictures.style import to_png_bytes
from robustness.claim import MEASURE
from robustness.pictured import SliceMaps, save_slices
from robustness.spread_table import case_means, write_spread
from robustness.trust_table import UNCHECKED, mark, write_trust
from tracking.logger import RunLogger
from tracking.reading import (
    MAPS_FILE,
    SPREAD_FILE,
    TRUST_CURVES_FILE,
    TRUST_FILE,
    robustness_folder,
)

# Numbers of the verdicts that go into the metrics.
_CHECKS = ("randomised", "deletion_gain", "insertion_gain", "stable")


@dataclass(frozen=True)
class Looked:
    """What was measured on one split.

    Attributes:
        split: ``val`` or ``test``.
        epoch: Epoch of the weights, from 0.
        spread: Table of spread; without rows where it was not asked for.
        metadata: Fingerprints of what it was measured on.
        maps: Raw maps of the pictured slices.
        trust: Verdicts on the methods; without rows where none was checked or refused.
        curves: What the verdicts rest on; without rows likewise.
    """

    split: str
    epoch: int
    spread: pd.DataFrame
    metadata: dict[str, str]
    maps: list[SliceMaps]
    trust: pd.DataFrame
    curves: pd.DataFrame


def record_saliency(logger: RunLogger, found: Looked) -> None:
    """Write it into a run.

    Args:
        logger: The run.
        found: What was measured.
    """
    logger.log_metrics({**_spread_scalars(found), **_trust_scalars(found)}, found.epoch)
    folder = robustness_folder(found.split)
    with tempfile.TemporaryDirectory() as scratch:
        if len(found.spread):
            spread = Path(scratch, SPREAD_FILE)
            write_spread(spread, found.spread, found.metadata)
            logger.log_file(spread, folder)
        # Without rows too: those of an earlier call are about other maps.
        for name, table in ((TRUST_FILE, found.trust), (TRUST_CURVES_FILE, found.curves)):
            trust = Path(scratch, name)
            write_trust(trust, table)
            logger.log_file(trust, folder)
        if found.maps:
            maps = Path(scratch, MAPS_FILE)
            save_slices(maps, found.maps)
            logger.log_file(maps, folder)
    words = {row["method"]: mark(row) for row in found.trust.to_dict("records")}
    label = logger.run_name or ""
    for one in found.maps:
        for method in one.methods.tolist():
            marks = {label: words.get(method, UNCHECKED)}
            figure = maps_figure([(label, one)], method, marks=marks)
            logger.log_picture(to_png_bytes(figure), f"saliency/{one.case}/{method}")


def record_cases(logger: RunLogger | None, found: Looked) -> None:
    """Log the claim's measure case by case in order of their names; once a run, as curves are.

    Args:
        logger: The run; nothing is logged without one.
        found: What was measured last on its split.
    """
    if logger is None:
        return
    means = case_means(found.spread)
    means = means[means["measure"] == MEASURE]
    for (method, output), cases in means.groupby(["method", "output"]):
        values = [value for value in cases["value"].tolist() if math.isfinite(value)]
        logger.log_curve(f"{found.split}/spread_by_case/{method}/{output}", {MEASURE: values})


def _spread_scalars(found: Looked) -> dict[str, float]:
    """Means over the cases, over their slices with foreground."""
    keys = ["method", "output", "measure"]
    means = case_means(found.spread).groupby(keys)["value"].mean().reset_index()
    columns = (means[name].tolist() for name in (*keys, "value"))
    return {
        f"{found.split}/spread/{method}/{output}/{measure}": value
        for method, output, measure, value in zip(*columns, strict=True)
        if math.isfinite(value)
    }


def _trust_scalars(found: Looked) -> dict[str, float]:
    return {
        f"{found.split}/trust/{method}/{check}": value
        for check in _CHECKS
        for method, value in zip(
            found.trust["method"].tolist(), found.trust[check].tolist(), strict=True
        )
        if math.isfinite(value)
    }
