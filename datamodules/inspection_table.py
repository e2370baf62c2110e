"""An inspection in words and numbers: the table of cases, its summary, and what is suspicious."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from datamodules.dataset_json import slug
from datamodules.inspection import Inspection
from datamodules.inspection_facts import CaseFacts, ImageFacts, Problem
from datamodules.printable import printable

HEADERS = (
    *("case", "shape", "spacing mm", "axes", "types", "min / 1% / 50% / 99% / max"),
    *("labels: ml, share", "slices", "sha256", "found"),
)
MEASURED_HEADERS = HEADERS[5:8]
_STATISTICS = ("minimum", "p1", "median", "p99", "maximum")
_HASH_LETTERS = 16
_SHORT_HASH_LETTERS = 8
_FORMULA = ("=", "+", "-", "@")
_MOST_LABELS = 20
_AXES = 3
_NONE = "-"


def csv_text(inspection: Inspection) -> str:
    """All cases as a CSV table, a line each; what was not found is empty.

    Text from files is escaped where it is not printable, and stands behind an apostrophe where a
    spreadsheet would take it for a formula.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(inspection), restval="", lineterminator="\n")
    writer.writeheader()
    for case in inspection.cases:
        row = {
            "case": case.name,
            "usable": "yes" if case.usable else "no",
            **_image_cells(case.image),
            **_label_cells(case, inspection.labels),
            "found": "; ".join(f"{found.kind}: {found.reason}" for found in case.problems),
        }
        writer.writerow({name: _csv_cell(value) for name, value in row.items()})
    return text.getvalue()


def table_rows(inspection: Inspection, most: int | None) -> list[tuple[str, ...]]:
    """The first cases for a terminal: cells under ``HEADERS``, some of several lines.

    Args:
        inspection: What was found.
        most: Of how many cases; None for all.
    """
    return [_cells(case, dict(inspection.labels)) for case in inspection.cases[:most]]


def summary_rows(inspection: Inspection) -> list[tuple[str, str]]:
    """What the whole task is like: pairs of a name and what was found."""
    images = [case.image for case in inspection.cases if case.image is not None]
    labels = [case.label for case in inspection.cases if case.label is not None]
    usable = len(inspection.usable)
    suspicious = sum(bool(case.problems) and case.usable for case in inspection.cases)
    rows = [
        (
            "cases",
            f"{len(inspection.cases)}: {usable} can be used for training, "
            f"{suspicious} of them with remarks",
        ),
        ("channels", ", ".join(inspection.channels)),
    ]
    for value, name in inspection.labels:
        having = sum(value in label.voxels for label in labels)
        note = ", counts as no foreground" if value == inspection.ignored else ""
        rows.append((f"label {value}", f"{name}: in {having} of {len(labels)} label maps{note}"))
    if images:
        shapes = [image.shape[:_AXES] for image in images if len(image.shape) >= _AXES]
        rows.append(("shapes", " x ".join(_range(axis) for axis in zip(*shapes, strict=True))))
        spacings = zip(*(image.spacing_mm for image in images), strict=True)
        rows.append(("spacings", " x ".join(_range(axis) for axis in spacings) + " mm"))
        axes = Counter(image.orientation for image in images).most_common()
        hands = {image.is_left_handed for image in images} - {None}
        note = "; left-handed, as dcm2niix mostly writes them" if hands == {True} else ""
        rows.append(("axes", ", ".join(f"{name} in {count}" for name, count in axes) + note))
    if labels:
        slices = [area for label in labels for area in label.frame_areas]
        empty = sum(area == 0 for area in slices) / len(slices)
        rows.append(("slices", f"{len(slices)}, {empty:.0%} of them without foreground"))
        shares = [label.foreground / label.total for label in labels]
        rows.append(
            (
                "foreground",
                f"{min(shares):.2%} to {max(shares):.2%} of the voxels of a case, median "
                f"{float(np.median(shares)):.2%}",
            )
        )
    if inspection.size is not None:
        turned = ", turned to canonical axes" if inspection.orientation == "canonical" else ""
        rows.append(("--data.size", f"{size_text(inspection.size)} holds all slices{turned}"))
    return [(name, printable(text)) for name, text in rows]


