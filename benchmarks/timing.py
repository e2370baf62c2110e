"""Times two things in turn, so that whatever else the machine does falls on both."""

import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

_HEADS = ("| what | ratio | quartiles | one call | goal |", "|---|---|---|---|---|")
RESULTS = Path(__file__).resolve().parent / "results.md"


@dataclass(frozen=True)
class Ratio:
    """What one thing costs of another.

    Attributes:
        name: What is measured.
        median: Median of the ratios of the rounds.
        low: Their lower quartile.
        high: Their upper quartile.
        seconds: Median time of one call of the thing that is measured; NaN where it is no time.
        goal: What is asked of it.
    """

    name: str
    median: float
    low: float
    high: float
    seconds: float
    goal: str


def time_in_turn(
    name: str,
    measured: Callable[[], object],
    reference: Callable[[], object],
    *,
    goal: str,
    calls: int,
    rounds: int = 31,
    warm_up: int = 3,
) -> Ratio:
    """Time two things alternately and take the median of their ratio.

    Args:
        name: What is measured.
        measured: The thing whose cost is the numerator.
        reference: The thing it is compared with.
        goal: What is asked of it, for the table.
        calls: Calls of each in a round.
        rounds: Rounds that count.
        warm_up: Rounds before them.
    """
    own, others = [], []
    for turn in range(rounds + warm_up):
        pair = (measured, reference) if turn % 2 else (reference, measured)
        spent = {thing: _seconds(thing, calls) for thing in pair}
        if turn >= warm_up:
            own.append(spent[measured])
            others.append(spent[reference])
    return ratio_of(name, own, others, goal=goal, calls=calls)


def ratio_of(
    name: str, measured: Sequence[float], reference: Sequence[float], *, goal: str, calls: int = 1
) -> Ratio:
    """The ratio of two things that were timed in turn.

    Args:
        name: What is measured.
        measured: Seconds of the thing whose cost is the numerator, in each round.
        reference: Seconds of the other.
        goal: What is asked of it, for the table.
        calls: Calls of each in a round.
    """
    low, median, high = np.quantile(np.divide(measured, reference), [0.25, 0.5, 0.75])
    seconds = float(np.median(measured)) / calls
    return Ratio(name, float(median), float(low), float(high), seconds, goal)


def write_results(title: str, ratios: Sequence[Ratio], further: Sequence[str] = ()) -> str:
    """Put a section of measurements into ``benchmarks/results.md``, in place of the one before.

    Args:
        title: Heading of the section.
        ratios: Its rows.
        further: Lines below the table.

    Returns:
        The section as text.
    """
    machine = (
        f"{torch.get_num_threads()} threads, {platform.machine()}, Python "
        f"{platform.python_version()}, torch {version('torch')}"
    )
    rows = [
        f"| {row.name} | {row.median:.3f} | {row.low:.3f} to {row.high:.3f} | "
        f"{_milliseconds(row.seconds)} | {row.goal} |"
        for row in ratios
    ]
    section = "\n".join(
        [
            f"## {title}",
            "",
            f"{'Median of rounds in turn, with their quartiles; ' if rows else ''}{machine}.",
            "",
            *((*_HEADS, *rows, "") if rows else ()),
            *((*further, "") if further else ()),
        ]
    )
    head = "# Measurements\n\nMade by `make bench` and `make bench-peers`, on an idle machine.\n"
    known = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else head
    intro, *parts = known.split("\n## ")
    kept = [part.strip() for part in parts if part.partition("\n")[0] != title]
    sections = [*(f"## {part}\n" for part in kept), section]
    RESULTS.write_text("\n".join([intro.strip(), "", *sections]), encoding="utf-8")
    return section


def _milliseconds(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{1e3 * seconds:.2f} ms"


def _seconds(thing: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        thing()
    return time.perf_counter() - start
