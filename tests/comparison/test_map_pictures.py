"""The maps of a slice stand by loss, with what is wrong with a method beside each of them."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from comparison.map_pictures import map_cases, map_pictures
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
    assert first.shown == {"bce": "seed 1"}
    assert first.missing == ("dice", "focal")
    assert first.marks == {("bce", "gradient"): "not checked", ("bce", "lime"): "not checked"}
    assert second.shown == {"bce": "seed 0", "dice": "seed 0"}
    assert second.missing == ("focal",)
    assert second.marks == {
        ("bce", "lime"): "fails stable",
        ("dice", "gradient"): "fails randomised",
        ("dice", "lime"): "refused",
    }
    assert second.methods == ["gradient", "lime"]
    (_, shown), _ = second.columns
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
    # A loss more is a column more of the grid and a row more of a method.
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
