"""Which cases train, validate and test: folds by case, drawn with a seed of their own.

Where there are too few cases for folds, all can be in every split: to try things, for no result.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, nan
from typing import Literal

from datamodules.wrong_input import wrong_input

FOLDS = 5
OVERLAP = "overlap"
# How cases are dealt out: into folds, or all of them into every split.
SplitKind = Literal["folds", "overlap"]
VALIDATION_SHARE = 8
_LEAST_FOLDS = 2
_LEAST_FOR_HALVES = 4
# Names of cases that stay together, sorted.
_Group = tuple[str, ...]


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

    def only(self, cases: Collection[str]) -> "Split":
        """The same split of some of the cases."""
        train, val, test = (
            tuple(name for name in names if name in cases)
            for names in (self.train, self.val, self.test)
        )
        return Split(train, val, test)


def split_cases(
    images: Mapping[str, str],
    *,
    fold: int,
    split_seed: int,
    folds: int = FOLDS,
    groups: Mapping[str, str] | None = None,
    volumes: Mapping[str, float] | None = None,
) -> Split:
    """Split cases into one of the folds and the rest, and the rest into training and validation.

    Cases that share an image or a group stay together, and so do those that hang together over
    others: a and b by their image, b and c by their group. They are ordered by hashes of seed and
    name, which depend on neither the order of the input nor a library's random numbers.

    With volumes, what stays together is sorted by the mean volume of its cases (a patient of three
    scans counts by what their scans are like, not by how many they are) and cut into blocks of as
    many as there are folds, each of which is dealt out at random. Validation takes one of each of
    equal stretches of what is left, so that it spans the range too.

    Args:
        images: Name of each case and the hash of its image's content.
        fold: Fold that tests, from 0.
        split_seed: Seed of the split.
        folds: Number of folds.
        groups: Name of a case and of its group, such as its patient; cases that it does not name
            are on their own.
        volumes: Foreground volume of each case in any unit, to spread it evenly over the folds.

    Raises:
        InputError: If the fold is none of the folds or there are too few groups of cases.
        ValueError: If a case has no finite volume where volumes are given.
    """
    check_fold(fold, folds)
    together = _together(images, groups or {})
    _check_number(len(together), folds, grouped=groups is not None)
    sizes = None if volumes is None else _mean_volumes(together, volumes)
    ordered = _dealt(together, sizes, folds, f"{split_seed}")
    test = ordered[fold::folds]
    tested = set(test)
    rest = [group for group in ordered if group not in tested]
    seed = f"{split_seed}/{fold}"
    held_out = max(1, (len(rest) + VALIDATION_SHARE // 2) // VALIDATION_SHARE)
    val = set(_drawn(rest, sizes, held_out, seed))
    return Split(
        train=_flat(group for group in rest if group not in val),
        val=_flat(val),
        test=_flat(test),
    )


def overlapping_split(images: Mapping[str, str]) -> Split:
    """Every case in every split: what comes out says nothing of cases that were not trained on.

    Args:
        images: Name of each case.
    """
    cases = tuple(sorted(images))
    return Split(train=cases, val=cases, test=cases)


def check_fold(fold: int, folds: int = FOLDS) -> None:
    """Refuse a fold that is none of the folds, or fewer than two of them.

    Args:
        fold: Fold that tests, from 0.
        folds: Number of folds.

    Raises:
        InputError: If there are fewer than two folds or the fold is not among them.
    """
    if folds < _LEAST_FOLDS:
        raise wrong_input(
            at="--data.folds",
            found=folds,
            expected=f"a whole number of at least {_LEAST_FOLDS}",
            do=f"set for example {FOLDS}",
        )
    if fold not in range(folds):
        raise wrong_input(
            at="--data.fold",
            found=fold,
            expected=f"a whole number from 0 to {folds - 1}",
            do="set one of them",
        )


def _check_number(found: int, folds: int, *, grouped: bool) -> None:
    # Of those that do not test, one validates and one trains: half of three is too few for that.
    least = folds if folds > _LEAST_FOLDS else _LEAST_FOR_HALVES
    if found >= least:
        return
    kind = "groups of cases that share no image" if grouped else "cases with different images"
    fewer = f"set --data.folds {found}, " if found > _LEAST_FOLDS else ""
    raise wrong_input(
        at="dataset.json",
        found=f"{found} {kind}",
        expected=f"at least {least} for {folds} folds",
        do=f"add cases, {fewer}or set --data.split {OVERLAP} to try things: every case is then in "
        "every split, and what comes out is no result",
    )


def _together(images: Mapping[str, str], groups: Mapping[str, str]) -> list[_Group]:
    """Join cases that share an image or a group, over others too; sorted by their first case."""
    joined: dict[str, list[str]] = {}
    first: dict[tuple[str, str], str] = {}
    for case in sorted(images):
        joined[case] = [case]
        keys = [("image", images[case])]
        if case in groups:
            keys.append(("group", groups[case]))
        for key in keys:
            other = joined[first.setdefault(key, case)]
            if other is not joined[case]:
                other.extend(joined[case])
                joined.update(dict.fromkeys(joined[case], other))
    distinct = {id(members): sorted(members) for members in joined.values()}
    return sorted(tuple(members) for members in distinct.values())


def _mean_volumes(groups: Iterable[_Group], volumes: Mapping[str, float]) -> dict[_Group, float]:
    means = {group: sum(volumes.get(case, nan) for case in group) / len(group) for group in groups}
    unknown = [group for group, mean in means.items() if not isfinite(mean)]
    if unknown:
        message = f"volumes have no finite number for each of {', '.join(unknown[0])}"
        raise ValueError(message)
    return means


def _dealt(
    groups: list[_Group], sizes: Mapping[_Group, float] | None, folds: int, seed: str
) -> list[_Group]:
    """Order groups so that every ``folds``-th of them makes a fold."""
    if sizes is None:
        return _shuffled(groups, seed)
    ordered = _by_size(groups, sizes)
    # Those that fill no block are of middling size: so the folds that get one more stay alike.
    extra = len(ordered) % folds
    start = (len(ordered) - extra) // 2
    full = ordered[:start] + ordered[start + extra :]
    blocks = [full[first : first + folds] for first in range(0, len(full), folds)]
    blocks.append(ordered[start : start + extra])
    return [group for block in blocks for group in _shuffled(block, seed)]


def _drawn(
    groups: list[_Group], sizes: Mapping[_Group, float] | None, count: int, seed: str
) -> list[_Group]:
    """Draw some groups, with sizes one of each of as many stretches of nearly equal length."""
    if sizes is None:
        return _shuffled(groups, seed)[:count]
    ordered = _by_size(groups, sizes)
    edges = [len(ordered) * part // count for part in range(count + 1)]
    return [_shuffled(ordered[start:end], seed)[0] for start, end in pairwise(edges)]


def _by_size(groups: Iterable[_Group], sizes: Mapping[_Group, float]) -> list[_Group]:
    return sorted(groups, key=lambda group: (sizes[group], group))


def _shuffled(groups: Iterable[_Group], seed: str) -> list[_Group]:
    return sorted(groups, key=lambda group: hashlib.sha256(f"{seed}/{group[0]}".encode()).digest())


def _flat(groups: Iterable[_Group]) -> tuple[str, ...]:
    return tuple(sorted(case for group in groups for case in group))
