"""Options to train with, as far as a task's folder tells them."""

import math
from collections import Counter

from datamodules.inspection import Inspection
from datamodules.inspection_picture import CT_WINDOW_HU, is_ct
from datamodules.inspection_table import size_text
from datamodules.splits import FOLDS, OVERLAP
from datamodules.tasks import TASKS, TaskFacts

_MOST_PIXELS = 4  # times those of the least size


def known_task(inspection: Inspection) -> TaskFacts | None:
    """The Decathlon's task that a folder holds, by its number, name and channels; None for others.

    nnU-Net keeps the numbers 1 to 10 for these tasks: ``Dataset004_Hippocampus`` is one as well.
    """
    start, _, name = inspection.folder.name.partition("_")
    for facts in TASKS:
        starts = {f"Task{facts.number:02d}", f"Dataset{facts.number:03d}"}
        if start in starts and name == facts.folder.partition("_")[2]:
            return facts if len(inspection.channels) == len(facts.channels) else None
    return None


def window_options(inspection: Inspection) -> list[str]:
    """A window for CT: where all channels are named so, or the only one has values as CT has."""
    named = all(name.strip().upper() == "CT" for name in inspection.channels)
    channels = [channel for image in inspection.images for channel in image.channels]
    measured = len(inspection.channels) == 1 and all(map(is_ct, channels))
    if not (named or measured):
        return []
    return ["--data.window", f"[{CT_WINDOW_HU[0]:g},{CT_WINDOW_HU[1]:g}]"]


def size_options(inspection: Inspection, configured: tuple[int, int] | None) -> list[str]:
    """The least size that holds all slices, unless the one of a configuration does as well.

    One of more than four times the pixels is for other volumes, such as those not cropped.
    """
    if inspection.size is None:
        return []
    if configured:
        holds = all(map(int.__le__, inspection.size, configured))
        if holds and math.prod(configured) <= _MOST_PIXELS * math.prod(inspection.size):
            return []
    return ["--data.size", size_text(inspection.size)]


def orientation_options(inspection: Inspection) -> tuple[list[str], list[str]]:
    """What axes that differ need, as options and as sentences."""
    axes = Counter(image.orientation for image in inspection.images)
    if len(axes) <= 1:
        return [], []
    found = ", ".join(f"{name} in {count}" for name, count in axes.most_common())
    if inspection.orientation == "canonical":
        note = (
            f"Axes point to different sides ({found}): --data.orientation canonical turns all "
            "volumes alike."
        )
        return ["--data.orientation", "canonical"], [note]
    note = (
        f"Axes point to different sides ({found}), and volumes without a usable affine cannot be "
        "turned alike: mend those, then add --data.orientation canonical."
    )
    return [], [note]


def split_options(inspection: Inspection) -> tuple[list[str], list[str]]:
    """What fewer different images than folds need, as options and as sentences."""
    images = {image.sha256 for image in inspection.images}
    if len(images) >= FOLDS:
        return [], []
    note = (
        f"{len(images)} different image{'s' if len(images) > 1 else ''} can be used, fewer "
        f"than the {FOLDS} that folds need: every case is in every split, which is no result."
    )
    return ["--data.split", OVERLAP], [note]
