"""Looks at one case: what its two files hold, measured frame by frame, and what in it looks wrong.

A case blocks where `volumes.read_volume` would refuse it; all else is for the user to judge.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.inspection_facts import CaseFacts, ChannelFacts, ImageFacts, LabelFacts, Problem
from datamodules.inspection_picture import take_picture
from datamodules.inspection_place import affine_problems, place_problems
from datamodules.nifti_file import OpenedVolume, open_volume, orientation, spacing
from datamodules.task import Case
from datamodules.volumes import as_label_map, content_hash
from datamodules.wrong_input import counted, listed

UNREADABLE = "cannot be read"
_AXES = 3
_PERCENTILES = (1, 50, 99)
_ENDS = (("start", 0), ("end", -1))
_BORDERS = tuple(f"{end} of axis {axis}" for axis in (1, 2, 3) for end, _ in _ENDS)
_NEARLY_CONSTANT = 0.01  # share of the range between the percentiles 1 and 99
_ROUNDING = 1e-6  # of the largest intensity: what float32 cannot tell apart


@dataclass(frozen=True)
class CaseJob:
    """What is looked at.

    Attributes:
        case: The case.
        channels: Number of channels that the task declares.
        labels: Value and name of each label but the background.
        picture: Whether a slice of it is wanted.
        ignored: Value of the label whose voxels count for nothing; None without one.
    """

    case: Case
    channels: int
    labels: tuple[tuple[int, str], ...]
    picture: bool
    ignored: int | None = None


def inspect_case(job: CaseJob) -> CaseFacts:
    """Look at a case; whatever is wrong with its files becomes a problem of it.

    Args:
        job: The case, and what its task declares.
    """
    try:
        return _inspect(job)
    # Such as a volume that the memory cannot hold; it may not stop the other cases.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        lost = Problem(UNREADABLE, reason, blocks=True)
        return CaseFacts(job.case.name, problems=(lost,))


def _inspect(job: CaseJob) -> CaseFacts:
    problems: list[Problem] = []
    image_files = [_opened(path, problems) for path in job.case.images]
    label_file = _opened(job.case.label, problems)
    image = channels = label = picture = None
    if image_files[0] is not None:
        image, channels = _image_facts(image_files[0], image_files[1:], job.channels, problems)
    if label_file is not None:
        label_file = as_label_map(label_file)
        label = _label_facts(label_file, job, problems)
    fits = False
    if image is not None and label_file is not None:
        fits = label_file.voxels.shape == image.shape[:_AXES]
        problems += _pair_problems(image, label_file)
    if job.picture and image is not None and channels is not None:
        picture = take_picture(
            channels[0],
            image.channels[0],
            label_file.voxels if fits and label_file is not None else None,
            label.frame_areas if label is not None else (),
            [value for value, _ in job.labels],
        )
    return CaseFacts(job.case.name, image, label, tuple(problems), picture)


def _opened(path: Path, problems: list[Problem]) -> OpenedVolume | None:
    try:
        return open_volume(path)
    # Damaged files raise errors of a dozen kinds, and none may stop the other cases.
    except Exception as error:
        reason = f"{path.name}: {type(error).__name__}: {error}"
        problems.append(Problem(UNREADABLE, reason, blocks=True))
        return None


def _image_facts(
    opened: OpenedVolume,
    others: Sequence[OpenedVolume | None],
    channels: int,
    problems: list[Problem],
) -> tuple[ImageFacts, NDArray[np.generic] | None]:
    """Facts, and the voxels ``(C, X, Y, Z)`` where they are as the task declares.

    ``others`` are the files of further channels, where each has one; None for what is unreadable.
    """
    files = [opened, *(other for other in others if other is not None)]
    facts = ImageFacts(
        shape=opened.voxels.shape,
        spacing_mm=spacing(opened.affine),
        orientation=orientation(opened.affine),
        dtype=" ".join(dict.fromkeys(file.dtype for file in files)),
        affine=opened.affine,
    )
    problems += affine_problems(opened.affine)
    wholes = [_channels_first(file, 1 if others else channels, problems) for file in files]
    usable = [whole for whole in wholes if whole is not None]
    if len(usable) <= len(others):
        return facts, None
    if len({whole.shape for whole in usable}) > 1:
        reason = f"files of channels have shapes {listed(str(w.shape[1:]) for w in usable)}"
        problems.append(Problem("channels differ in shape", reason, blocks=True))
        return facts, None
    for index, file in enumerate(files[1:], start=1):
        problems += place_problems(facts, file.affine, f"channel {index}")
    first = usable[0] if len(usable) == 1 else np.concatenate(usable)
    measured = tuple(_channel_facts(channel) for channel in first)
    for index, channel in enumerate(measured):
        problems += _intensity_problems(channel, f"channel {index}: " if channels > 1 else "")
    return replace(facts, channels=measured, sha256=content_hash(first)), first


def _channels_first(
    opened: OpenedVolume, channels: int, problems: list[Problem]
) -> NDArray[np.generic] | None:
    """Voxels ``(C, X, Y, Z)`` of a file; None where it has not those that it should have."""
    voxels = opened.voxels
    if not _is_real(opened, "image", problems):
        return None
    shape = (*voxels.shape, 1) if voxels.ndim == _AXES else voxels.shape
    if len(shape) != _AXES + 1 or shape[-1] != channels:
        expected = "(X, Y, Z)" if channels == 1 else f"(X, Y, Z, {channels})"
        reason = f"image has shape {voxels.shape}, expected {expected} as in dataset.json"
        problems.append(Problem("wrong number of axes or channels", reason, blocks=True))
        return None
    return np.moveaxis(voxels.reshape(shape, order="F"), -1, 0)


def _is_real(opened: OpenedVolume, what: str, problems: list[Problem]) -> bool:
    """Whether there are voxels and they are real numbers."""
    voxels = opened.voxels
    if voxels.dtype.kind in "iuf" and voxels.size:
        return True
    reason = f"{what} of shape {voxels.shape} holds {opened.dtype}, expected real numbers"
    problems.append(Problem("no voxels, or no real numbers", reason, blocks=True))
    return False


def _channel_facts(channel: NDArray[np.generic]) -> ChannelFacts:
    finite = np.isfinite(channel)
    broken = channel.size - int(np.count_nonzero(finite))
    values = (channel[finite] if broken else channel.ravel(order="K")).astype(
        np.float64 if channel.dtype.kind == "f" else channel.dtype, copy=False
    )
    if not values.size:
        return ChannelFacts(*(float("nan"),) * 5, broken)
    p1, median, p99 = map(float, np.percentile(values, _PERCENTILES))
    return ChannelFacts(float(values.min()), p1, median, p99, float(values.max()), broken)


def _intensity_problems(channel: ChannelFacts, at: str) -> list[Problem]:
    found = []
    low, high = channel.minimum, channel.maximum
    inner, whole = channel.p99 - channel.p1, high - low
    if channel.broken:
        verb = "is" if channel.broken == 1 else "are"
        reason = f"{at}{counted(channel.broken, 'voxel')} {verb} NaN or infinite"
        found.append(Problem("NaN or infinite voxels", reason, blocks=True))
    if whole == 0:
        reason = f"{at}all voxels are {low:g}"
        found.append(Problem("constant image", reason, blocks=True))
    elif whole == float("inf"):
        reason = f"{at}intensities from {low:g} to {high:g} are beyond the range of float64"
        found.append(Problem("intensities too far apart", reason, blocks=True))
    elif whole <= _ROUNDING * max(abs(low), abs(high)):
        reason = f"{at}intensities from {low:g} to {high:g} differ by little more than rounding"
        found.append(Problem("nearly constant image", reason))
    elif inner <= _NEARLY_CONSTANT * whole:
        reason = (
            f"{at}98 % of the voxels lie within {inner / whole:.2%} of the range "
            f"{low:g} to {high:g}: scaled by its ends, they are nearly alike"
        )
        found.append(Problem("nearly constant image", reason))
    return found


def _label_facts(opened: OpenedVolume, job: CaseJob, problems: list[Problem]) -> LabelFacts | None:
    """Facts of a label map, where it has the axes and numbers of one."""
    voxels = opened.voxels
    if not _is_real(opened, "label map", problems) or voxels.ndim != _AXES:
        return None
    counts: Counter[int] = Counter()
    strange = 0
    areas = []
    touched: set[str] = set()
    for index in range(voxels.shape[-1]):
        frame = np.asarray(voxels[..., index])
        is_whole = np.isfinite(frame) & (np.trunc(frame) == frame)
        values, numbers = np.unique(frame[is_whole], return_counts=True)
        counts.update(dict(zip(map(int, values), map(int, numbers), strict=True)))
        strange += int(np.count_nonzero(~is_whole))
        foreground = (frame != 0) & (frame != (job.ignored or 0)) & np.isfinite(frame)
        areas.append(int(np.count_nonzero(foreground)))
        if areas[-1]:
            touched |= _touched(foreground, index, voxels.shape[-1])
    facts = LabelFacts(
        shape=voxels.shape,
        dtype=opened.dtype,
        voxels=dict(sorted(counts.items())),
        strange=strange,
        frame_areas=tuple(areas),
        touched=tuple(border for border in _BORDERS if border in touched),
        sha256=content_hash(voxels),
    )
    problems += _label_problems(facts, {value for value, _ in job.labels})
    return facts


def _touched(foreground: NDArray[np.bool_], index: int, depth: int) -> set[str]:
    """Borders of the volume that the foreground of a frame touches."""
    sides = {
        f"{end} of axis {axis + 1}": bool(foreground.take(at, axis).any())
        for axis in (0, 1)
        for end, at in _ENDS
    }
    sides |= {"start of axis 3": index == 0, "end of axis 3": index == depth - 1}
    return {name for name, is_touched in sides.items() if is_touched}


def _label_problems(facts: LabelFacts, declared: set[int]) -> list[Problem]:
    found = []
    unknown = {value: count for value, count in facts.voxels.items() if value not in {0, *declared}}
    if unknown:
        words = listed([f"{value} ({counted(n, 'voxel')})" for value, n in unknown.items()], 6)
        found.append(Problem("label not in dataset.json", f"labels {words}", blocks=True))
    if facts.strange:
        verb = "is" if facts.strange == 1 else "are"
        reason = f"{counted(facts.strange, 'voxel')} of the label map {verb} no whole number"
        found.append(Problem("labels that are no whole numbers", reason, blocks=True))
    if not facts.foreground:
        found.append(Problem("empty label", "no voxel of the label map is foreground"))
    if facts.touched:
        reason = f"foreground at the {', '.join(facts.touched)}"
        found.append(Problem("foreground touches the border", reason))
    return found


def _pair_problems(image: ImageFacts, label_file: OpenedVolume) -> list[Problem]:
    found = []
    shape = image.shape[:_AXES]
    if label_file.voxels.shape != shape:
        reason = f"label map has shape {label_file.voxels.shape}, image {shape}"
        found.append(Problem("image and label differ in shape", reason, blocks=True))
    return [*found, *place_problems(image, label_file.affine, "label")]
