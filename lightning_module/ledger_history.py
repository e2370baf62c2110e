"""A stored ledger, epoch by epoch, and the classes that go wrong without the loss telling."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

# A stored ledger, one row a split, epoch, term and class. ``value`` is the mean over samples before
# term weights; ``dice`` is that of the class on the split, NaN where it is unknown.
LEDGER_COLUMNS = ("split", "epoch", "term", "class", "value", "weight", "dice")
NO_CLASS = ""  # of the regularization's rows

# A class and its loss part ways where its Dice lies so far below the median of the other classes...
DICE_GAP = 0.2
# ... while its share of the loss is at most this many times an even share.
EVEN_SHARES = 1.5

_ROUNDING = 1e-9


@dataclass(frozen=True)
class LossHistory:
    """What the loss of a split was made of, epoch by epoch, regularization apart.

    Attributes:
        epochs: The E epochs, rising, shape ``(E,)``.
        term_names: Names of the T terms.
        class_names: Names of the K classes, in the order of the network's channels.
        parts: What each term and class added to the loss, shape ``(E, T, K)``: they sum to it. A
            class that is left out of a term adds 0.
        dice: Dice of each class, shape ``(E, K)``; NaN where it is unknown.
    """

    epochs: np.ndarray
    term_names: tuple[str, ...]
    class_names: tuple[str, ...]
    parts: np.ndarray
    dice: np.ndarray

    def shares(self) -> np.ndarray:
        """Share of each term and class in the loss of its epoch, shape ``(E, T, K)``.

        NaN in an epoch whose loss is no sum of parts: where it is 0 or not finite, or a class adds
        less than 0.
        """
        by_class = self.parts.sum(1)
        total = by_class.sum(1)
        divisible = (by_class >= 0).all(1) & (total > 0) & np.isfinite(total)
        divisor = np.where(divisible, total, np.nan)
        return np.asarray(self.parts / divisor[:, np.newaxis, np.newaxis])

    def class_shares(self) -> np.ndarray:
        """Share of each class in the loss of its epoch, shape ``(E, K)``; see :meth:`shares`."""
        return np.asarray(self.shares().sum(1))

    def partings(self, index: int = -1) -> list["Parting"]:
        """The classes whose share and Dice part ways in an epoch.

        Args:
            index: Which of the E epochs; the last one by default.
        """
        return partings(self.class_names, self.class_shares()[index], self.dice[index])


@dataclass(frozen=True)
class Parting:
    """A class that goes wrong without the loss telling.

    Attributes:
        name: The class.
        share: Its share of the loss.
        even_share: What each class would have if all had the same.
        dice: Its Dice.
        others_dice: Median Dice of the other classes.
    """

    name: str
    share: float
    even_share: float
    dice: float
    others_dice: float

    def __str__(self) -> str:
        """The numbers in words."""
        return (
            f"class {self.name} has {percent(self.share)} of the loss (an even share is "
            f"{percent(self.even_share)}) and Dice {self.dice:.2f}, the others "
            f"{self.others_dice:.2f}"
        )


def partings(
    class_names: Sequence[str], shares: Sequence[float] | np.ndarray, dice: np.ndarray
) -> list[Parting]:
    """The classes that go wrong without the loss telling.

    A class is one of them if its Dice lies ``DICE_GAP`` or more below the median Dice of the other
    classes, while its share of the loss is not above ``EVEN_SHARES`` times an even share, 1/K.

    Args:
        class_names: Names of the K classes that the loss is over.
        shares: Their shares of the loss, length K.
        dice: Their Dice, shape ``(K,)``; one that is NaN, such as the background's, is in no median
            and no class of it is found.

    Returns:
        The classes in their order; none of a single one.
    """
    even = 1 / len(class_names)
    found = []
    for index, (name, share) in enumerate(zip(class_names, shares, strict=True)):
        others = np.delete(dice, index)
        others = others[~np.isnan(others)]
        if not len(others):
            continue
        median = float(np.median(others))
        # Both comparisons are false where a number is NaN.
        if median - dice[index] >= DICE_GAP - _ROUNDING and share <= EVEN_SHARES * even + _ROUNDING:
            found.append(Parting(name, float(share), even, float(dice[index]), median))
    return found


def percent(share: float) -> str:
    """A share as a reader sees it: ``20 %``, ``2.13 %``."""
    return f"{100 * share:.3g} %"


def loss_history(table: pd.DataFrame, split: str) -> LossHistory | None:
    """The history of a split from a stored ledger.

    Args:
        table: Columns ``LEDGER_COLUMNS``, terms and classes in their order.
        split: Such as ``val``.

    Returns:
        The history; None where the table holds nothing of the split.
    """
    rows = table[(table["split"] == split) & (table["class"] != NO_CLASS)]
    if rows.empty:
        return None
    terms = list(dict.fromkeys(rows["term"]))
    # The longest list is whole: a term that leaves the background out does not know its place.
    lists = [list(dict.fromkeys(found)) for _, found in rows.groupby("term", sort=False)["class"]]
    classes = list(dict.fromkeys([*max(lists, key=len), *rows["class"]]))
    epochs = np.unique(rows["epoch"].to_numpy(np.int64))
    parts = np.zeros((len(epochs), len(terms), len(classes)))
    dice = np.full((len(epochs), len(classes)), np.nan)
    counted = rows.groupby(["epoch", "term"])["class"].transform("size")
    added = rows["weight"] * rows["value"] / counted
    columns = (rows["epoch"], rows["term"], rows["class"], added, rows["dice"])
    for epoch, term, name, part, score in zip(*columns, strict=True):
        place = int(np.searchsorted(epochs, epoch))
        parts[place, terms.index(term), classes.index(name)] = part
        dice[place, classes.index(name)] = score
    return LossHistory(epochs, tuple(terms), tuple(classes), parts, dice)


def read_ledger(path: Path) -> pd.DataFrame:
    """Read a stored ledger.

    Args:
        path: A CSV file.

    Returns:
        Its rows, with the columns ``LEDGER_COLUMNS``.

    Raises:
        ValueError: If it holds something else.
        OSError: If it cannot be read.
    """
    # A class may be called "NA" or "1".
    table = pd.read_csv(
        path,
        dtype={"split": str, "epoch": np.int64, "term": str, "class": str}
        | dict.fromkeys(("value", "weight", "dice"), np.float64),
        keep_default_na=False,
        na_values={"value": [""], "dice": [""]},
    )
    if tuple(table.columns) != LEDGER_COLUMNS:
        msg = f"found columns {', '.join(table.columns)}, expected {', '.join(LEDGER_COLUMNS)}"
        raise ValueError(msg)
    return table
