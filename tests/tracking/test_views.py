"""Every curve stands on a dashboard, against its own axis, beside its control, in few tags."""

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.views import find_attacks, fitting_state, plan_views
from tracking.views_format import TAG_LIMIT, Chart, Grid, Section, View, encode

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,18}", fullmatch=True)
AXES = ("pixels", "level", "epsilon", "severity", "threshold")
POINTS = (0, 0.05, 0.4, 30)


def keys_of(split: str, attack: str, axis: str) -> set[str]:
    """What the callbacks log of an attack."""
    measures = ["dice", "slice_dice", "change", "auc", "ece", "repeats", axis]
    measures += [f"dice_at_{point:g}" for point in POINTS]
    measures += ["epsilon_share"] if axis == "epsilon" else []
    return {f"{split}/{attack}/{measure}" for measure in measures}


def keys_of_all(split: str, attacks: dict[str, str]) -> set[str]:
    return {key for name, axis in attacks.items() for key in keys_of(split, name, axis)}


PAPER = {
    "top5_in_range": "level",
    "top5_in_range_control": "level",
    "topn_at_max": "pixels",
    "topn_at_max_abs": "pixels",
    "topn_at_max_control": "pixels",
    "pgd_linf": "epsilon",
}
OTHERS = {
    "train/loss",
    "train/loss/bce/foreground",
    "train/loss/batch_dice/foreground",
    "val/loss",
    "val/loss/bce/foreground",
    "val/dice",
    "val/dice/foreground",
    "test/dice",
    "test/dice/foreground",
    "test/loss",
    "test/spread/gradient/logit/entropy",
    "test/spread_by_case/gradient/logit/effective_pixels",
    "test/trust/gradient/stable",
}
IMAGES = {
    "saliency/case_1",
    "saliency/case_1/gradient",
    "grid/saliency/case_1",
    "grid/saliency/case_2",
    "attacks/case_1",
    "masks/case_1",
    "ledger/train",
}


def sections(view: View) -> dict[str, Section]:
    return {section.title: section for section in view.sections}


def curves(views: list[View]) -> list[tuple[str, str]]:
    return [
        (card.metric, card.axis)
        for view in views
        for section in view.sections
        for card in section.cards
        if isinstance(card, Chart) and card.axis
    ]


def grids(view: View) -> dict[str, tuple[str, ...]]:
    return {
        section.title: card.images
        for section in view.sections
        for card in section.cards
        if isinstance(card, Grid)
    }


def test_attacks_are_found_with_their_axes_and_variants_follow_what_they_vary() -> None:
    found = find_attacks(OTHERS | keys_of_all("test", PAPER), "test")
    assert [(attack.name, attack.axis) for attack in found] == [
        ("topn_at_max", "pixels"),
        ("topn_at_max_control", "pixels"),
        ("topn_at_max_abs", "pixels"),
        ("top5_in_range", "level"),
        ("top5_in_range_control", "level"),
        ("pgd_linf", "epsilon"),
    ]
    assert find_attacks(OTHERS, "test") == []


def test_the_test_set_has_one_view_by_run_and_one_by_loss() -> None:
    runs, losses = plan_views(OTHERS | keys_of_all("test", PAPER), IMAGES)
    assert (runs.key, runs.group_by) == ("segstress-runs", "")
    assert (losses.key, losses.group_by) == ("segstress-losses", "loss")
    for view in (runs, losses):
        found = sections(view)
        assert [*found][:4] == [
            "Dice on clean images",
            "Dice against number of pixels",
            "Dice against level of the pixels",
            "Dice against epsilon",
        ]
        (areas,) = [section for title, section in found.items() if title.startswith("Area")]
        bars = [card for card in areas.cards if isinstance(card, Chart) and card.kind == "BAR"]
        assert {bar.metric for bar in bars} == {f"test/{name}/auc" for name in PAPER}
        (ledger,) = [
            section
            for title, section in found.items()
            if title.startswith("Loss ledger: what each term")
        ]
        assert {card.metric for card in ledger.cards if isinstance(card, Chart)} == {
            "train/loss",
            "val/loss",
            "train/loss/bce/foreground",
            "train/loss/batch_dice/foreground",
        }


