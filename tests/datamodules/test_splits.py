"""Tests of the split into folds."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.datamodule import DecathlonDataModule
from datamodules.splits import FOLDS, Split, check_fold, overlapping_split, split_cases
from errors import InputError
from tests.datamodules.tiny import refusal

# Name of a case -> its image; few different images, so that cases share them.
CASES = st.dictionaries(
    st.text(min_size=1, max_size=4), st.integers(0, 60).map(str), min_size=5, max_size=80
).filter(lambda images: len(set(images.values())) >= FOLDS)
SEEDS = st.integers(-(2**40), 2**40)
FOLD = st.integers(0, FOLDS - 1)
# Image, group (None: the table does not name the case) and volume of each case; enough images that
# ten of the joined groups are left, else the example is passed over.
FACTS = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.tuples(
        st.integers(0, 200).map(str),
        st.none() | st.integers(0, 40).map(str),
        st.floats(0, 1e6),
    ),
    min_size=15,
    max_size=60,
)
Facts = dict[str, tuple[str, str | None, float]]


def _split(facts: Facts, *, fold: int, folds: int, seed: int, stratify: bool) -> Split:
    return split_cases(
        {case: image for case, (image, _, _) in facts.items()},
        fold=fold,
        split_seed=seed,
        folds=folds,
        groups={case: group for case, (_, group, _) in facts.items() if group is not None},
        volumes={case: volume for case, (_, _, volume) in facts.items()} if stratify else None,
    )


def _joined(facts: Facts) -> list[set[str]]:
    """Join cases step by step until no two sets share an image or a group: slow and plain."""
    sets = [{case} for case in facts]
    marks = [
        {("image", image)} | ({("group", group)} if group is not None else set())
        for image, group, _ in facts.values()
    ]
    merged = True
    while merged:
        merged = False
        for one in range(len(sets)):
            for other in range(one):
                if marks[one] & marks[other]:
                    sets[other] |= sets.pop(one)
                    marks[other] |= marks.pop(one)
                    merged = True
                    break
            if merged:
                break
    return sets


@given(CASES, SEEDS, FOLD)
def test_every_case_is_in_one_split(images: dict[str, str], seed: int, fold: int) -> None:
    split = split_cases(images, fold=fold, split_seed=seed)
    assert sorted([*split.train, *split.val, *split.test]) == sorted(images)
    for names in (split.train, split.val, split.test):
        assert names
        assert list(names) == sorted(names)


@given(CASES, SEEDS)
def test_every_case_tests_in_one_fold(images: dict[str, str], seed: int) -> None:
    tested = Counter(
        case
        for fold in range(FOLDS)
        for case in split_cases(images, fold=fold, split_seed=seed).test
    )
    assert tested == Counter(dict.fromkeys(images, 1))


@given(CASES, SEEDS, FOLD)
def test_cases_that_share_an_image_stay_together(
    images: dict[str, str], seed: int, fold: int
) -> None:
    split = split_cases(images, fold=fold, split_seed=seed)
    train, val, test = (
        {images[case] for case in names} for names in (split.train, split.val, split.test)
    )
    assert not train & val
    assert not train & test
    assert not val & test


@given(CASES, SEEDS, FOLD, st.randoms())
def test_the_order_of_the_input_does_not_matter(
    images: dict[str, str], seed: int, fold: int, random: object
) -> None:
    names = list(images)
    random.shuffle(names)  # type: ignore[attr-defined]
    shuffled = {name: images[name] for name in names}
    assert split_cases(shuffled, fold=fold, split_seed=seed) == split_cases(
        images, fold=fold, split_seed=seed
    )


@given(st.integers(5, 300), SEEDS, FOLD)
def test_sizes_where_no_image_comes_twice(count: int, seed: int, fold: int) -> None:
    split = split_cases({f"{n:03d}": str(n) for n in range(count)}, fold=fold, split_seed=seed)
    assert len(split.test) in {count // FOLDS, -(-count // FOLDS)}
    rest = count - len(split.test)
    assert abs(len(split.val) - rest / 8) <= 0.5 or len(split.val) == 1


def test_the_split_of_200_cases_is_what_it_was() -> None:
    images = {f"case_{number:03d}": str(number) for number in range(200)}
    split = split_cases(images, fold=0, split_seed=0)
    assert (len(split.train), len(split.val), len(split.test)) == (140, 20, 40)
    # Fixed for good: runs of different versions are compared case by case.
    assert split.test[:4] == ("case_000", "case_004", "case_006", "case_020")


def test_splits_of_shared_images_are_what_they_were() -> None:
    images = {f"case_{number:03d}": str(number % 60) for number in range(64)}
    splits = [
        split_cases(images, fold=fold, split_seed=seed) for seed in (0, 7) for fold in range(5)
    ]
    stored = json.dumps([[split.train, split.val, split.test] for split in splits]).encode()
    # Fixed for good, likewise: hash of what the first version gave.
    expected = "7b2724fab5db2006cb93d5083ade5329f2421d5ea8f155e8b3901de53b8a7a49"
    assert hashlib.sha256(stored).hexdigest() == expected
    assert " ".join(name[-3:] for name in splits[1].val) == "003 035 042 048 051 056 063"


@given(FACTS, SEEDS, st.integers(2, 10), st.booleans())
def test_no_group_is_parted_and_all_are_tested_once(
    facts: Facts, seed: int, folds: int, stratify: bool
) -> None:
    together = _joined(facts)
    if len(together) < max(folds, 4):
        return
    tested: Counter[str] = Counter()
    sizes = []
    for fold in range(folds):
        split = _split(facts, fold=fold, folds=folds, seed=seed, stratify=stratify)
        parts = [set(split.train), set(split.val), set(split.test)]
        assert all(parts)
        assert sorted([*split.train, *split.val, *split.test]) == sorted(facts)
        assert all(sum(bool(group & part) for part in parts) == 1 for group in together)
        tested.update(split.test)
        sizes.append(sum(bool(group & parts[2]) for group in together))
        rest = len(together) - sizes[-1]
        held_out = sum(bool(group & parts[1]) for group in together)
        assert abs(held_out - rest / 8) <= 0.5 or held_out == 1
    assert tested == Counter(dict.fromkeys(facts, 1))
    assert max(sizes) - min(sizes) <= 1


@given(FACTS, SEEDS, st.booleans(), st.randoms())
def test_the_order_of_groups_and_volumes_does_not_matter(
    facts: Facts, seed: int, stratify: bool, random: object
) -> None:
    if len(_joined(facts)) < 5:
        return
    names = list(facts)
    random.shuffle(names)  # type: ignore[attr-defined]
    shuffled = {name: facts[name] for name in names}
    one, other = (
        _split(given_facts, fold=2, folds=5, seed=seed, stratify=stratify)
        for given_facts in (facts, shuffled)
    )
    assert one == other


@given(CASES, SEEDS, FOLD)
def test_groups_of_one_case_change_nothing(images: dict[str, str], seed: int, fold: int) -> None:
    plain = split_cases(images, fold=fold, split_seed=seed)
    alone = {case: case for case in images}
    assert split_cases(images, fold=fold, split_seed=seed, groups=alone) == plain
    assert split_cases(images, fold=fold, split_seed=seed, groups={}) == plain


def test_cases_hang_together_over_others() -> None:
    # a and b share an image, b and c a patient, c and d an image: all four are one.
    images = {"a": "1", "b": "1", "c": "2", "d": "2"} | {f"x{n}": f"x{n}" for n in range(20)}
    groups = {"b": "patient", "c": "patient", "nobody": "patient"}
    for seed in range(30):
        split = split_cases(images, fold=0, split_seed=seed, groups=groups)
        chain = {"a", "b", "c", "d"}
        parts = [set(split.train), set(split.val), set(split.test)]
        assert sum(bool(chain & part) for part in parts) == 1


def _spread(volumes: dict[str, float], folds: int, *, stratify: bool, log: bool) -> float:
    """Tell how far the folds' mean volumes lie apart, as a mean over seeds."""
    spreads = []
    for seed in range(12):
        tests = [
            split_cases(
                {case: case for case in volumes},
                fold=fold,
                split_seed=seed,
                folds=folds,
                volumes=volumes if stratify else None,
            ).test
            for fold in range(folds)
        ]
        values = [np.array([volumes[case] for case in test]) for test in tests]
        spreads.append(np.std([np.mean(np.log(value) if log else value) for value in values]))
    return float(np.mean(spreads))


