import math
from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robustness.claim import RankTest, RunPoint, run_point, weigh_claim


def points_of(groups: dict[str, list[tuple[float, float]]]) -> list[RunPoint]:
    return [
        RunPoint(f"{loss}-{index}", loss, *pair)
        for loss, pairs in groups.items()
        for index, pair in enumerate(pairs)
    ]


def drawn(losses: int, runs: int, *, seed: int = 0, slope: float = 0.0) -> list[RunPoint]:
    draw = np.random.default_rng(seed)
    groups = {}
    for loss in range(losses):
        spread = 100.0 * loss + draw.normal(size=runs) * 10
        robust = slope * loss + draw.normal(size=runs) * 0.1
        groups[f"loss{loss}"] = list(zip(spread.tolist(), robust.tolist(), strict=True))
    return points_of(groups)


def test_between_is_scipys_and_its_p_that_of_all_permutations() -> None:
    points = drawn(5, 3, slope=0.1)
    found = weigh_claim(points).between
    frame = pd.DataFrame([vars(point) for point in points])
    means = frame.groupby("loss")[["spread", "robustness"]].mean().to_numpy()
    rho = float(stats.spearmanr(means[:, 0], means[:, 1]).statistic)
    all_rhos = [
        float(stats.spearmanr(means[:, 0], means[list(order), 1]).statistic)
        for order in permutations(range(5))
    ]
    assert found.rho == pytest.approx(rho)
    assert found.exact
    assert found.p == pytest.approx(np.mean(np.abs(all_rhos) >= abs(rho) - 1e-9))
    assert found.least_p == pytest.approx(2 / 120)
    assert found.chance == pytest.approx(tuple(np.quantile(all_rhos, [0.025, 0.975])))


def test_within_is_that_of_ranks_in_loops() -> None:
    points = drawn(3, 3, seed=4)
    points += points_of({"many": [(1.0, 2.0), (2.0, 2.0), (3.0, 5.0), (0.0, 1.0)]})
    found = weigh_claim(points).within
    groups = [
        [(p.spread, p.robustness) for p in points if p.loss == loss]
        for loss in dict.fromkeys(p.loss for p in points)
    ]

    def rank(values: list[float], at: int) -> float:
        below = sum(value < values[at] for value in values)
        equal = sum(value == values[at] for value in values)
        return below + (equal + 1) / 2 - (len(values) + 1) / 2

    def pooled(orders: tuple[tuple[int, ...], ...]) -> float:
        first, second = [], []
        for group, order in zip(groups, orders, strict=True):
            xs, ys = [pair[0] for pair in group], [group[at][1] for at in order]
            first += [rank(xs, at) for at in range(len(xs))]
            second += [rank(ys, at) for at in range(len(ys))]
        return float(np.corrcoef(first, second)[0, 1])

    orders = [list(permutations(range(len(group)))) for group in groups]
    rho = pooled(tuple(each[0] for each in orders))
    everything = [pooled(chosen) for chosen in product(*orders)]
    assert found.count == 13
    assert found.rho == pytest.approx(rho)
    assert found.exact
    assert found.p == pytest.approx(np.mean(np.abs(everything) >= abs(rho) - 1e-9))


def test_a_difference_between_losses_is_none_within() -> None:
    groups = {
        f"loss{loss}": [(100.0 * loss + step, 0.1 * loss - 0.001 * step) for step in range(4)]
        for loss in range(6)
    }
    found = weigh_claim(points_of(groups))
    assert found.between.rho == pytest.approx(1)
    assert found.between.finding == "supports"
    assert found.within.rho == pytest.approx(-1)
    assert found.within.finding == "contradicts"
    assert "Between losses (their means): wider spread goes with more robustness" in found.sentence
    assert "Within a loss (between its seeds): wider spread goes with less" in found.sentence
    assert found.sentence.startswith("Of 24 runs of 6 losses,")


def test_four_losses_are_too_few_and_the_sentence_says_so() -> None:
    groups = {f"loss{loss}": [(float(loss), float(loss))] for loss in range(4)}
    found = weigh_claim(points_of(groups))
    assert found.between.rho == pytest.approx(1)
    assert found.between.least_p == pytest.approx(2 / 24)
    assert found.between.finding == "too few"
    assert "too few to tell, as 4 losses cannot give p below 0.083" in found.sentence
    assert found.within.finding == "too few"
    assert math.isnan(found.within.rho)


