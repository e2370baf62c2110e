"""The entries of a dataset.json: labels and channels, and the file's JSON itself.

Numbered names come as ``{"0": "name"}`` or, in newer folders and those of nnU-Net, as
``{"name": 0}``.
"""

import difflib
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from datamodules.wrong_input import wrong_input

DATASET_FILE = "dataset.json"
LAYOUT = f"{DATASET_FILE}, imagesTr and labelsTr"
LARGEST_LABEL = 255
_LONGEST_QUOTE = 120
_KEYS = "training, labels and modality"
_NNUNET_KEYS = "channel_names, file_ending and labels"


def read_json(source: Path) -> Mapping[str, object]:
    """Read a task's ``dataset.json``.

    Raises:
        InputError: If it is not there, cannot be read or is not a JSON object.
    """
    try:
        content = json.loads(source.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        is_empty = next(source.parent.iterdir(), None) is None
        raise wrong_input(
            at=source.parent,
            found="an empty folder" if is_empty else f"no {DATASET_FILE}",
            expected=LAYOUT,
            do="copy or download the task again",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise wrong_input(
            at=source,
            found=f"broken JSON ({error})",
            expected="a JSON object in UTF-8",
            do="mend the file or copy it again",
        ) from error
    if not isinstance(content, dict):
        raise wrong_input(
            at=source,
            found=f"JSON that is a {type(content).__name__}",
            expected="an object that names labels, channels and cases",
            do="mend the file or copy it again",
        )
    return content


def is_nnunet(content: Mapping[str, object]) -> bool:
    """Whether a ``dataset.json`` is one of nnU-Net (version 2), by keys that only that one has."""
    return not {"channel_names", "file_ending"}.isdisjoint(content)


def read_labels(content: Mapping[str, object], source: Path) -> tuple[tuple[int, str], ...]:
    """Read value and name of each label but the background, ascending by value.

    Raises:
        InputError: If the entry is wrong, lacks 0 as background, has no label beside it or has
            regions of several labels.
    """
    entry = content.get("labels")
    regions = (
        [name for name, value in entry.items() if isinstance(value, list)]
        if isinstance(entry, dict)
        else []
    )
    if regions:
        raise wrong_input(
            at=source,
            found=f"{quoted(regions[0])} as a region of several labels",
            expected='one number for each label, as in {"background": 0, "name": 1}',
            do="name each value of the label maps once; --data.labels and --data.merge_labels "
            "choose and merge them",
        )
    labels = _numbered(content, "labels", source)
    if 0 not in labels:
        raise wrong_input(
            at=source,
            found=f"labels without 0 ({quoted(content['labels'])})",
            expected="0 as the background",
            do='add "0": "background" to labels',
        )
    foreground = tuple(sorted((value, name) for value, name in labels.items() if value))
    if not foreground or len({slug(name, value) for value, name in foreground}) < len(foreground):
        raise wrong_input(
            at=source,
            found=f"labels {quoted(content['labels'])}",
            expected="one label or more beside 0, with names that differ in letters or digits",
            do="mend the entry",
        )
    return foreground


def read_channels(content: Mapping[str, object], source: Path) -> tuple[str, ...]:
    """Read the names of an image's channels, in order.

    Raises:
        InputError: If the entry is wrong or does not count from 0.
    """
    key = "channel_names" if is_nnunet(content) else "modality"
    channels = _numbered(content, key, source)
    if max(channels) >= len(channels):
        raise wrong_input(
            at=source,
            found=f"{key} {quoted(content[key])}",
            expected=f"the numbers 0 to {len(channels) - 1}",
            do="number the channels from 0",
        )
    return tuple(channels[number] for number in sorted(channels))


def entry_of(content: Mapping[str, object], key: str, source: Path) -> object:
    """Look up a key that is needed.

    Raises:
        InputError: If it is not there.
    """
    if key in content:
        return content[key]
    near = difflib.get_close_matches(key, content, n=1)
    raise wrong_input(
        at=source,
        found=f"{near[0]!r} but no {key!r}" if near else f"no {key!r}",
        expected=f"the keys {_NNUNET_KEYS if is_nnunet(content) else _KEYS}",
        do=f"rename {near[0]!r}" if near else "add it",
    )


def quoted(value: object) -> str:
    """Write a value from a JSON file for a message, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 3]}..."


def slug(name: str, value: int) -> str:
    """Write a label's name in ``[a-z0-9_.-]``, as keys of metrics need it.

    Args:
        name: The label's name; one without any such letter becomes ``label_<value>``.
        value: The label's value.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_.-]+", "_", plain).strip("_") or f"label_{value}"


def _numbered(content: Mapping[str, object], key: str, source: Path) -> dict[int, str]:
    """Read ``{"0": "name"}`` or ``{"name": 0}``, as newer folders have it, by number."""
    entry = entry_of(content, key, source)
    pairs = list(entry.items()) if isinstance(entry, dict) else []
    names = {
        int(number): name
        for number, name in (pair if isinstance(pair[1], str) else pair[::-1] for pair in pairs)
        if isinstance(name, str) and re.fullmatch("[0-9]{1,9}", str(number))
    }
    if not pairs or len(names) < len(pairs) or max(names) > LARGEST_LABEL:
        raise wrong_input(
            at=source,
            found=f"{key} {quoted(entry)}",
            expected=f'numbers from 0 to {LARGEST_LABEL} and names, as in {{"0": "name"}}',
            do="mend the entry",
        )
    return names
