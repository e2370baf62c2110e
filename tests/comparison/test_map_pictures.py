"""The maps of a slice stand by loss, with what is wrong with a method beside each of them."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from comparison.map_pictures import MOST_ROWS, MapCase, MapRow, map_cases, map_pictures
from comparison.saliency_files import stored_maps
from comparison.selection import select_runs
from robustness.pictured import SliceMaps
from tests.comparison.made import made_frame, store_maps, store_run
from tests.places import Place
from tests.robustness.maps import made_maps

METHODS = ("gradient", "lime")


def with_noise(number: int, methods: tuple[str, ...] = METHODS) -> list[SliceMaps]:
    """Two cases, the second one only with number 0; images are the same for all numbers."""
    generator = np.random.default_rng(number)
    found = [made_maps(0, methods=methods, case=case) for case in ("Case b", "Case a")]
    noise = [generator.normal(size=one.maps.shape).astype(np.float32) for one in found]
    slices = [replace(one, maps=maps) for one, maps in zip(found, noise, strict=True)]
    return slices if number == 0 else slices[:1]


def test_slices_are_sorted_and_the_first_seed_that_holds_one_is_shown(
    place: Place, tmp_path: Path
) -> None:
    assert place.uri
    ids = []
    for index, (loss, seed) in enumerate((("bce", 0), ("bce", 1), ("dice", 0), ("focal", 0))):
        ids.append(store_run(tmp_path, made_frame(0), {"loss": loss, "seed": str(seed)}))
        if loss != "focal":
            numbers = (1, 0, 2)
            methods = ("gradient",) if loss == "dice" else METHODS
            store_maps(tmp_path, ids[-1], with_noise(numbers[index], methods))
    selection = select_runs("Task90_Blob", "test")
    marks = {
        ids[0]: {"gradient": "", "lime": "fails stable"},
        ids[2]: {"gradient": "fails randomised", "lime": "refused"},
    }
    first, second = map_cases(selection, stored_maps(selection), marks)
    assert (first.case, second.case) == ("Case a", "Case b")
    assert (first.slice_index, first.explained) == (12, "sum of p")
    # The first seed has only the second case.
    assert [row.name for row in first.rows] == ["bce, seed 1"]
    assert first.missing == ("dice", "focal")
    assert [row.marks for row in first.rows] == [dict.fromkeys(METHODS, "not checked")]
    assert [row.name for row in second.rows] == ["bce, seed 0", "bce, seed 1", "dice, seed 0"]
    assert second.rows[0].label == "bce, seed\N{NO-BREAK SPACE}0"
    assert [row.name for row in second.first_rows] == ["bce, seed 0", "dice, seed 0"]
    assert second.missing == ("focal",)
    assert [row.marks for row in second.rows] == [
        {"lime": "fails stable"},
        dict.fromkeys(METHODS, "not checked"),
        {"gradient": "fails randomised", "lime": "refused"},
    ]
    assert second.marked("lime") == "bce: fails stable; not checked; dice: refused"
    assert second.marked("gradient") == "bce: not checked (1 of 2 runs); dice: fails randomised"
    assert second.methods == ["gradient", "lime"]
    assert [row.name for row in second.shown_rows("lime")] == ["bce, seed 0", "bce, seed 1"]
    shown = second.rows[0].maps
    np.testing.assert_array_equal(shown.maps, with_noise(1)[0].maps)

    drawn = map_pictures(selection, [first, second])
    assert [list(pictures.files) for pictures in drawn] == [
        ["maps_case_a_slice12", "maps_case_a_slice12_gradient", "maps_case_a_slice12_lime"],
        ["maps_case_b_slice12", "maps_case_b_slice12_gradient", "maps_case_b_slice12_lime"],
    ]
    sizes = {
        name: Image.open(io.BytesIO(png)).size
        for pictures in drawn
        for name, png in pictures.files.items()
    }
    # A loss more is a column more of the grid, a run more a row more of a method.
    assert sizes["maps_case_b_slice12"][0] > sizes["maps_case_a_slice12"][0]
    large = "maps_case_{}_slice12_gradient"
    assert sizes[large.format("b")][1] > sizes[large.format("a")][1]


def test_names_of_files_hold_no_path(place: Place, tmp_path: Path) -> None:
    assert place.uri
    run = store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    store_maps(tmp_path, run, [made_maps(0, case="../../up")])
    selection = select_runs("Task90_Blob", "test")
    (pictures,) = map_pictures(selection, map_cases(selection, stored_maps(selection), {}))
    assert all("/" not in name for name in pictures.files)


def drawn_by(samples: int, seed: int, number: int, case: str = "a") -> SliceMaps:
    """Maps of both methods, those of LIME with these settings."""
    found = replace(with_noise(number)[0], case=case)
    lime = json.dumps({"method": "lime", "samples": samples, "seed": seed})
    return replace(found, settings=np.array([found.settings[0], lime]))


def test_a_method_with_other_settings_is_none_beside_those_that_fit(
    place: Place, tmp_path: Path
) -> None:
    assert place.uri
    settings = {"bce": (5, 0), "dice": (25, 1), "focal": (25, 0)}
    for index, (loss, of_lime) in enumerate(settings.items()):
        run = store_run(tmp_path, made_frame(0), {"loss": loss, "seed": "0"})
        store_maps(tmp_path, run, [drawn_by(*of_lime, index)])
    selection = select_runs("Task90_Blob", "test")
    stored = stored_maps(selection)
    assert stored.methods_left_out == {
        "bce, seed 0": {"lime": "with samples 5 instead of 25 as in focal, seed 0"},
        "dice, seed 0": {"lime": "with seed 1 instead of 0 as in focal, seed 0"},
    }
    assert not stored.left_out
    verdicts = {run.run.run_id: {"gradient": "", "lime": "fails stable"} for run in selection.runs}
    (case,) = map_cases(selection, stored, verdicts)
    assert [list(row.maps.methods) for row in case.rows] == [["gradient"], ["gradient"], [*METHODS]]
    np.testing.assert_array_equal(case.rows[0].maps.maps, with_noise(0)[0].maps[:1])
    # What was said of maps that are not shown says nothing of those that are.
    assert [row.marks for row in case.rows] == [{}, {}, {"lime": "fails stable"}]
    assert [row.name for row in case.shown_rows("lime")] == ["focal, seed 0"]


def test_of_many_runs_each_loss_keeps_its_first_ones() -> None:
    runs = {"bce": 10, "dice": 3, "focal": 7}
    rows = [
        MapRow(f"{loss}, seed {seed}", loss, f"seed {seed}", made_maps(0), {})
        for loss, seeds in runs.items()
        for seed in range(seeds)
    ]
    case = MapCase("a", 12, tuple(rows), ())
    kept = {"bce": 5, "dice": 3, "focal": 4}
    names = [f"{loss}, seed {seed}" for loss, seeds in kept.items() for seed in range(seeds)]
    assert [row.name for row in case.shown_rows("gradient")] == names
    assert len(names) == MOST_ROWS
    assert case.hidden("gradient") == 8
    few = MapCase("a", 12, tuple(rows[:MOST_ROWS]), ())
    assert list(few.shown_rows("gradient")) == rows[:MOST_ROWS]
    assert few.hidden("gradient") == few.hidden("lime") == 0
