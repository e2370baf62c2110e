"""Which cases train, validate and test: five folds by case, drawn with a seed of their own.

Where there are too few cases for folds, all can be in every split: to try things, for no result.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from datamodules.wrong_input import wrong_input

FOLDS = 5
OVERLAP = "overlap"
# How cases are dealt out: into folds, or all of them into every split.
SplitKind = Literal["folds", "overlap"]
VALIDATION_SHARE = 8


@dataclass(frozen=True)
class Split:
    """Names of the cases of one fold, each sorted; no case is in two of them, but for overlap.

    Attributes:
        train: Cases to train on.
        val: Cases that select: one eighth of those that are not in the fold.
        test: Cases of the fold.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def split_cases(images: Mapping[str, str], *, fold: int, split_seed: int) -> Split:
    """Split cases into one of five folds and the rest, and the rest into training and validation.

    Cases that share an image stay together. They are ordered by hashes of seed and name, which
    depend on neither the order of the input nor a library's random numbers.

    Args:
        images: Name of each case and the hash of its image's content.
        fold: Fold that tests, 0 to 4.
        split_seed: Seed of the split.

    Raises:
        InputError: If the fold is none of the five or there are fewer than five different images.
    """
    check_fold(fold)
    groups: dict[str, list[str]] = {}
    for case in sorted(images):
        groups.setdefault(images[case], []).append(case)
    if len(groups) < FOLDS:
        raise wrong_input(
            at="dataset.json",
            found=f"{len(groups)} cases with different images",
            expected=f"at least {FOLDS} for {FOLDS} folds",
            do=f"add cases, or set --data.split {OVERLAP} to try things: every case is then in "
            "every split, and what comes out is no result",
        )
    ordered = _shuffled(groups.values(), f"{split_seed}")
    test = ordered[fold::FOLDS]
    rest = [group for group in ordered if group not in test]
    rest = _shuffled(rest, f"{split_seed}/{fold}")
    held_out = max(1, (len(rest) + VALIDATION_SHARE // 2) // VALIDATION_SHARE)
    return Split(
        train=_flat(rest[held_out:]),
        val=_flat(rest[:held_out]),
        test=_flat(test),
    )


def overlapping_split(images: Mapping[str, str]) -> Split:
    """Every case in every split: what comes out says nothing of cases that were not trained on.

    Args:
        images: Name of each case.
    """
    cases = tuple(sorted(images))
    return Split(train=cases, val=cases, test=cases)


def check_fold(fold: int) -> None:
    """Refuse a fold that is none of the five.

    Raises:
        InputError: If the fold is not in 0 to 4.
    """
    if fold not in range(FOLDS):
        raise wrong_input(
            at="--data.fold",
            found=fold,
            expected=f"a whole number from 0 to {FOLDS - 1}",
            do="set one of them",
        )


def _shuffled(groups: Iterable[list[str]], seed: str) -> list[list[str]]:
    return sorted(groups, key=lambda group: hashlib.sha256(f"{seed}/{group[0]}".encode()).digest())


def _flat(groups: Iterable[list[str]]) -> tuple[str, ...]:
    return tuple(sorted(case for group in groups for case in group))
