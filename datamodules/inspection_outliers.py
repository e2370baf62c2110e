"""What looks wrong in a case only beside the others of its task."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datamodules.inspection_facts import CaseFacts, Problem

FEWEST_CASES = 5
LIMIT = 3.5
# Of log10: differences of less than a factor of about 1.5 are never far.
LEAST_DEVIATION = 0.05
_IQR_OF_NORMAL = 1.349
_AXES = 3

# Gives of a case the name of a measure, what it is in words, and its value, above 0.
Measures = Callable[[CaseFacts], Iterator[tuple[str, str, float]]]


def compare_cases(
    cases: Sequence[CaseFacts], labels: Sequence[tuple[int, str]]
) -> tuple[CaseFacts, ...]:
    """Add to each case what looks wrong beside the others.

    Args:
        cases: All cases of a task.
        labels: Value and name of each label but the background and one to be ignored.
    """
    found: list[list[Problem]] = [[] for _ in cases]
    _add_far(cases, found, "intensities far from the others", _ranges)
    _add_far(cases, found, "spacing far from the others", _spacings)
    _add_far(cases, found, "shape far from the others", _lengths)
    _add_mirrored(cases, found)
    _add_missing_labels(cases, found, labels)
    _add_same_images(cases, found)
    return tuple(
        replace(case, problems=(*case.problems, *more))
        for case, more in zip(cases, found, strict=True)
    )


def robust_scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each value from the median, in robust standard deviations.

    A standard deviation is the interquartile range over 1.349, as for normal values, and 0.05 at
    least.

    Args:
        values: log10 of what was measured, shape ``(N,)``.
    """
    low, median, high = np.percentile(values, (25, 50, 75))
    scores: NDArray[np.float64] = (values - median) / max(
        (high - low) / _IQR_OF_NORMAL, LEAST_DEVIATION
    )
    return scores


def _add_far(
    cases: Sequence[CaseFacts], found: list[list[Problem]], kind: str, measures: Measures
) -> None:
    by_name: dict[str, list[tuple[int, str, float]]] = {}
    for index, case in enumerate(cases):
        for name, words, value in measures(case):
            if np.isfinite(value) and value > 0:
                by_name.setdefault(name, []).append((index, words, value))
    for name, measured in by_name.items():
        if len(measured) < FEWEST_CASES:
            continue
        values = np.array([value for _, _, value in measured])
        median = np.median(values)
        for (index, words, _), score in zip(measured, robust_scores(np.log10(values)), strict=True):
            if abs(score) > LIMIT:
                reason = (
                    f"{name} {words}, median of all cases {median:.6g}: robust z-score of its "
                    f"log10 {score:.2f}, limit {LIMIT}"
                )
                found[index].append(Problem(kind, reason))


def _ranges(case: CaseFacts) -> Iterator[tuple[str, str, float]]:
    channels = () if case.image is None else case.image.channels
    for index, channel in enumerate(channels):
        of = "" if len(channels) == 1 else f" of channel {index}"
        value = channel.maximum - channel.minimum
        yield f"maximum - minimum{of}", f"{value:.6g}", value


def _spacings(case: CaseFacts) -> Iterator[tuple[str, str, float]]:
    for axis, value in enumerate(() if case.image is None else case.image.spacing_mm, start=1):
        yield f"spacing along axis {axis}", f"{value:.4g} mm", value


def _lengths(case: CaseFacts) -> Iterator[tuple[str, str, float]]:
    for axis, value in enumerate(() if case.image is None else case.image.shape[:_AXES], start=1):
        yield f"length of axis {axis}", f"{value} voxels", value


def _add_mirrored(cases: Sequence[CaseFacts], found: list[list[Problem]]) -> None:
    """A task may be left-handed throughout; what few cases of it are is told."""
    hands: dict[bool, list[int]] = {True: [], False: []}
    for index, case in enumerate(cases):
        hand = None if case.image is None else case.image.is_left_handed
        if hand is not None:
            hands[hand].append(index)
    is_left = len(hands[True]) <= len(hands[False])
    few, many = hands[is_left], hands[not is_left]
    name, other = ("left", "right") if is_left else ("right", "left")
    for index in few:
        image = cases[index].image
        if image is not None:
            reason = (
                f"axes point to {image.orientation}, which mirrors the volume beside {len(many)} "
                f"{other}-handed ones"
            )
            found[index].append(Problem(f"{name}-handed affine", reason))


def _add_missing_labels(
    cases: Sequence[CaseFacts], found: list[list[Problem]], labels: Sequence[tuple[int, str]]
) -> None:
    """An empty label map lacks all of them, and that is told by itself."""
    filled = {
        index: case.label.voxels
        for index, case in enumerate(cases)
        if case.label is not None and case.label.foreground
    }
    for value, name in labels:
        having = sum(value in voxels for voxels in filled.values())
        for index, voxels in filled.items():
            if having and value not in voxels:
                reason = f"no voxel of label {value} ({name}), which {having} cases have"
                found[index].append(Problem("label missing that others have", reason))


def _add_same_images(cases: Sequence[CaseFacts], found: list[list[Problem]]) -> None:
    groups: dict[str, list[int]] = {}
    for index, case in enumerate(cases):
        if case.image is not None and case.image.sha256:
            groups.setdefault(case.image.sha256, []).append(index)
    for group in groups.values():
        for index in group:
            label = _label_hash(cases[index])
            others = [cases[other] for other in group if other != index]
            copies = [case.name for case in others if label and _label_hash(case) == label]
            same = [case.name for case in others if case.name not in copies]
            if copies:
                reason = f"the same image and label map as {', '.join(copies)}: one case twice"
                found[index].append(Problem("identical images and label maps", reason))
            if same:
                reason = (
                    f"the same image as {', '.join(same)}: the same subject, on one side of a split"
                )
                found[index].append(Problem("identical images", reason))


def _label_hash(case: CaseFacts) -> str:
    return "" if case.label is None else case.label.sha256
