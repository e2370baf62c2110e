"""Only runs that can be paired are compared, and each of the others is named with a reason."""

import json
from pathlib import Path

import pytest

from comparison.selection import Selection, Wanted, choose_runs, select_runs
from errors import InputError
from robustness.counts import CountsFile
from tests.comparison.made import (
    CASES,
    METADATA,
    ROWS,
    made_counts,
    made_frame,
    made_run,
    store_run,
)
from tests.places import Place
from tracking.reading import COUNTS_FILE, StoredRun
from tracking.store import open_client


def reasons(selection: Selection) -> dict[str, str]:
    return {left.run.name: left.reason for left in selection.left_out}


def chosen(selection: Selection) -> list[str]:
    return [compared.run.name for compared in selection.runs]


def test_runs_stand_by_loss_and_seed() -> None:
    found = [
        (made_run(9 - index, loss, seed), made_counts())
        for index, (loss, seed) in enumerate(
            [("bce+dice", 0), ("dice", 10), ("dice", 2), ("bce", 0), ("bce", 1)]
        )
    ]
    selection = choose_runs("trials", "test", found)
    assert not selection.left_out
    groups = {
        loss: [compared.seed for compared in runs] for loss, runs in selection.by_loss().items()
    }
    assert groups == {"bce": ["0", "1"], "dice": ["2", "10"], "bce+dice": ["0"]}
    assert list(groups) == ["bce", "dice", "bce+dice"]


def test_the_newest_of_several_like_runs_is_compared() -> None:
    found = [
        (made_run(5, "bce", 0), made_counts()),
        (made_run(4, "bce", 1), made_counts()),
        (made_run(3, "bce", 0), made_counts()),
        (made_run(2, "bce", 0, fold="1"), made_counts()),
    ]
    selection = choose_runs("trials", "test", found)
    assert sorted(chosen(selection)) == ["run 2", "run 4", "run 5"]
    newest = found[0][0].run_id[:8]
    assert reasons(selection) == {
        "run 3": f"run {newest} of bce, seed 0, fold 0 is newer and is compared"
    }


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": "x"}, "other data than"),
        ({"split": "x"}, "other cases of the split than"),
        ({"attacks": "x"}, "other attacks than"),
        ({"data": "x", "attacks": "y"}, "other data and attacks than"),
    ],
)
def test_runs_with_other_fingerprints_are_left_out(changed: dict[str, str], words: str) -> None:
    found = [
        (made_run(3, "bce"), made_counts()),
        (made_run(2, "dice"), made_counts(metadata=changed)),
        (made_run(1, "dice"), made_counts()),
    ]
    selection = choose_runs("trials", "test", found)
    # An older run that can be paired takes the place of the newer one that cannot.
    assert chosen(selection) == ["run 3", "run 1"]
    assert reasons(selection)["run 2"].startswith(words)
    assert "the newest run, run 3" in reasons(selection)["run 2"]


@pytest.mark.parametrize("name", ["data", "split", "attacks"])
def test_runs_without_a_fingerprint_are_paired_with_nothing(name: str) -> None:
    words = {"data": "data", "split": "cases of the split", "attacks": "attacks"}[name]
    without = made_counts(metadata={name: ""})
    del without.metadata[name]
    found: list[tuple[StoredRun, CountsFile | str]] = [
        (made_run(4, "bce"), without),
        (made_run(3, "dice"), without),
        (made_run(2, "dice"), made_counts()),
        (made_run(1, "bce"), made_counts()),
    ]
    selection = choose_runs("trials", "test", found)
    assert chosen(selection) == ["run 1", "run 2"]
    reason = f"its counts have no fingerprint of {words}"
    assert reasons(selection) == {"run 4": reason, "run 3": reason}


def test_runs_whose_tables_hold_something_else_are_left_out() -> None:
    frames = {
        "cases": made_frame(1, cases=CASES[:-1]),
        "classes": made_frame(1, classes=("front",)),
        "attacks": made_frame(1, rows=ROWS[:-3]),
        "points": made_frame(1, rows=[row for row in ROWS if row.point != 10]),
    }
    found = [(made_run(9, "bce"), made_counts())]
    found += [(made_run(8, name), made_counts(frame)) for name, frame in frames.items()]
    selection = choose_runs("trials", "test", found)
    assert chosen(selection) == ["run 9"]
    told = [left.reason.split(" than ")[0] for left in selection.left_out]
    assert told == [f"other {name}" for name in frames]


def test_runs_whose_attacks_were_repeated_as_often_as_each_needed_are_compared() -> None:
    fewer = made_frame(1, rows=[row for row in ROWS if row.repeat == 0])
    found = [(made_run(2, "bce"), made_counts()), (made_run(1, "dice"), made_counts(fewer))]
    assert chosen(choose_runs("trials", "test", found)) == ["run 2", "run 1"]


def test_runs_without_counts_or_loss_are_left_out() -> None:
    found: list[tuple[StoredRun, CountsFile | str]] = [
        (made_run(3, "bce"), "not attacked on the split test"),
        (made_run(2, None), made_counts(metadata={"data": "x"})),
        (made_run(1, "bce"), made_counts()),
    ]
    selection = choose_runs("trials", "test", found)
    assert chosen(selection) == ["run 1"]
    assert reasons(selection)["run 3"] == "not attacked on the split test"
    assert "no param loss" in reasons(selection)["run 2"]


