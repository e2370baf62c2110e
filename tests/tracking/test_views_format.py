"""A view survives the way into a tag and back, and says what it does not show."""

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.views_format import Chart, Grid, Section, View, decode, encode, known_keys, view_state

KEYS = st.text("abcdefghij/_.-0123456789", min_size=1, max_size=30)
VIEW = View(
    "segstress-runs",
    "SegStress: test set by run",
    (
        Section("Curves", (Chart("test/a/dice", axis="test/a/pixels", unit_range=True),)),
        Section("Areas", (Chart("test/a/auc", kind="BAR"),), columns=3),
        Section("Pictures", (Grid(("grid/saliency/one", "grid/saliency/two")),)),
    ),
)
SHOWN = {"test/a/dice", "test/a/auc"}


def charts(state: dict[str, Any], *, deleted: bool) -> list[dict[str, Any]]:
    return [chart for chart in state["compareRunCharts"] if chart["deleted"] == deleted]


@given(st.sets(KEYS), st.sets(KEYS))
def test_every_key_is_shown_or_put_down_as_removed(metrics: set[str], images: set[str]) -> None:
    state = view_state(VIEW, metrics, images)
    hidden = charts(state, deleted=True)
    assert {one["metricKey"] for one in hidden if one["type"] == "BAR"} == metrics - SHOWN
    assert {one["imageKeys"][0] for one in hidden if one["type"] == "IMAGE"} == images
    shown = {"grid/saliency/one", "grid/saliency/two"}
    assert known_keys(state) == (metrics | SHOWN, images | shown)
    ids = [chart["uuid"] for chart in state["compareRunCharts"]]
    assert len(set(ids)) == len(ids)


def test_a_line_has_the_float_axis_that_it_names_and_no_other() -> None:
    state = view_state(VIEW, SHOWN, ())
    (line,) = [chart for chart in charts(state, deleted=False) if chart["type"] == "LINE"]
    assert (line["xAxisKey"], line["selectedXAxisMetricKey"]) == ("metric", "test/a/pixels")
    assert line["useGlobalXaxisKey"] is False
    assert line["range"] == {"yMin": 0, "yMax": 1}
    sections = {section["uuid"]: section["name"] for section in state["compareRunSections"]}
    assert sections[line["metricSectionId"]] == "Curves"


def test_runs_are_grouped_only_where_it_is_asked() -> None:
    assert view_state(VIEW, (), ())["groupBy"] is None
    grouped = View("segstress-losses", "by loss", (), group_by="loss")
    assert view_state(grouped, (), ())["groupBy"] == {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "param", "groupByData": "loss"}],
    }


@given(st.sets(KEYS), st.integers(0, 2**42), st.integers(0, 2**42))
def test_what_is_written_is_read_back(metrics: set[str], created: int, updated: int) -> None:
    state = view_state(VIEW, metrics, ())
    stored = decode(encode(VIEW.name, state, created=created, updated=updated))
    assert stored is not None
    assert (stored.name, stored.created, stored.state) == (VIEW.name, created, state)
    assert stored.own


def test_a_view_is_packed_as_mlflow_unpacks_it() -> None:
    value = json.loads(encode("name", {"a": 1}, created=1, updated=2))
    assert (value["name"], value["createdAt"], value["updatedAt"]) == ("name", 1, 2)
    head, packed = value["state"].split(";")
    assert head == "deflate"
    assert json.loads(zlib.decompress(base64.b64decode(packed))) == {"a": 1}


@pytest.mark.parametrize("changed", ["state", "name", "segstress"])
def test_a_view_that_somebody_saved_again_is_theirs(changed: str) -> None:
    value = json.loads(encode(VIEW.name, view_state(VIEW, SHOWN, ()), created=1, updated=1))
    other = json.loads(encode("mine", view_state(VIEW, {"more"}, ()), created=1, updated=1))
    theirs = value | {changed: other[changed]}
    stored = decode(json.dumps(theirs))
    assert stored is not None
    assert not stored.own
    # As MLflow's UI writes it: what it does not know is gone.
    del value["segstress"]
    stored = decode(json.dumps(value))
    assert stored is not None
    assert not stored.own


@pytest.mark.parametrize(
    "value",
    ["", "text", "[]", "{}", '{"name": "a", "createdAt": 1, "state": "deflate;!!"}', "null"],
)
def test_what_is_no_view_is_none(value: str) -> None:
    assert decode(value) is None
