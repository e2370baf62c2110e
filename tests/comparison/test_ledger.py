"""The ledgers that stand side by side are those of the runs, drawn on one scale."""

from pathlib import Path

import numpy as np
import pytest

from comparison.ledger import ledger_figures, loss_ledgers
from comparison.selection import Selection, select_runs
from errors import InputError
from lightning_module.ledger_history import loss_history
from pictures.ledger import ledger_figure
from pictures.style import to_png_bytes
from tests.comparison.made import made_frame, made_ledger, store_run
from tests.places import Place

DICE = {"front": 0.9, "back": 0.8}
EVEN = made_ledger({"front": 0.5, "back": 0.5}, DICE)
UNEVEN = made_ledger({"front": 0.9, "back": 0.1}, DICE, epochs=2)


def stored(folder: Path, **ledgers: object) -> Selection:
    """Runs named ``<loss>_<seed>`` or ``<loss>_<seed>_<fold>``, each with its ledger or none."""
    frame = made_frame(0)
    for name, ledger in ledgers.items():
        loss, seed, fold = [*name.split("_"), "0"][:3]
        params = {"loss": loss, "seed": seed, "fold": fold}
        store_run(folder, frame, params, ledger=ledger)  # type: ignore[arg-type]
    return select_runs("Task90_Blob", "test")


def test_runs_without_a_ledger_are_left_out(place: Place, tmp_path: Path) -> None:
    ledgers = loss_ledgers(stored(tmp_path, bce_0=None, bce_1=EVEN, dice_0=None, focal_0=UNEVEN))
    assert [(found.loss, list(found.histories)) for found in ledgers] == [
        ("bce", ["seed 1"]),
        ("focal", ["seed 0"]),
    ]
    expected = loss_history(UNEVEN, "val")
    assert expected is not None
    np.testing.assert_array_equal(ledgers[1].histories["seed 0"].parts, expected.parts)


def test_folds_are_told_apart_where_there_are_several(place: Place, tmp_path: Path) -> None:
    (found,) = loss_ledgers(stored(tmp_path, bce_0_0=EVEN, bce_0_1=UNEVEN))
    assert sorted(found.histories) == ["seed 0, fold 0", "seed 0, fold 1"]


def test_a_ledger_without_validation_shows_nothing(place: Place, tmp_path: Path) -> None:
    unscored = made_ledger({"front": 1.0}, {}, splits=["train"])
    assert loss_ledgers(stored(tmp_path, bce_0=unscored)) == []
    assert ledger_figures([]) == {}


def test_a_loss_of_one_part_has_nothing_to_share_out(place: Place, tmp_path: Path) -> None:
    single = made_ledger({"front": 1.0}, {"front": 0.9})
    (found,) = loss_ledgers(stored(tmp_path, bce_0=single, focal_0=EVEN))
    assert found.loss == "focal"


def test_all_heat_maps_have_the_scale_of_the_largest_share(place: Place, tmp_path: Path) -> None:
    ledgers = loss_ledgers(stored(tmp_path, bce_0=EVEN, bce_1=UNEVEN, focal_0=EVEN))
    drawn = ledger_figures(ledgers)
    history = loss_history(EVEN, "val")
    assert history is not None
    title = "{}, seed 0: where the loss of val comes from"
    for loss in ("bce", "focal"):
        expected = ledger_figure(history, title=title.format(loss), limit=0.9)
        assert drawn[loss] == to_png_bytes(expected)


def test_a_broken_ledger_is_refused(place: Place, tmp_path: Path) -> None:
    selection = stored(tmp_path, bce_0=EVEN.rename(columns={"term": "loss"}))
    with pytest.raises(InputError, match=r"ledger/ledger\.csv cannot be read"):
        loss_ledgers(selection)
