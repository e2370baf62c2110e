"""Cases of a raw folder of nnU-Net (version 2): a file for each channel of each case.

``imagesTr/<case>_0000<file_ending>`` and so on, ``labelsTr/<case><file_ending>``; or, under the key
``dataset`` of dataset.json, the files of each case by name.

References:
    https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from datamodules.dataset_json import DATASET_FILE, entry_of, quoted
from datamodules.task import BrokenCase, Case
from datamodules.task_files import NIFTI_ENDINGS, listed_file, name_without_ending
from datamodules.wrong_input import wrong_input
from errors import InputError

IGNORED_LABEL = "ignore"
_IMAGES, _LABELS = "imagesTr", "labelsTr"
_COUNT = "numTraining"


def list_nnunet_cases(
    content: Mapping[str, object], source: Path, channels: Sequence[str]
) -> tuple[list[Case], list[BrokenCase]]:
    """List the labelled cases of a folder and look for their files.

    A number of cases other than ``numTraining`` counts as a broken case of that name, since nobody
    can tell which one is missing.

    Args:
        content: What ``dataset.json`` holds.
        source: Path of ``dataset.json``.
        channels: Names of the channels.

    Raises:
        InputError: If ``file_ending`` is not NIfTI's, there is no folder of images or no case.
    """
    ending = _file_ending(content, source)
    broken: dict[str, str] = {}
    if "dataset" in content:
        at = f"{source}, dataset"
        listed = _explicit(content["dataset"], at)
    else:
        at = str(source)
        broken = dict(_misnamed(source.parent, ending, len(channels)))
        listed = _found(source.parent, ending, channels, broken)
    cases = []
    for name, entry in listed.items():
        try:
            cases.append(_case(name, entry, source.parent, at, channels))
        except InputError as error:
            broken[name] = str(error)
    count = len(cases) + len(broken)
    if content.get(_COUNT, count) != count:
        broken[_COUNT] = str(
            wrong_input(
                at=source,
                found=f"{_COUNT} {quoted(content[_COUNT])}",
                expected=f"{count}, the number of cases that are listed or in {_IMAGES}",
                do="copy those that are missing, or mend the number",
            )
        )
    return cases, [BrokenCase(name, reason) for name, reason in broken.items()]


def _file_ending(content: Mapping[str, object], source: Path) -> str:
    ending = entry_of(content, "file_ending", source)
    if ending not in NIFTI_ENDINGS:
        raise wrong_input(
            at=source,
            found=f"file_ending {quoted(ending)}",
            expected=f"one of {', '.join(NIFTI_ENDINGS)}",
            do="convert the files to NIfTI and set the ending",
        )
    return str(ending)


def _explicit(dataset: object, at: str) -> Mapping[str, object]:
    if not isinstance(dataset, dict) or not dataset:
        raise wrong_input(
            at=at,
            found=quoted(dataset),
            expected='{"case": {"images": [path, ...], "label": path}}',
            do="list the labelled cases, or remove the key to take those in the folders",
        )
    return dataset


def _found(
    folder: Path, ending: str, channels: Sequence[str], misnamed: Mapping[str, str]
) -> Mapping[str, object]:
    """Entries as the key ``dataset`` has them, of all cases with an image or a label map."""
    images = {re.sub(r"_[0-9]{4}\Z", "", stem) for stem in _stems(folder / _IMAGES, ending)}
    names = images | set(_stems(folder / _LABELS, ending))
    if not names:
        raise wrong_input(
            at=folder,
            found=f"no files *_0000{ending} in {_IMAGES}",
            expected="the images of the labelled cases",
            do=f"copy them there, or mend file_ending in {DATASET_FILE}",
        )
    return {
        name: {
            "images": [f"{_IMAGES}/{name}_{index:04d}{ending}" for index in range(len(channels))],
            "label": f"{_LABELS}/{name}{ending}",
        }
        for name in sorted(names)
        if name not in misnamed
    }


def _misnamed(folder: Path, ending: str, channels: int) -> Iterator[tuple[str, str]]:
    """Cases with an image that has no number of a channel, and why they are broken."""
    for stem in _stems(folder / _IMAGES, ending):
        name, _, number = stem.rpartition("_")
        is_numbered = bool(name) and re.fullmatch("[0-9]{4}", number) is not None
        if not is_numbered or int(number) >= channels:
            name = name if is_numbered else stem
            reason = wrong_input(
                at=folder / _IMAGES / f"{stem}{ending}",
                found=f"channel {number}" if is_numbered else "a name without a channel's number",
                expected=f"{name}_0000{ending} to {name}_{channels - 1:04d}{ending}, as "
                f"channel_names has {channels}",
                do="rename or remove the file, or mend channel_names",
            )
            yield name, str(reason)


def _stems(folder: Path, ending: str) -> list[str]:
    """Names of the files with an ending, without it; hidden ones, as some systems add, left out."""
    try:
        files = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise wrong_input(
            at=folder,
            found=f"no folder that can be read ({error.strerror})",
            expected="the files of the labelled cases",
            do="copy it again",
        ) from error
    return [
        file.removesuffix(ending)
        for file in files
        if file.endswith(ending) and not file.startswith(".")
    ]


def _case(name: str, entry: object, folder: Path, at: str, channels: Sequence[str]) -> Case:
    if not name or name in {".", ".."} or Path(name).name != name:
        raise wrong_input(
            at=at,
            found=f"case {quoted(name)}",
            expected="a name without slashes",
            do="rename it",
        )
    images = entry.get("images") if isinstance(entry, dict) else None
    label = entry.get("label") if isinstance(entry, dict) else None
    paths = [*images, label] if isinstance(images, list) else []
    texts = [text for text in paths if isinstance(text, str)]
    if len(texts) != len(paths) or len(paths) != len(channels) + 1:
        raise wrong_input(
            at=f"{at}, {name}",
            found=quoted(entry),
            expected=f'{{"images": [path, ...], "label": path}} with {len(channels)} image(s), as '
            "channel_names says",
            do="mend the entry",
        )
    files = []
    whats = [f"channel {index} ({channel})" for index, channel in enumerate(channels)]
    for text, what in zip(texts, [*whats, "the label map"], strict=True):
        name_without_ending(Path(text).name, f"{at}, {name}")
        files.append(
            listed_file(
                folder,
                text,
                f"{at}, {name}",
                expected=f"{what} of case {name}",
                do="copy it there or take the case away",
            )
        )
    return Case(name, tuple(files[:-1]), files[-1])
