"""Files of saliency are put together where they say the same of the same; others are named."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comparison.saliency_files import stored_curves, stored_maps, stored_spreads, stored_trust
from comparison.selection import select_runs
from errors import InputError
from robustness.pictured import SliceMaps
from tests.comparison.made import (
    made_evidence,
    made_frame,
    made_spread,
    made_verdict,
    store_maps,
    store_run,
    store_spread,
    store_trust,
)
from tests.places import Place
from tests.robustness.maps import WORDS, made_maps
from tracking.reading import MAPS_FILE, robustness_folder
from tracking.store import open_client


@pytest.fixture
def ids(place: Place, tmp_path: Path) -> list[str]:
    """Runs of ``bce`` with seeds 0 and 1 and of ``dice`` with seed 0, the newest."""
    return [
        store_run(tmp_path, made_frame(index), {"loss": loss, "seed": str(seed)})
        for index, (loss, seed) in enumerate((("bce", 0), ("bce", 1), ("dice", 0)))
    ]


def with_spread(folder: Path, ids: Sequence[str], *changes: Mapping[str, str] | None) -> None:
    for run, change in zip(ids, changes, strict=True):
        if change is not None:
            store_spread(folder, run, made_spread(0), change)


def with_maps(folder: Path, ids: Sequence[str], *maps: SliceMaps) -> None:
    for run, one in zip(ids, maps, strict=True):
        store_maps(folder, run, [one])


def test_a_temperature_and_weights_of_their_own_keep_no_run_out(
    ids: list[str], tmp_path: Path
) -> None:
    with_spread(tmp_path, ids, {}, None, {"temperature": "3.5"})
    found = stored_spreads(select_runs("Task90_Blob", "test"))
    assert [compared.run.run_id for compared, _ in found.runs] == [ids[0], ids[2]]
    assert found.without == ("bce, seed 1",)
    assert not found.left_out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methods": "[]"}, "gradient with unknown settings and not those of dice, seed 0"),
        (
            {"methods": '[{"method": "gradient", "power": 2}]'},
            "gradient with power 2 instead of unknown as in dice, seed 0",
        ),
        ({"valid_only": "yes"}, "other valid only than those of dice, seed 0, the newest"),
        ({"data": "0" * 64}, "with other data than its attacks"),
        ({"split": "0" * 64, "data": "0"}, "with other data and cases of the split than its att"),
        ({"checkpoint_sha256": "0" * 64}, "with other weights than its attacks"),
    ],
)
def test_spread_of_something_else_is_left_out_with_the_reason(
    ids: list[str], tmp_path: Path, change: dict[str, str], words: str
) -> None:
    with_spread(tmp_path, ids, {}, change, {})
    found = stored_spreads(select_runs("Task90_Blob", "test"))
    assert [compared.run.run_id for compared, _ in found.runs] == [ids[0], ids[2]]
    assert list(found.left_out) == ["bce, seed 1"]
    assert words in found.left_out["bce, seed 1"]


def test_a_newest_run_that_fits_not_its_own_counts_is_no_measure_for_others(
    ids: list[str], tmp_path: Path
) -> None:
    with_spread(tmp_path, ids, {}, {}, {"data": "0" * 64})
    found = stored_spreads(select_runs("Task90_Blob", "test"))
    assert [compared.run.run_id for compared, _ in found.runs] == ids[:2]
    assert list(found.left_out) == ["dice, seed 0"]


def test_maps_of_something_else_are_left_out(ids: list[str], tmp_path: Path) -> None:
    like = made_maps(0)
    with_maps(tmp_path, ids, replace(like, explained="margin"), made_maps(5), like)
    found = stored_maps(select_runs("Task90_Blob", "test"))
    assert [compared.run.run_id for compared, _ in found.runs] == [ids[2]]
    assert "explain something else (margin)" in found.left_out["bce, seed 0"]
    assert "other images or truths (slice 12 of case_007)" in found.left_out["bce, seed 1"]


def test_maps_in_other_units_are_left_out_and_those_of_no_method_are_none(
    ids: list[str], tmp_path: Path
) -> None:
    like = made_maps(0)
    names = ("methods", "units", "signed", "settings", "maps")
    empty = replace(like, **{name: getattr(like, name)[:0] for name in names})
    with_maps(tmp_path, ids, replace(like, units=np.array(["mm"])), empty, like)
    found = stored_maps(select_runs("Task90_Blob", "test"))
    assert [compared.run.run_id for compared, _ in found.runs] == [ids[2]]
    assert found.without == ("bce, seed 1",)
    words = f"gradient with unit mm instead of {like.units[0]} as in dice, seed 0"
    assert found.left_out["bce, seed 0"] == words


def test_a_method_of_the_spread_that_differs_is_left_out_alone(
    ids: list[str], tmp_path: Path
) -> None:
    """Each method is compared with the newest run that has it, and lists may differ."""
    for run, samples in zip(ids, (5, 25, None), strict=True):
        lime = [] if samples is None else [{"method": "lime", "samples": samples}]
        frame = made_spread(0, methods=("gradient", "lime") if lime else ("gradient",))
        listed = json.dumps([{"method": "gradient"}, *lime])
        store_spread(tmp_path, run, frame, {"methods": listed})
    found = stored_spreads(select_runs("Task90_Blob", "test"))
    held = {compared.run.run_id: sorted(set(file.frame["method"])) for compared, file in found.runs}
    assert held == {ids[0]: ["gradient"], ids[1]: ["gradient", "lime"], ids[2]: ["gradient"]}
    assert not found.left_out
    words = "with samples 5 instead of 25 as in bce, seed 1"
    assert found.methods_left_out == {"bce, seed 0": {"lime": words}}
    assert found.notes == {"bce, seed 0": f"lime {words}"}


def test_maps_and_verdicts_of_other_weights_than_the_counts_are_left_out(
    ids: list[str], tmp_path: Path
) -> None:
    like = made_maps(0)
    with_maps(tmp_path, ids, replace(like, checkpoint_sha256="f" * 64), like, like)
    store_trust(tmp_path, ids[0], [made_verdict("gradient")])
    store_trust(tmp_path, ids[1], [made_verdict("gradient")], checkpoint_sha256="f" * 64)
    selection = select_runs("Task90_Blob", "test")
    maps = stored_maps(selection)
    assert [compared.run.run_id for compared, _ in maps.runs] == ids[1:]
    assert maps.left_out == {"bce, seed 0": "its maps are of other weights than its attacks"}
    trust = stored_trust(selection, maps)
    assert [compared.run.run_id for compared, _ in trust.runs] == ids[:1]
    assert trust.left_out == {
        "bce, seed 1": "its verdicts are on maps of other weights than its attacks"
    }


def test_verdicts_on_something_else_than_the_maps_are_left_out(
    ids: list[str], tmp_path: Path
) -> None:
    with_maps(tmp_path, ids, *[made_maps(0)] * 3)
    for run, explained in zip(ids, (WORDS, "margin", "margin"), strict=True):
        store_trust(tmp_path, run, [made_verdict("gradient")], explained=explained)
    selection = select_runs("Task90_Blob", "test")
    found = stored_trust(selection, stored_maps(selection))
    assert [compared.run.run_id for compared, _ in found.runs] == ids[:1]
    assert list(found.left_out) == ["bce, seed 1", "dice, seed 0"]
    assert all("on maps of something else (margin)" in words for words in found.left_out.values())
    # Without maps they have to be of one kind all the same.
    alone = stored_trust(selection)
    assert [compared.run.run_id for compared, _ in alone.runs] == ids[1:]
    assert "(sum of p) than those of dice, seed 0, the newest" in alone.left_out["bce, seed 0"]


def test_verdicts_and_curves_of_a_method_go_with_its_maps(ids: list[str], tmp_path: Path) -> None:
    like = made_maps(0, methods=("gradient", "lime"))
    other = replace(like, settings=np.array([like.settings[0], '{"method": "lime"}']))
    with_maps(tmp_path, ids, other, like, like)
    for run in ids[:2]:
        evidence = [made_evidence(name) for name in ("gradient", "lime")]
        store_trust(
            tmp_path, run, [made_verdict("gradient"), made_verdict("lime")], evidence=evidence
        )
    selection = select_runs("Task90_Blob", "test")
    trust = stored_trust(selection, stored_maps(selection))
    methods = [frame["method"].tolist() for _, frame in trust.runs]
    assert methods == [["gradient"], ["gradient", "lime"]]
    assert list(trust.methods_left_out) == ["bce, seed 0"]
    curves = stored_curves(selection, trust)
    assert [sorted(set(frame["method"])) for _, frame in curves] == methods


def test_a_table_without_verdicts_is_none(ids: list[str], tmp_path: Path) -> None:
    store_trust(tmp_path, ids[0], [])
    selection = select_runs("Task90_Blob", "test")
    found = stored_trust(selection)
    assert not found.runs
    assert found.without == ("bce, seed 0", "bce, seed 1", "dice, seed 0")
    assert stored_curves(selection, found) == ()


def test_verdicts_are_those_of_their_run(ids: list[str], tmp_path: Path) -> None:
    store_trust(tmp_path, ids[1], [made_verdict("lime", "stable", number=0.375)])
    found = stored_trust(select_runs("Task90_Blob", "test"))
    ((compared, frame),) = found.runs
    assert compared.run.run_id == ids[1]
    assert frame["randomised"].tolist() == [0.375]
    assert found.without == ("bce, seed 0", "dice, seed 0")


def test_broken_maps_are_refused_in_one_line(ids: list[str], tmp_path: Path) -> None:
    (tmp_path / MAPS_FILE).write_bytes(b"no maps")
    open_client().log_artifact(ids[0], str(tmp_path / MAPS_FILE), robustness_folder("test"))
    with pytest.raises(InputError, match=r"maps\.npz cannot be read"):
        stored_maps(select_runs("Task90_Blob", "test"))
