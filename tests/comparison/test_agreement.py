"""Agreement is what SciPy's ranks and sets of pixels give, over valid pixels, run by run."""

import itertools
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from comparison.agreement import COLUMNS, TOP_PIXELS, agreements, in_order
from comparison.saliency_files import stored_maps
from comparison.selection import select_runs
from robustness.pictured import SliceMaps
from tests.comparison.made import made_frame, store_maps, store_run
from tests.places import Place
from tests.robustness.maps import made_maps

METHODS = ("occlusion", "gradient", "gradient_x_input")


def slices(number: int, methods: tuple[str, ...] = METHODS, channels: int = 1) -> list[SliceMaps]:
    """Two slices with maps of their own, the images the same for all numbers."""
    found = []
    for index in range(2):
        one = made_maps(index, methods=methods, channels=channels, case=f"case_{index}")
        noise = np.random.default_rng(100 * number + index).normal(size=one.maps.shape)
        found.append(replace(one, maps=noise.astype(np.float32)))
    return found


def scipy_rho(one: SliceMaps, first: np.ndarray, second: np.ndarray) -> float:
    pair = [np.abs(values.astype(float)).sum(axis=0)[one.valid] for values in (first, second)]
    return float(stats.spearmanr(*pair).statistic)


def shared(one: SliceMaps, first: np.ndarray, second: np.ndarray) -> float:
    tops = []
    for values in (first, second):
        magnitude = np.where(one.valid, np.abs(values).sum(axis=0), -1.0).ravel()
        tops.append(set(np.argsort(-magnitude, kind="stable")[:TOP_PIXELS].tolist()))
    return len(tops[0] & tops[1]) / TOP_PIXELS


def map_of(one: SliceMaps, method: str) -> np.ndarray:
    found: np.ndarray = one.maps[one.methods.tolist().index(method)]
    return found


def stored(folder: Path, **runs: list[SliceMaps]) -> pd.DataFrame:
    """Agreements of runs named ``<loss>_<seed>``."""
    for name, found in runs.items():
        loss, seed = name.split("_")
        run = store_run(folder, made_frame(0), {"loss": loss, "seed": seed})
        store_maps(folder, run, found)
    selection = select_runs("Task90_Blob", "test")
    return agreements(selection, stored_maps(selection))


@pytest.mark.parametrize("channels", [1, 2])
def test_methods_are_compared_over_slices_and_then_over_runs(
    place: Place, tmp_path: Path, channels: int
) -> None:
    runs = [slices(number, channels=channels) for number in range(2)]
    table = stored(tmp_path, bce_0=runs[0], bce_1=runs[1])
    assert list(table.columns) == COLUMNS
    found = table[table["kind"] == "methods"]
    ordered = ("gradient", "gradient_x_input", "occlusion")
    pairs = list(itertools.combinations(ordered, 2))
    assert list(zip(found["first"], found["second"], strict=True)) == pairs
    for row in found.to_dict("records"):
        by_run = [
            [(one, map_of(one, row["first"]), map_of(one, row["second"])) for one in run]
            for run in runs
        ]
        assert row["spearman"] == pytest.approx(
            fmean(fmean(scipy_rho(*m) for m in r) for r in by_run)
        )
        assert row["overlap"] == pytest.approx(fmean(fmean(shared(*m) for m in r) for r in by_run))
        assert row["chance"] == pytest.approx(TOP_PIXELS / runs[0][0].valid.sum())
        assert (row["slices"], row["runs"], row["loss"], row["method"]) == (4, 2, "bce", "")


def test_seeds_of_a_loss_are_compared_method_by_method(place: Place, tmp_path: Path) -> None:
    first, second = slices(0), slices(1, ("gradient", "lime"))
    table = stored(tmp_path, bce_0=first, bce_1=second[:1], dice_0=slices(2))
    found = table[table["kind"] == "seeds"]
    # Only the first slice and the one method are in both; dice has one seed.
    (row,) = found.to_dict("records")
    maps = first[0], map_of(first[0], "gradient"), map_of(second[0], "gradient")
    assert row["spearman"] == pytest.approx(scipy_rho(*maps))
    assert row["overlap"] == pytest.approx(shared(*maps))
    assert (row["loss"], row["method"]) == ("bce", "gradient")
    assert (row["first"], row["second"]) == ("seed 0", "seed 1")
    assert (row["slices"], row["runs"]) == (1, 2)


def test_a_map_without_structure_tells_nothing(place: Place, tmp_path: Path) -> None:
    flat = slices(0)
    flat[1].maps[1] = 0.5
    table = stored(tmp_path, bce_0=flat).set_index(["first", "second"])
    assert table.loc[("gradient", "occlusion"), "slices"] == 1
    assert table.loc[("gradient_x_input", "occlusion"), "slices"] == 2
    expected = scipy_rho(flat[0], map_of(flat[0], "gradient"), map_of(flat[0], "occlusion"))
    assert table.loc[("gradient", "occlusion"), "spearman"] == pytest.approx(expected)


def test_a_map_agrees_with_itself_whatever_its_sign_and_scale(place: Place, tmp_path: Path) -> None:
    one = slices(0, ("gradient", "occlusion"))
    for found in one:
        found.maps[1] = -3 * found.maps[0]
    (row,) = stored(tmp_path, bce_0=one).to_dict("records")
    assert row["spearman"] == pytest.approx(1.0)
    assert row["overlap"] == 1.0


def test_small_slices_and_single_methods_have_their_answer(place: Place, tmp_path: Path) -> None:
    few = slices(0)
    for one in few:
        one.valid[4:] = False
        one.valid[:, 5:] = False
    table = stored(tmp_path, bce_0=few)
    assert set(table["overlap"]) == set(table["chance"]) == {1.0}


def test_one_method_of_one_run_agrees_with_nothing(place: Place, tmp_path: Path) -> None:
    assert stored(tmp_path, bce_0=slices(0, ("gradient",))).empty


def test_methods_stand_in_the_order_of_the_tool_then_by_name() -> None:
    assert in_order(["zeta", "lime", "alpha", "gradient", "lime"]) == [
        *("gradient", "lime", "alpha", "zeta"),
    ]