@pytest.mark.parametrize("points", [[], drawn(2, 1), drawn(1, 2)])
def test_next_to_nothing_is_no_error_but_too_few(points: list[RunPoint]) -> None:
    found = weigh_claim(points)
    assert found.between.finding == found.within.finding == "too few"
    assert found.sentence.count("too few to tell") == 2


def test_what_does_not_differ_tells_nothing() -> None:
    groups = {f"loss{loss}": [(float(loss), 0.5)] * 3 for loss in range(6)}
    found = weigh_claim(points_of(groups))
    assert math.isnan(found.between.rho)
    assert math.isnan(found.within.rho)


def test_chance_is_seldom_called_a_finding() -> None:
    found = [weigh_claim(drawn(6, 3, seed=seed)) for seed in range(100)]
    for half in ("between", "within"):
        called = [getattr(one, half).finding in {"supports", "contradicts"} for one in found]
        # 5 of 100 on average; 13 or more come up once in a thousand times.
        assert sum(called) <= 12


def test_the_interval_comes_from_seeds() -> None:
    sharp = weigh_claim(
        points_of({f"l{i}": [(i + 0.01 * s, i + 0.01 * s) for s in range(3)] for i in range(5)})
    ).between
    assert sharp.interval == pytest.approx((1.0, 1.0))
    blurred = weigh_claim(drawn(5, 3, slope=0.05)).between
    assert blurred.interval is not None
    assert blurred.interval[0] <= blurred.rho <= blurred.interval[1]
    assert blurred.interval[1] - blurred.interval[0] > 0.1
    alone = points_of({"alone": [(1.0, 1.0)]})
    assert weigh_claim(drawn(5, 3) + alone).between.interval is None


def test_one_run_of_a_loss_leaves_no_interval_and_is_named() -> None:
    alone = points_of({"bce": [(1.0, 1.0)], "dice": [(2.0, 3.0)]})
    found = weigh_claim(drawn(5, 3, slope=0.1) + alone)
    assert found.between.interval is None
    assert found.between.no_interval == "one run only of bce, dice"
    between, within = found.sentence.split("Within a loss")
    assert ", no interval: one run only of bce, dice; 7 losses)" in between
    assert "95 % interval over seeds" in within
    assert found.within.interval is not None
    assert found.within.no_interval == ""
    both = weigh_claim(drawn(5, 3, slope=0.1))
    assert both.between.interval is not None
    assert both.between.no_interval == ""
    assert "no interval" not in both.sentence


@pytest.mark.parametrize("half", ["between", "within"])
def test_intervals_are_those_of_draws_in_loops(half: str) -> None:
    points = drawn(3, 4, seed=4, slope=0.1)
    points += points_of({"few": [(0.0, 0.2), (3.0, 0.1)], "ties": [(1.0, 0.3)] * 2 + [(2.0, 0.3)]})
    found = getattr(weigh_claim(points), half)
    groups = [
        [(p.spread, p.robustness) for p in points if p.loss == loss]
        for loss in dict.fromkeys(p.loss for p in points)
    ]
    draw = np.random.default_rng(7)

    def correlated() -> float:
        chosen = [
            [group[at] for at in draw.integers(len(group), size=len(group))] for group in groups
        ]
        if half == "between":
            means = [
                [float(np.mean([pair[axis] for pair in group])) for group in chosen]
                for axis in (0, 1)
            ]
            return float(stats.spearmanr(means[0], means[1]).statistic)
        ranked = [
            [
                rank - (len(group) + 1) / 2
                for group in chosen
                for rank in stats.rankdata([pair[axis] for pair in group])
            ]
            for axis in (0, 1)
        ]
        return float(np.corrcoef(ranked[0], ranked[1])[0, 1])

    rhos = [correlated() for _ in range(3000)]
    assert found.interval == pytest.approx(tuple(np.nanquantile(rhos, [0.025, 0.975])), abs=0.06)
    assert found.interval[0] < found.rho < found.interval[1]


def test_two_runs_that_agree_give_an_interval_without_width() -> None:
    groups = {f"loss{loss}": [(1.0, 1.0), (2.0, 2.0)] for loss in range(3)}
    found = weigh_claim(points_of(groups)).within
    assert found.interval == pytest.approx((1.0, 1.0))
    assert found.finding == "too few"