def problem_lines(inspection: Inspection, *, blocks: bool, most: int | None) -> list[str]:
    """What is wrong, grouped by its kind; a line each for the first cases that have it.

    Args:
        inspection: What was found.
        blocks: Whether to tell what keeps cases from training, or what only looks wrong.
        most: Cases named of each kind; None for all.
    """
    groups: dict[str, list[tuple[CaseFacts, Problem]]] = {}
    for case in inspection.cases:
        for problem in case.problems:
            if problem.blocks == blocks:
                groups.setdefault(problem.kind, []).append((case, problem))
    lines = []
    for kind, group in groups.items():
        count = len({id(case) for case, _ in group})
        lines.append(f"{kind} ({count} case{'s' if count > 1 else ''})")
        lines += [f"  {printable(f'{case.name}: {found.reason}')}" for case, found in group[:most]]
        if len(group) > len(group[:most]):
            lines.append(f"  ... and {len(group) - len(group[:most])} more")
    return lines


def size_text(size: tuple[int, int]) -> str:
    """A size as ``--data.size`` takes it."""
    return f"[{size[0]},{size[1]}]"


def _columns(inspection: Inspection) -> list[str]:
    count = len(inspection.channels)
    keys = [slug(name, value) for value, name in inspection.labels]
    return [
        *("case", "usable", "shape", "spacing_mm", "orientation", "image_dtype", "label_dtype"),
        *(_of_channel(name, index, count) for index in range(count) for name in _STATISTICS),
        "labels",
        *(f"{measure}_{key}" for key in keys for measure in ("ml", "share")),
        *("slices", "foreground_slices", "foreground_share", "image_sha256", "found"),
    ]


def _of_channel(name: str, index: int, count: int) -> str:
    return name if count == 1 else f"{name}_{index}"


def _image_cells(image: ImageFacts | None) -> dict[str, object]:
    if image is None:
        return {}
    cells: dict[str, object] = {
        "shape": _by(image.shape),
        "spacing_mm": _by(image.spacing_mm),
        "orientation": image.orientation,
        "image_dtype": image.dtype,
        "image_sha256": image.sha256[:_HASH_LETTERS],
    }
    for index, channel in enumerate(image.channels):
        for name in _STATISTICS:
            cells[_of_channel(name, index, len(image.channels))] = getattr(channel, name)
    return cells


def _label_cells(case: CaseFacts, labels: Sequence[tuple[int, str]]) -> dict[str, object]:
    if case.label is None:
        return {}
    cells: dict[str, object] = {
        "label_dtype": case.label.dtype,
        "labels": " ".join(map(str, case.label.voxels)),
        "slices": len(case.label.frame_areas),
        "foreground_slices": case.label.foreground_slices,
        "foreground_share": case.label.foreground / case.label.total,
    }
    for value, name in labels:
        count = case.label.voxels.get(value, 0)
        cells[f"share_{slug(name, value)}"] = count / case.label.total
        if case.image is not None:
            # Without what rounding leaves behind a product: 1.523 ml.
            cells[f"ml_{slug(name, value)}"] = float(f"{count * case.image.voxel_ml:.9g}")
    return cells


def _csv_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _cells(case: CaseFacts, names: Mapping[int, str]) -> tuple[str, ...]:
    image, label = case.image, case.label
    shape = spacing = axes = intensities = digest = _NONE
    if image is not None:
        shape, spacing, axes = _by(image.shape), _by(image.spacing_mm), image.orientation
        digest = image.sha256[:_SHORT_HASH_LETTERS] or _NONE
        lines = [
            " / ".join(f"{getattr(channel, name):.4g}" for name in _STATISTICS)
            for channel in image.channels
        ]
        intensities = "\n".join(lines) or _NONE
    volumes = slices = _NONE
    if label is not None:
        lines = []
        for value in [value for value in label.voxels if value][:_MOST_LABELS]:
            count = label.voxels[value]
            ml = "" if image is None else f" {count * image.voxel_ml:.4g} ml,"
            lines.append(f"{names.get(value, value)}{ml} {count / label.total:.2%}")
        volumes = "\n".join(map(printable, lines)) or _NONE
        slices = f"{label.foreground_slices} of {len(label.frame_areas)}"
    types = " / ".join(_NONE if part is None else part.dtype for part in (image, label))
    kinds = dict.fromkeys(problem.kind for problem in case.problems)
    found = "\n".join(kinds)
    name = printable(case.name)
    return name, shape, spacing, axes, types, intensities, volumes, slices, digest, found


def _by(lengths: Iterable[float]) -> str:
    return " x ".join(f"{length:.5g}" for length in lengths)


def _range(values: Iterable[float]) -> str:
    numbers = list(values)
    low, high = f"{min(numbers):.4g}", f"{max(numbers):.4g}"
    return low if low == high else f"{low}-{high}"
