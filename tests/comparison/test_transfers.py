"""What was transferred between runs is averaged over the pairs of seeds that belong together."""

from pathlib import Path

import pandas as pd
import pytest

from comparison.selection import Selection, select_runs
from comparison.transfers import COLUMNS, Transfers, transfer_figures, transfers
from errors import InputError
from robustness.counts import CLEAN_ROW, Row
from tests.comparison.made import METADATA, frame_of, store_run, store_transfer
from tests.places import Place
from tracking.reading import TRANSFER_FOLDER, robustness_folder
from tracking.store import open_client

COUNTED = frame_of({CLEAN_ROW: [0.9, 0.8, 0.7, 0.6]})


def made(dice: float, cases: int = 2, *, clean: float | None = 0.9) -> pd.DataFrame:
    """PGD leaves Dice of ``dice`` at its larger point, half a tenth more or less a volume."""
    spread = [0.05 * (-1) ** index for index in range(cases)]
    rows = {} if clean is None else {CLEAN_ROW: [clean] * cases}
    rows[Row("pgd", "epsilon", 0, 0.01, 0)] = [0.5 + change for change in spread]
    rows[Row("pgd", "epsilon", 1, 0.02, 0)] = [dice + change for change in spread]
    return frame_of(rows)


class Runs:
    """Stored runs by loss and seed, whose weights have the sha256 ``<loss><seed>``."""

    def __init__(self, scratch: Path, *names: str) -> None:
        self.scratch = scratch
        self.ids: dict[str, str] = {}
        for name in names:
            params = {"loss": name[:-1], "seed": name[-1]}
            metadata = {**METADATA, "checkpoint_sha256": name}
            self.ids[name] = store_run(scratch, COUNTED, params, metadata=metadata)

    def transfer(self, source: str, victim: str, frame: pd.DataFrame, **changed: str) -> None:
        facts = {"checkpoint_sha256": victim, "made_on_sha256": source, "attacks": "t" * 64}
        metadata = {**METADATA, **facts, **changed}
        made_on, counted_on = self.ids.get(source, source), self.ids[victim]
        store_transfer(self.scratch, made_on, counted_on, frame, metadata)

    @property
    def selection(self) -> Selection:
        return select_runs("Task90_Blob", "test")

    def found(self) -> Transfers:
        found = transfers(self.selection)
        assert found is not None
        return found


def dice_of(found: Transfers, point: float = 0.02) -> dict[tuple[str, str, bool], float]:
    table = found.table[found.table["point"] == point]
    keys = zip(table["made_on"], table["counted_on"], table["white_box"], strict=True)
    return {
        (str(source), str(victim), bool(own)): float(dice)
        for (source, victim, own), dice in zip(keys, table["dice"], strict=True)
    }


def test_dice_is_the_mean_over_pairs_of_seeds(place: Place, tmp_path: Path) -> None:
    runs = Runs(tmp_path, "bce0", "bce1", "dice0")
    dice = {
        **{("bce0", "bce0"): 0.1, ("bce1", "bce1"): 0.3, ("bce0", "bce1"): 0.5},
        **{("bce1", "bce0"): 0.6, ("bce0", "dice0"): 0.7, ("bce1", "dice0"): 0.9},
        **{("dice0", "bce0"): 0.4, ("dice0", "bce1"): 0.2, ("dice0", "dice0"): 0.05},
    }
    for (source, victim), value in dice.items():
        runs.transfer(source, victim, made(value))
    found = runs.found()
    assert found.losses == ("bce", "dice")
    assert list(found.table.columns) == COLUMNS
    assert dice_of(found) == pytest.approx(
        {
            ("bce", "bce", True): 0.2,
            ("bce", "bce", False): 0.55,
            ("bce", "dice", False): 0.8,
            ("dice", "bce", False): 0.3,
            ("dice", "dice", True): 0.05,
        }
    )
    assert set(dice_of(found, 0.01).values()) == {0.5}
    assert dice_of(found, 0.0) == {
        ("no attack", "bce", False): 0.9,
        ("no attack", "dice", False): 0.9,
    }
    pairs = found.table[found.table["attack"] == "pgd"].groupby(["made_on", "counted_on"])["pairs"]
    assert pairs.sum().to_dict() == {  # at two points each
        ("bce", "bce"): 8,
        ("bce", "dice"): 4,
        ("dice", "bce"): 4,
        ("dice", "dice"): 2,
    }
    assert found.cases == 2
    assert found.notes == ()
    assert list(transfer_figures(found)) == ["transfer_pgd"]