def test_what_cannot_be_ranked_within_has_no_interval() -> None:
    found = weigh_claim(points_of({"a": [(1.0, 2.0)], "b": [(2.0, 1.0)], "c": [(3.0, 3.0)]})).within
    assert found.interval is None
    assert found.finding == "too few"


def test_many_permutations_are_drawn_and_the_seed_decides() -> None:
    points = drawn(4, 5, seed=5)
    first, again, other = (weigh_claim(points, seed=seed).within for seed in (0, 0, 1))
    assert not first.exact
    assert first == again
    assert first != other
    assert first.p == pytest.approx(other.p, abs=0.03)


def test_drawn_permutations_never_make_chance_impossible() -> None:
    groups = {f"loss{loss}": [(float(run), float(run)) for run in range(6)] for loss in range(4)}
    found = weigh_claim(points_of(groups)).within
    assert not found.exact
    assert found.p == pytest.approx(1 / 10_001)
    assert found.finding == "supports"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(1e-3, 1e3))
def test_scales_and_the_order_of_runs_do_not_matter(seed: int, factor: float) -> None:
    points = drawn(4, 2, seed=seed)
    scaled = [RunPoint(p.name, p.loss, p.spread * factor, p.robustness + 1) for p in points]
    first, second = weigh_claim(points), weigh_claim(scaled[::-1])
    for half in ("between", "within"):
        one, two = getattr(first, half), getattr(second, half)
        assert one.rho == pytest.approx(two.rho)
        assert one.p == pytest.approx(two.p)
        assert one.finding == two.finding


def curves_table(area_points: list[float]) -> pd.DataFrame:
    rows = [("clean", "clean", 0, 0.0, 0.8)]
    rows += [
        ("topn_at_max", "pixels", index, point, dice)
        for index, (point, dice) in enumerate(zip([10.0, 30.0], area_points, strict=True))
    ]
    return pd.DataFrame(rows, columns=["attack", "axis", "point_index", "point", "dice"])


def spread_rows() -> pd.DataFrame:
    rows = [
        ("a", 0, True, "probability", "gradient", "effective_pixels", 10.0),
        ("a", 1, True, "probability", "gradient", "effective_pixels", 30.0),
        ("a", 2, False, "probability", "gradient", "effective_pixels", 999.0),
        ("b", 0, True, "probability", "gradient", "effective_pixels", 100.0),
        ("b", 0, True, "logit", "gradient", "effective_pixels", 7.0),
        ("b", 0, True, "probability", "lime", "effective_pixels", 8.0),
        ("b", 0, True, "probability", "gradient", "gini", 0.5),
    ]
    names = ["case", "slice_index", "foreground", "output", "method", "measure", "value"]
    return pd.DataFrame(rows, columns=names)


def test_a_runs_numbers_are_those_fixed_beforehand() -> None:
    point = run_point("run", "bce", spread_rows(), curves_table([0.6, 0.2]))
    assert point.spread == pytest.approx((20 + 100) / 2)
    area = (10 * (0.8 + 0.6) / 2 + 20 * (0.6 + 0.2) / 2) / 30
    assert point.robustness == pytest.approx(area / 0.8)
    logit = run_point("run", "bce", spread_rows(), curves_table([0.6, 0.2]), output="logit")
    assert logit.spread == pytest.approx(7)


def test_a_run_that_lacks_something_is_refused() -> None:
    curves = curves_table([0.6, 0.2])
    with pytest.raises(ValueError, match="run: found no effective_pixels of gradient"):
        run_point("run", "bce", spread_rows(), curves, output="tempered")
    with pytest.raises(ValueError, match="run: found no topn_at_max among no attacks"):
        run_point("run", "bce", spread_rows(), curves[:1])
    with pytest.raises(ValueError, match="run: clean Dice is 0"):
        run_point("run", "bce", spread_rows(), curves.assign(dice=0.0))
    with pytest.raises(ValueError, match="expected finite numbers"):
        weigh_claim([RunPoint("run", "bce", math.nan, 1.0)])


@pytest.mark.parametrize(
    ("p", "words"),
    [(0.0421, "p 0.042"), (0.001, "p 0.001"), (0.0004, "p below 0.001"), (0.0, "p below 0.001")],
)
def test_no_p_is_said_to_be_nothing(p: float, words: str) -> None:
    tested = RankTest(0.9, 9, p, 0.0, (-0.5, 0.5), None, exact=False)
    assert tested.p_words == words
