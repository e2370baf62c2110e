"""The ledger adds up to the loss, and its rule finds the classes that the loss does not see."""

from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_module.ledger import LossLedger
from lightning_module.ledger_history import (
    LEDGER_COLUMNS,
    LossHistory,
    loss_history,
    partings,
    percent,
    read_ledger,
)
from lightning_module.losses.compound import CompoundLoss
from tests.lightning_module.toy import random_case

EXPRESSION = "0.5*bce+batch_dice+bce"
NAMES = ("a", "b", "c", "d", "e")


def stored(ledger: LossLedger, dice: dict[str, float], *, split: str = "val") -> pd.DataFrame:
    """The table of one epoch, as a run keeps it."""
    values = ledger.compute()
    rows = [
        (split, 3, term, name, values[f"loss/{term}/{name}"], weight, dice.get(name, np.nan))
        for term, weight in zip(ledger.term_names, ledger.term_weights, strict=True)
        for name in ledger.class_names
        if f"loss/{term}/{name}" in values
    ]
    rows.append((split, 3, "regularization", "", 0.5, 1.0, np.nan))
    return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS))


def test_the_parts_of_a_history_sum_to_the_loss() -> None:
    # The term that leaves the background out comes first: the order is still that of the network.
    ledger = LossLedger(["dice", "ce"], [2.0, 0.5], ["background", "a", "b"], [True, False])
    ledger.update(torch.rand(2, 6, 3, generator=torch.Generator().manual_seed(0)))

    history = loss_history(stored(ledger, {"a": 0.5, "b": 0.75}), "val")

    assert history is not None
    assert history.epochs.tolist() == [3]
    assert history.term_names == ("dice", "ce")
    assert history.class_names == ("background", "a", "b")
    assert history.parts.sum() == pytest.approx(ledger.compute()["loss"])
    assert history.parts[0, 0, 0] == 0
    assert history.shares().sum() == pytest.approx(1)
    np.testing.assert_allclose(history.class_shares(), history.shares().sum(1))
    np.testing.assert_array_equal(history.dice, [[np.nan, 0.5, 0.75]])
    assert loss_history(stored(ledger, {}), "train") is None


@given(st.integers(2, 5), st.floats(0.5, 1000), st.integers(0, 1000))
def test_a_weight_on_a_class_changes_its_share_by_the_stated_factor(
    classes: int, weight: float, seed: int
) -> None:
    case = random_case(3, classes, seed=seed)
    shares = []
    for factor in (1.0, weight):
        loss = CompoundLoss("bce+0.5*batch_dice", [1.0] * (classes - 1) + [factor])
        ledger = LossLedger(loss.term_names, loss.term_weights, NAMES[:classes])
        ledger.update(loss(*case).ledger)
        history = loss_history(stored(ledger, {}), "val")
        assert history is not None
        shares.append(history.class_shares()[0, -1])

    before, after = shares
    # The odds against all other classes rise by the weight.
    assert after / (1 - after) == pytest.approx(weight * before / (1 - before), rel=1e-4)


@pytest.mark.parametrize("parts", [[0.0, 0.0], [-1.0, 2.0], [np.inf, 1.0], [np.nan, 1.0]])
def test_a_loss_that_is_no_sum_of_parts_has_no_shares(parts: list[float]) -> None:
    both = np.array([[parts], [[1.0, 3.0]]])
    dice = np.array([[0.1, 0.9], [0.1, 0.9]])
    history = LossHistory(np.arange(2), ("boundary",), ("a", "b"), both, dice)
    assert np.isnan(history.shares()[0]).all()
    assert history.class_shares()[1].tolist() == [0.25, 0.75]
    assert history.partings(0) == []
    assert [parting.name for parting in history.partings()] == ["a"]


def test_the_complaint_in_numbers() -> None:
    shares = np.array([0.30, 0.25, 0.23, 0.20, 0.02])
    (found,) = partings(NAMES, shares, np.array([0.8, 0.85, 0.86, 0.9, 0.12]))
    assert str(found) == (
        "class e has 2 % of the loss (an even share is 20 %) and Dice 0.12, the others 0.85"
    )


@pytest.mark.parametrize(
    ("share", "dice", "found"),
    [
        (0.3, 0.65, True),  # both on their bounds
        (0.3, 0.66, False),  # Dice is near the others'
        (0.31, 0.1, False),  # the loss sees it
        (0.0, float("nan"), False),
        (float("nan"), 0.1, False),
    ],
)
def test_the_bounds_of_the_rule(share: float, dice: float, found: bool) -> None:
    rest = (1 - share) / 4
    shares = [rest, rest, rest, rest, share]
    names = [
        parting.name
        for parting in partings(NAMES, shares, np.array([0.85, 0.85, 0.85, 0.85, dice]))
    ]
    assert names == ["e"] * found


def test_a_background_without_dice_counts_in_the_shares_and_is_never_found() -> None:
    names = ["background", "a", "b"]
    dice = np.array([np.nan, 0.9, 0.1])
    (found,) = partings(names, [0.0, 0.67, 0.33], dice)
    assert (found.name, found.others_dice) == ("b", 0.9)
    assert found.even_share == pytest.approx(1 / 3)
    assert partings(names[:2], [0.9, 0.1], dice[:2]) == []


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.one_of(st.floats(0, 1), st.just(float("nan")))),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_found_is_what_the_rule_says(classes: list[tuple[float, float]]) -> None:
    names = [f"class_{index}" for index in range(len(classes))]
    shares = [share for share, _ in classes]
    dice = [score for _, score in classes]
    expected = []
    for index, name in enumerate(names):
        others = [score for score in dice[:index] + dice[index + 1 :] if not np.isnan(score)]
        below = bool(others) and dice[index] <= median(others) - 0.2 + 1e-9
        if below and shares[index] <= 1.5 / len(names) + 1e-9:
            expected.append(name)
    assert [found.name for found in partings(names, shares, np.array(dice))] == expected


@pytest.mark.parametrize(
    ("share", "words"), [(1.0, "100 %"), (0.2, "20 %"), (1 / 3, "33.3 %"), (0.00214, "0.214 %")]
)
def test_shares_are_put_in_words(share: float, words: str) -> None:
    assert percent(share) == words


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    rows = [
        ("val", 0, "bce", "na", 0.1 + 0.2, 1 / 3, np.nan),
        ("val", 0, "bce", "1", np.inf, 1.0, 0.5),
        ("val", 0, "regularization", "", 1e-17, 1.0, np.nan),
        ("train", 10, "output_2.bce", "nan", np.nan, 1.0, 0.5),
    ]
    table = pd.DataFrame(rows, columns=list(LEDGER_COLUMNS))
    table.to_csv(tmp_path / "ledger.csv", index=False)
    found = read_ledger(tmp_path / "ledger.csv")
    pd.testing.assert_frame_equal(found, table, check_exact=True)


@pytest.mark.parametrize(
    "text", ["", "split,epoch\nval,0\n", "\x00\x01", ",".join(LEDGER_COLUMNS) + "\nval,x,,,,,\n"]
)
def test_what_is_no_ledger_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "ledger.csv").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_ledger(tmp_path / "ledger.csv")