def _skewed(draw: int, count: int) -> dict[str, float]:
    drawn = np.random.default_rng(draw).lognormal(sigma=1.0, size=count)
    return {f"{number:03d}": volume for number, volume in enumerate(drawn.tolist())}


@given(st.integers(0, 10**6), st.integers(30, 60), st.integers(2, 6))
def test_stratified_folds_are_closer_in_volume(draw: int, count: int, folds: int) -> None:
    volumes = _skewed(draw, count)
    # Of logarithms: in a plain mean of skewed volumes one case can outweigh how the rest is dealt.
    stratified = _spread(volumes, folds, stratify=True, log=True)
    assert stratified < _spread(volumes, folds, stratify=False, log=True)


def test_stratified_folds_halve_how_far_their_mean_volumes_lie_apart() -> None:
    stratified, plain = (
        np.mean([_spread(_skewed(n, 60), 5, stratify=chosen, log=False) for n in range(20)])
        for chosen in (True, False)
    )
    assert stratified < 0.65 * plain


def test_stratified_parts_span_the_range() -> None:
    names = [f"{number:03d}" for number in range(200)]
    images = {name: name for name in names}
    volumes = {name: float(number**3) for number, name in enumerate(names)}
    tests = set()
    for seed in range(5):
        split = split_cases(images, fold=0, split_seed=seed, volumes=volumes)
        # One of each five neighbours in size tests, one of each eight of the rest validates.
        assert sorted(int(name) // 5 for name in split.test) == list(range(40))
        rest = sorted([*split.train, *split.val])
        assert sorted(rest.index(name) // 8 for name in split.val) == list(range(20))
        tests.add(split.test)
    assert len(tests) == 5


def test_a_group_counts_by_the_mean_of_its_cases() -> None:
    # The patient of ten small scans is small: it is dealt out with the smallest, not the largest.
    names = [f"{number:02d}" for number in range(11)]
    volumes = {name: 10.0 * number + 5 for number, name in enumerate(names)}
    scans = {f"p{number}": 4.0 for number in range(10)}
    cases = {case: case for case in [*names, *scans]}
    for seed in range(20):
        half = split_cases(
            cases,
            fold=0,
            split_seed=seed,
            folds=2,
            groups=dict.fromkeys(scans, "patient"),
            volumes=volumes | scans,
        )
        # Blocks of two: the patient and 00, 01 and 02, ..., 09 and 10.
        assert ("p0" in half.test) != ("00" in half.test)
        assert all((f"{n:02d}" in half.test) != (f"{n + 1:02d}" in half.test) for n in (1, 3, 9))


def test_cases_that_fill_no_block_are_of_middling_size() -> None:
    names = [f"{number:02d}" for number in range(13)]
    volumes = {name: float(number) for number, name in enumerate(names)}
    for seed in range(20):
        tests = [
            split_cases(
                dict(zip(names, names, strict=True)),
                fold=fold,
                split_seed=seed,
                folds=5,
                volumes=volumes,
            ).test
            for fold in range(5)
        ]
        assert [len(test) for test in tests] == [3, 3, 3, 2, 2]
        assert {name for test in tests[:3] for name in test} >= {"05", "06", "07"}
        # One of the five smallest and one of the five largest is in each.
        for block in (names[:5], names[8:]):
            assert [len(set(block) & set(test)) for test in tests] == [1] * 5


def test_seeds_and_folds_give_other_splits() -> None:
    images = {f"case_{number:03d}": str(number) for number in range(50)}
    splits = {
        split_cases(images, fold=fold, split_seed=seed).test for fold in range(5) for seed in (0, 1)
    }
    assert len(splits) == 10
    assert len({split_cases(images, fold=fold, split_seed=0).val for fold in range(5)}) == 5


@pytest.mark.parametrize("fold", [-1, 5, 100])
def test_a_fold_that_is_not_there(fold: int) -> None:
    with pytest.raises(InputError) as caught:
        split_cases({str(n): str(n) for n in range(10)}, fold=fold, split_seed=0)
    assert refusal(caught).startswith(f"--data.fold: found {fold}, expected a whole number from 0")


def test_folds_are_as_many_as_asked_for() -> None:
    check_fold(9, 10)
    with pytest.raises(InputError) as caught:
        check_fold(3, 3)
    assert refusal(caught).startswith("--data.fold: found 3, expected a whole number from 0 to 2")


@pytest.mark.parametrize("folds", [1, 0, -5])
def test_fewer_than_two_folds(folds: int) -> None:
    with pytest.raises(InputError) as caught:
        split_cases({str(n): str(n) for n in range(10)}, fold=0, split_seed=0, folds=folds)
    assert refusal(caught).startswith(f"--data.folds: found {folds}, expected a whole number of at")


def test_too_few_different_images() -> None:
    with pytest.raises(InputError) as caught:
        split_cases({str(n): str(n % 4) for n in range(20)}, fold=0, split_seed=0)
    assert "found 4 cases with different images, expected at least 5 for 5" in refusal(caught)
    assert "set --data.folds 4, or set --data.split overlap" in refusal(caught)
    with pytest.raises(InputError) as caught:
        split_cases({str(n): str(n % 2) for n in range(20)}, fold=0, split_seed=0)
    assert "add cases, or set --data.split overlap" in refusal(caught)


def test_too_few_groups() -> None:
    images = {str(n): str(n) for n in range(20)}
    groups = {case: str(int(case) % 3) for case in images}
    with pytest.raises(InputError) as caught:
        split_cases(images, fold=0, split_seed=0, groups=groups)
    assert "found 3 groups of cases that share no image, expected at least 5" in refusal(caught)


@pytest.mark.parametrize("cases", [2, 3])
def test_halves_of_too_few_cases_leave_none_to_train_on(cases: int) -> None:
    images = {str(n): str(n) for n in range(cases)}
    with pytest.raises(InputError, match="expected at least 4 for 2 folds"):
        split_cases(images, fold=0, split_seed=0, folds=2)


@pytest.mark.parametrize(("cases", "folds"), [(4, 2), (3, 3), (5, 5)])
def test_the_fewest_cases_fill_every_split(cases: int, folds: int) -> None:
    images = {str(n): str(n) for n in range(cases)}
    for fold in range(folds):
        split = split_cases(images, fold=fold, split_seed=0, folds=folds)
        assert split.train
        assert split.val
        assert split.test


@pytest.mark.parametrize("volumes", [{"0": 1.0}, {str(n): float("nan") for n in range(10)}])
def test_volumes_that_leave_a_case_out(volumes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="volumes have no finite number"):
        split_cases({str(n): str(n) for n in range(10)}, fold=0, split_seed=0, volumes=volumes)


@pytest.mark.real
def test_the_real_hippocampus_is_split_140_20_40(hippocampus: DecathlonDataModule) -> None:
    sizes = [len(hippocampus.split_cases(split)) for split in ("train", "val", "test")]
    assert sizes == [140, 20, 40]


@pytest.mark.real
def test_one_case_cannot_be_split(real_data: Path, tmp_path: Path) -> None:
    data = DecathlonDataModule(
        root=str(real_data), task="Task09_Spleen", size=(168, 168), cache_dir=str(tmp_path)
    )
    with pytest.raises(InputError) as caught:
        data.split_cases("train")
    assert "at least 5" in refusal(caught)


def test_overlap_puts_every_case_into_every_split() -> None:
    split = overlapping_split({"b": "1", "a": "1"})
    assert split.train == split.val == split.test == ("a", "b")


def test_too_few_cases_are_told_of_overlap() -> None:
    with pytest.raises(InputError, match=r"--data\.split overlap"):
        split_cases({str(n): str(n) for n in range(4)}, fold=0, split_seed=0)
