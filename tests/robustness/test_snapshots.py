"""Raw maps of a few slices: which slices, that they are those of the counts, and their file."""

from dataclasses import fields, replace
from pathlib import Path
from random import Random
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustness.attack import Attack
from robustness.pictured import load_slices, save_slices
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.snapshots import (
    LargestSlices,
    SliceSample,
    Snapshot,
    take_snapshots,
)
from tests.robustness.reference import Slice, gradient_of, logits_of
from tests.robustness.toy import (
    CPU,
    CallCounter,
    ConvNet,
    as_batch,
    batches_of,
    count,
    few_attacks,
    make_slices,
    with_its_source,
)

EACH = pytest.mark.parametrize("attack", few_attacks(), ids=lambda attack: attack.name)


def _sample(case: str, index: int, area: int) -> SliceSample:
    return SliceSample(case, index, area, *(torch.zeros(1, 2, 2) for _ in range(3)))


def _chosen(chooser: LargestSlices) -> list[tuple[str, int, int]]:
    return [(sample.case, sample.slice_index, sample.area) for sample in chooser.samples()]


def _samples(slices: list[Slice], cases: int = 9) -> list[SliceSample]:
    chooser = LargestSlices(cases)
    for batch in batches_of(slices, 4):
        chooser.look(batch)
    return chooser.samples()


def _largest(areas: dict[tuple[str, int], int], cases: int) -> list[tuple[str, int, int]]:
    names = sorted({case for case, _ in areas})[:cases]
    found = []
    for name in names:
        own = {index: area for (case, index), area in areas.items() if case == name}
        index = min(own, key=lambda index: (-own[index], index))
        found.append((name, index, own[index]))
    return found


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 5)), st.integers(0, 3), min_size=1
    ),
    st.integers(0, 4),
    st.randoms(use_true_random=False),
)
def test_the_largest_slice_of_each_of_the_first_cases_in_any_order(
    areas: dict[tuple[str, int], int], cases: int, random: Random
) -> None:
    order = list(areas)
    random.shuffle(order)
    parts = [LargestSlices(cases) for _ in range(3)]
    whole = LargestSlices(cases)
    for number, key in enumerate(order):
        sample = _sample(*key, areas[key])
        whole.merge([sample])
        parts[number % 3].merge([sample])
    for part in parts[1:]:
        parts[0].merge(part.samples())
    assert _chosen(whole) == _chosen(parts[0]) == _largest(areas, cases)


def test_slices_are_looked_at_as_they_pass_by() -> None:
    slices = make_slices(13, channels=2, classes=2)
    areas = {(one.case, one.index): int(one.mask.sum()) for one in slices}
    samples = _samples(slices, 2)
    assert [(s.case, s.slice_index, s.area) for s in samples] == _largest(areas, 2)
    by_key = {(one.case, one.index): one for one in slices}
    for sample in samples:
        one = by_key[sample.case, sample.slice_index]
        assert np.array_equal(sample.image.numpy(), one.image)
        assert np.array_equal(sample.mask.numpy() > 0, one.mask)
        assert np.array_equal(sample.valid.numpy()[0], one.valid)


def test_the_chosen_slices_do_not_hold_on_to_their_batch() -> None:
    chooser = LargestSlices(1)
    batch = as_batch(make_slices(3))
    chooser.look(batch)
    (sample,) = chooser.samples()
    before = sample.image.clone()
    batch["image"].zero_()
    assert torch.equal(sample.image, before)
    assert sample.image.untyped_storage().nbytes() == sample.image.nbytes


@EACH
def test_maps_are_those_of_the_counts(attack: Attack) -> None:
    """The masks of each picture give the very counts that are stored of that slice."""
    network, slices = ConvNet(2, 2).eval(), make_slices(9, channels=2, classes=2)
    samples = _samples(slices)
    snapshots = take_snapshots(network, samples, attack, device=CPU, seed=5, batch_size=8)
    assert [snapshot.case for snapshot in snapshots] == ["case_0", "case_1", "case_2"]
    by_key = {(one.case, one.index): one for one in slices}
    for snapshot in snapshots:
        one = by_key[snapshot.case, snapshot.slice_index]
        frame = count(network, [one], with_its_source(attack), seed=5)
        frame = frame[frame["repeat"] == 0]
        maps = {("clean", 0): snapshot.probs}
        maps |= {(attack.name, point): probs for point, probs in enumerate(snapshot.attacked_probs)}
        for (name, point), probs in maps.items():
            rows = frame[(frame["attack"] == name) & (frame["point_index"] == point)]
            assert rows["tp"].tolist() == ((probs > 0.5) & one.mask).sum(axis=(1, 2)).tolist()
            assert rows["fp"].tolist() == ((probs > 0.5) & ~one.mask).sum(axis=(1, 2)).tolist()