def test_other_settings_that_differ_are_told() -> None:
    found = [
        (made_run(3, "bce", 0, epochs="4"), made_counts()),
        (made_run(2, "dice", 1, epochs="8", network="Net"), made_counts()),
    ]
    selection = choose_runs("trials", "test", found)
    assert selection.differing_params() == {"epochs": ["4", "8"], "network": ["Net", "unet"]}


def test_runs_come_from_the_store(place: Place, tmp_path: Path) -> None:
    old = store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    other = store_run(
        tmp_path, made_frame(1), {"loss": "dice", "seed": "0"}, metadata={**METADATA, "data": "x"}
    )
    broken = store_run(tmp_path, made_frame(1), {"loss": "focal", "seed": "0"})
    place.artifact(broken, f"robustness/test/{COUNTS_FILE}").write_bytes(b"no parquet")
    none = store_run(tmp_path, None, {"loss": "bce", "seed": "0"})
    newest = store_run(tmp_path, made_frame(2), {"loss": "bce", "seed": "1"})

    selection = select_runs("Task90_Blob", "test")
    assert {compared.run.run_id for compared in selection.runs} == {old, newest}
    told = {left.run.run_id: left.reason for left in selection.left_out}
    assert set(told) == {other, broken, none}
    assert told[other].startswith("other data than the newest run, bce seed 1")
    assert "counts.parquet cannot be read" in told[broken]
    assert told[none] == "not attacked on the split test"


def test_nothing_to_compare_is_an_input_error(place: Place, tmp_path: Path) -> None:
    run = store_run(tmp_path, made_frame(0), {"loss": "bce", "seed": "0"})
    with pytest.raises(InputError, match=r"found 1 runs and none to compare on the split val"):
        select_runs("Task90_Blob", "val")
    with pytest.raises(InputError, match=r"did you mean Task90_Blob\?"):
        select_runs("Task90_Blub", "test")
    place.artifact(run, f"robustness/test/{COUNTS_FILE}").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read") as caught:
        select_runs("Task90_Blob", "test")
    assert "\n" not in str(caught.value)


def test_settings_of_attacks_are_those_of_a_run_that_has_stored_them() -> None:
    settings = [{"class": "PGD", "name": "pgd", "epsilons": [0.01]}]
    stored = made_counts(metadata={"attack_settings": json.dumps(settings)})
    found = [(made_run(2, "bce"), made_counts()), (made_run(1, "dice"), stored)]
    assert choose_runs("Task90_Blob", "test", found).attack_settings() == settings
    assert choose_runs("Task90_Blob", "test", found[:1]).attack_settings() == []


def test_runs_of_a_loss_are_told_apart_by_their_fold_only_where_it_differs() -> None:
    runs = [
        made_run(3, "bce", 0),
        made_run(2, "bce", 0, fold="1"),
        made_run(1, "dice", 2, fold="1"),
    ]
    selection = choose_runs("Task90_Blob", "test", [(run, made_counts()) for run in runs])
    words = {selection.run_words(compared) for compared in selection.runs}
    assert words == {"seed 0, fold 0", "seed 0, fold 1", "seed 2"}


def store_four(scratch: Path) -> None:
    for loss, seed, sweep in (("bce", 0, "a"), ("bce", 1, "b"), ("dice", 0, "a"), ("dice", 1, "b")):
        run = store_run(scratch, made_frame(seed), {"loss": loss, "seed": str(seed)})
        if loss == "bce":
            open_client().set_tag(run, "sweep", sweep)
        else:
            open_client().log_param(run, "sweep", sweep)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), [("bce", "0"), ("bce", "1"), ("dice", "0"), ("dice", "1")]),
        (Wanted(losses=("dice",)), [("dice", "0"), ("dice", "1")]),
        (Wanted(sweep="a"), [("bce", "0"), ("dice", "0")]),
        (Wanted(query="params.seed = '1'"), [("bce", "1"), ("dice", "1")]),
        (Wanted(("bce",), "b", "params.seed = '1'"), [("bce", "1")]),
    ],
)
def test_runs_are_chosen_by_loss_sweep_and_filter(
    place: Place, tmp_path: Path, wanted: Wanted, found: list[tuple[str, str]]
) -> None:
    store_four(tmp_path)
    selection = select_runs("Task90_Blob", "test", wanted)
    assert [(compared.loss, compared.seed) for compared in selection.runs] == found
    assert not selection.left_out
    assert selection.wanted == wanted


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(losses=("bec",)), "--loss bec: .*did you mean bce\\? expected one of: bce, dice"),
        (Wanted(sweep="c"), "--sweep c: found no such run .*expected one of: a, b"),
        (Wanted(query="params.seed = '7'"), "--filter .*found no such run in the experiment"),
        (Wanted(query="seed"), "--filter 'seed': MLflow does not understand it"),
    ],
)
def test_what_no_run_has_is_one_line(
    place: Place, tmp_path: Path, wanted: Wanted, words: str
) -> None:
    store_four(tmp_path)
    with pytest.raises(InputError, match=words) as raised:
        select_runs("Task90_Blob", "test", wanted)
    assert "\n" not in str(raised.value)


def test_what_was_asked_for_is_told_in_words() -> None:
    assert Wanted().words == ""
    assert Wanted(("bce", "dice"), "a", "x = 'y'").words == (
        "loss bce or dice, sweep a, filter x = 'y'"
    )
