"""Hashes of what an evaluation depends on, the same on any machine."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from datamodules.manifest import CaseRecord
from datamodules.splits import OVERLAP

# Not the store's version: another layout on disk leaves the data what they are.
FINGERPRINT_VERSION = 1


def data_fingerprint(records: Mapping[str, CaseRecord], settings: Sequence[object]) -> str:
    """Hash the contents of all cases and what makes slices and masks of them.

    Args:
        records: By name.
        settings: Plain values.

    Returns:
        sha256, in hexadecimal digits.
    """
    contents = [
        (record.case, record.image_sha256, record.label_sha256)
        for _, record in sorted(records.items())
    ]
    return _sha256([FINGERPRINT_VERSION, settings, contents])


def split_fingerprint(split: str, cases: Sequence[str], *, overlap: bool) -> str:
    """Hash the name of a split and those of its cases.

    Args:
        split: Its name.
        cases: Names of its cases, sorted.
        overlap: Whether all splits have the same cases.
    """
    return _sha256([split, cases, *[OVERLAP] * overlap])


def _sha256(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