@EACH
def test_a_snapshot_holds_the_slice_its_gradient_and_the_attacks_axis(attack: Attack) -> None:
    network, slices = ConvNet(2, 2).eval(), make_slices(9, channels=2, classes=2)
    by_key = {(one.case, one.index): one for one in slices}
    for found in take_snapshots(network, _samples(slices), attack, device=CPU, batch_size=8):
        one = by_key[found.case, found.slice_index]
        assert np.array_equal(found.image, one.image)
        assert np.array_equal(found.mask, one.mask)
        assert np.array_equal(found.valid, one.valid)
        gradient = gradient_of(network, one.image, 8, of_logits=False)
        assert np.array_equal(found.gradient, gradient)
        probs = torch.from_numpy(logits_of(network, one.image, 8)).sigmoid().numpy()
        assert np.array_equal(found.probs, probs)
        assert (found.attack, found.unit) == (attack.name, attack.unit)
        assert found.points.tolist() == list(attack.points)
        assert found.attacked_probs.shape == (len(attack.points), 2, 24, 24)
        types = {
            name: getattr(found, name).dtype.name
            for name in ("image", "mask", "valid", "gradient", "probs", "points", "attacked_probs")
        }
        assert types == {
            "image": "float32",
            "mask": "bool",
            "valid": "bool",
            "gradient": "float32",
            "probs": "float32",
            "points": "float64",
            "attacked_probs": "float32",
        }


def test_only_the_first_repeat_costs_passes() -> None:
    network = CallCounter(ConvNet().eval())
    attack = CountAttack("values", counts=(1, 2), repeats=50, ranking="random")
    take_snapshots(network, _samples(make_slices(3)), attack, device=CPU, batch_size=8)
    assert network.backwards == 1
    assert network.forwards == 1 + 1 + 2


def test_no_slices_give_no_snapshots() -> None:
    network = CallCounter(ConvNet())
    attack = LevelAttack("a", levels=(0.1,))
    assert take_snapshots(network, [], attack, device=CPU) == []
    assert network.forwards == 0


@pytest.fixture
def snapshots() -> list[Snapshot]:
    attack = LevelAttack("levels", levels=(0.0, 1.0))
    taken = take_snapshots(
        ConvNet(2, 2).eval(),
        _samples(make_slices(9, channels=2, classes=2)),
        attack,
        device=CPU,
        batch_size=8,
    )
    return [replace(taken[0], case="hippocampe é/1"), *taken[1:]] * 4


def test_what_is_saved_is_loaded_again(snapshots: list[Snapshot], tmp_path: Path) -> None:
    path = tmp_path / "saliency.npz"
    save_slices(path, snapshots)
    loaded = load_slices(path, Snapshot)
    assert len(loaded) == len(snapshots) == 12
    for found, expected in zip(loaded, snapshots, strict=True):
        for entry in fields(Snapshot):
            value, then = getattr(found, entry.name), getattr(expected, entry.name)
            assert type(value) is type(then)
            if isinstance(then, np.ndarray):
                assert value.dtype == then.dtype
                assert np.array_equal(value, then)
            else:
                assert value == then


def test_a_file_without_snapshots_is_an_empty_list(tmp_path: Path) -> None:
    save_slices(tmp_path / "saliency.npz", [])
    assert load_slices(tmp_path / "saliency.npz", Snapshot) == []


def test_a_file_that_holds_no_snapshots_is_refused(
    snapshots: list[Snapshot], tmp_path: Path
) -> None:
    path = tmp_path / "saliency.npz"
    with pytest.raises(ValueError, match="not a readable file of Snapshot"):
        load_slices(path, Snapshot)
    save_slices(path, snapshots[:1])
    whole = path.read_bytes()
    for broken in (b"", b"no maps", whole[: len(whole) // 2], whole[:-10]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="not a readable file of Snapshot") as caught:
            load_slices(path, Snapshot)
        assert str(path) in str(caught.value)


def test_a_file_with_other_arrays_is_refused(snapshots: list[Snapshot], tmp_path: Path) -> None:
    path = tmp_path / "saliency.npz"
    for arrays in ({"0/case": np.array("a")}, {"probs": np.zeros(3)}, {"x/probs": np.zeros(3)}):
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        with pytest.raises(ValueError, match="not a readable file of Snapshot"):
            load_slices(path, Snapshot)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(ValueError, match="not a readable file of Snapshot"):
        load_slices(path.with_suffix(".npy"), Snapshot)
    save_slices(path, snapshots[:1])
    damaged = tmp_path / "damaged.npz"
    with ZipFile(path) as source, ZipFile(damaged, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:40] if "probs" in name else content)
    with pytest.raises(ValueError, match="not a readable file of Snapshot"):
        load_slices(damaged, Snapshot)
