"""The paper's four attacks on eight volumes: 100 repeats, and as many as the interval needs."""

import time
from collections.abc import Callable

import torch

from benchmarks.bare import Bare, fastest, trained_network
from benchmarks.data import Slices, slices
from benchmarks.engine import paper_attacks
from benchmarks.timing import Ratio, ratio_of, write_results
from datamodules.batch import Batch
from robustness.batch_size import fastest_batch_size
from robustness.counts import counts_frame
from robustness.curves import mean_curves
from robustness.engine import evaluate
from robustness.plan import Plan, make_plan
from robustness.repeats import Pass, Repeated, enough_repeats

_CPU = torch.device("cpu")
_PAPER = 100
_ASKED = 0.005


class _Passes:
    """Goes through the slices by a plan."""

    def __init__(
        self,
        bare: Bare,
        batch: Batch,
        seed: int = 0,
        on_slices: Callable[[int], None] = lambda slices: None,
    ) -> None:
        self.bare = bare
        self.batch = batch
        self.seed = seed
        self.on_slices = on_slices

    def __call__(self, plan: Plan) -> Pass:
        found = evaluate(
            self.bare.network,
            [self.batch],
            plan,
            device=_CPU,
            seed=self.seed,
            batch_size=self.bare.batch_size,
            on_slices=self.on_slices,
        )
        return Pass.of(plan, found)


def measure(
    given: Slices,
    *,
    cases: int = 8,
    repeats: int = _PAPER,
    every: int = 4,
    epochs: int = 3,
    seeds: int = 5,
) -> tuple[list[Ratio], list[str]]:
    """Attack with all repeats and with enough of them, after each fourth batch the bare passes.

    Args:
        given: Where the slices come from.
        cases: How many volumes of the test set are attacked.
        repeats: Of the random values; the most where they stop by themselves.
        every: After how many batches the bare passes of one are timed.
        epochs: How long the network is trained before.
        seeds: With how many seeds the attacks stop by themselves, since chance has a part in when.

    Returns:
        The ratios, and what the intervals hold with the first seed.
    """
    batch = given.batch("test", cases=cases)
    image = batch["image"]
    network = trained_network(given.batch("train"), epochs=epochs)
    size = fastest_batch_size(network, image)
    bare = Bare(network, size, fastest(image).layout)
    plan = make_plan(paper_attacks(repeats))
    engine_seconds: list[float] = []
    bare_seconds: list[float] = []
    start = time.perf_counter()

    def compare(done: int) -> None:
        nonlocal start
        spent = time.perf_counter() - start
        engine_seconds.append(spent)
        if (len(engine_seconds) - 1) % every == 0 and done == size:
            begun = time.perf_counter()
            bare.passes(image[:size], len(plan.rows), backward=1)
            bare_seconds.append(time.perf_counter() - begun)
        start = time.perf_counter()

    all_of_them = _Passes(bare, batch, on_slices=compare)(plan)
    stopping = paper_attacks(repeats, half_width=_ASKED)
    enough_seconds = []
    found = []
    for seed in range(seeds):
        begun = time.perf_counter()
        found.append(enough_repeats(stopping, _Passes(bare, batch, seed)))
        enough_seconds.append(time.perf_counter() - begun)
    volumes = f"{cases} volumes, {len(image)} slices"
    ratios = [
        ratio_of(
            f"{repeats} repeats / their bare passes, {volumes}, batches of {size}",
            engine_seconds[: len(bare_seconds) * every : every],
            bare_seconds,
            goal="at most 1.05",
        ),
        ratio_of(
            f"enough repeats for +-{_ASKED} / {repeats} repeats, {volumes}, {seeds} seeds",
            enough_seconds,
            [sum(engine_seconds)] * seeds,
            goal="at most 0.125",
        ),
    ]
    totals = [sum(counts.repeats) for _, how in found for counts in how.values()]
    of_seeds = f"Repeats of all points together, seed by seed: {', '.join(map(str, totals))}."
    return ratios, [of_seeds, "", *_intervals(all_of_them, *found[0])]


def _intervals(whole: Pass, few: Pass, repeated: dict[str, Repeated]) -> list[str]:
    """Of each point the repeats, the interval, and how far the mean of all repeats is from it."""
    curves = [mean_curves(counts_frame(one.counts, one.rows, ["a"])) for one in (whole, few)]
    lines = [
        "| pixels | repeats | interval | Dice | Dice of all repeats |",
        "|---|---|---|---|---|",
    ]
    for name, found in repeated.items():
        paper, own = (curve[curve["attack"] == name] for curve in curves)
        rows = zip(
            own["point"], found.repeats, found.half_widths, own["dice"], paper["dice"], strict=True
        )
        lines += [
            f"| {point:g} | {count} | +-{width:.4f} | {dice:.4f} | {all_dice:.4f} |"
            for point, count, width, dice, all_dice in rows
        ]
    return lines


if __name__ == "__main__":
    with slices() as prepared:
        found, lines = measure(prepared)
        title = f"Repeats: the paper's attacks on {prepared.name}"
        print(write_results(title, found, lines))