def test_all_pairs_are_scored_on_the_cases_that_all_have(place: Place, tmp_path: Path) -> None:
    runs = Runs(tmp_path, "bce0", "dice0")
    for pair in (("bce0", "bce0"), ("dice0", "dice0"), ("bce0", "dice0")):
        runs.transfer(*pair, made(0.5, cases=4))
    runs.transfer("dice0", "bce0", made(0.5, cases=1))
    found = runs.found()
    assert found.cases == 1
    assert set(found.table["cases"]) == {1}
    # The first volume has a twentieth more than the mean.
    assert set(dice_of(found).values()) == {0.55}


def test_pairs_that_are_missing_are_said(place: Place, tmp_path: Path) -> None:
    runs = Runs(tmp_path, "bce0", "dice0")
    runs.transfer("bce0", "dice0", made(0.5))
    found = runs.found()
    assert dice_of(found) == pytest.approx({("bce", "dice", False): 0.5})
    assert found.notes == ("1 of 4 pairs of runs were attacked.",)
    assert list(transfer_figures(found)) == ["transfer_pgd"]


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ({"made_on_sha256": "older"}, "other weights or on other data"),
        ({"checkpoint_sha256": "older"}, "other weights or on other data"),
        ({"data": "other"}, "other weights or on other data"),
        ({"split": "other"}, "other weights or on other data"),
        ({"attacks": "other"}, "other attacks than most"),
    ],
)
def test_what_was_attacked_otherwise_is_left_out(
    changed: dict[str, str], note: str, place: Place, tmp_path: Path
) -> None:
    runs = Runs(tmp_path, "bce0", "dice0")
    for pair in (("bce0", "bce0"), ("dice0", "dice0"), ("bce0", "dice0")):
        runs.transfer(*pair, made(0.5))
    runs.transfer("dice0", "bce0", made(0.1), **changed)
    found = runs.found()
    assert 0.1 not in dice_of(found).values()
    assert len(found.notes) == 2
    assert found.notes[0].startswith("Left out: 1 of the pairs of runs")
    assert note in found.notes[0]
    assert found.notes[1] == "3 of 4 pairs of runs were attacked."


def test_transfers_without_clean_rows_have_no_row_for_them(place: Place, tmp_path: Path) -> None:
    runs = Runs(tmp_path, "bce0")
    runs.transfer("bce0", "bce0", made(0.5, clean=None))
    found = runs.found()
    assert set(found.table["attack"]) == {"pgd"}
    assert list(transfer_figures(found)) == ["transfer_pgd"]


def test_runs_that_are_not_compared_are_passed_over(place: Place, tmp_path: Path) -> None:
    runs = Runs(tmp_path, "bce0")
    runs.transfer("elsewhere", "bce0", made(0.5))
    assert transfers(runs.selection) is None


def test_a_broken_transfer_is_refused(place: Place, tmp_path: Path) -> None:
    runs = Runs(tmp_path, "bce0")
    folder = f"{robustness_folder('test')}/{TRANSFER_FOLDER}"
    open_client().log_text(runs.ids["bce0"], "PAR1", f"{folder}/other.parquet")
    with pytest.raises(InputError, match="attack the experiment again"):
        transfers(runs.selection)