def test_pictures_stand_where_runs_are_columns_and_small_ones_are_preferred() -> None:
    runs, losses = plan_views(OTHERS | keys_of_all("test", PAPER), IMAGES)
    found = grids(runs)
    assert sorted(found.values()) == [
        ("attacks/case_1",),
        ("grid/saliency/case_1", "grid/saliency/case_2"),
        ("ledger/train",),
    ]
    assert grids(losses) == {}


def test_a_run_in_its_first_epochs_has_views_of_the_validation_set() -> None:
    runs, losses = plan_views({"train/loss", "val/loss", "val/dice"}, ())
    assert (runs.key, losses.key) == ("segstress-runs", "segstress-losses")
    assert "validation set" in runs.name
    assert [*sections(runs)] == [*sections(losses)]
    assert plan_views((), ()) == []


def test_where_both_sets_were_attacked_each_has_its_own() -> None:
    attacked = keys_of_all("test", PAPER) | keys_of_all("val", PAPER)
    views = plan_views(OTHERS | attacked, IMAGES)
    assert [view.key for view in views] == [
        "segstress-runs",
        "segstress-losses",
        "segstress-val-runs",
        "segstress-val-losses",
    ]
    assert all(metric.startswith("test/") for metric, _ in curves(views[:2]))
    assert all(metric.startswith("val/") for metric, _ in curves(views[2:]))


@given(st.dictionaries(NAMES, st.sampled_from(AXES), min_size=1, max_size=12))
def test_each_curve_stands_once_against_its_own_axis(attacks: dict[str, str]) -> None:
    attacks = {name: axis for name, axis in attacks.items() if name not in {"loss", "spread"}}
    metrics = OTHERS | keys_of_all("test", attacks)
    views = plan_views(metrics, IMAGES)
    for group_by in ("", "loss"):
        mine = [view for view in views if view.group_by == group_by]
        assert sorted(curves(mine)) == sorted(
            (f"test/{name}/dice", f"test/{name}/{axis}") for name, axis in attacks.items()
        )
    for view in views:
        titles = [section.title for section in view.sections]
        assert len(set(titles)) == len(titles)
        assert all(section.cards for section in view.sections)
    assert plan_views(sorted(metrics, reverse=True), sorted(IMAGES)) == views


def test_so_many_attacks_that_a_tag_is_too_small_get_several_views() -> None:
    attacks = {
        f"attack_{number * 7919 % 1000:03d}{suffix}": AXES[number % 4]
        for number in range(400)
        for suffix in ("", "_control")
    }
    metrics = OTHERS | keys_of_all("test", attacks)
    views = plan_views(metrics, IMAGES)
    runs = [view for view in views if not view.group_by]
    assert len(runs) > 1
    assert len({view.key for view in views}) == len(views)
    assert len({view.name for view in views}) == len(views)
    for view in views:
        state = fitting_state(view, metrics, IMAGES)
        assert len(encode(view.name, state, created=1, updated=1)) <= TAG_LIMIT
    drawn = [metric for metric, _ in curves(runs)]
    assert sorted(drawn) == sorted(f"test/{name}/dice" for name in attacks)
    # An attack stands beside its control.
    assert all(
        f"{first.removesuffix('/dice')}_control/dice" == second
        for first, second in list(pairwise(drawn))[::2]
    )


@pytest.mark.parametrize("count", [10, 4000])
def test_keys_beyond_what_a_tag_holds_are_left_to_mlflow(count: int) -> None:
    # Names without a pattern, which cannot be packed.
    metrics = {f"test/{sha256(str(n).encode()).hexdigest()}/note" for n in range(count)} | OTHERS
    for view in plan_views(metrics, IMAGES):
        state = fitting_state(view, metrics, IMAGES)
        assert len(encode(view.name, state, created=1, updated=1)) <= TAG_LIMIT
        hidden = [chart for chart in state["compareRunCharts"] if chart["deleted"]]
        assert (len(hidden) > count) == (count == 10)
